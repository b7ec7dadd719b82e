"""States that are not continued, and runs that leave none."""
import resource

from cli import support
from cli.state_format import forged


class StateRefusals(support.CliTest):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.start = support.flags(**{name: cls.save(name + "_start", cls.arrays[name][:6]) for name in "qkv"})
        cls.end = support.flags(**{name: cls.save(name + "_end", cls.arrays[name][6:]) for name in "qkv"})
        cls.state = cls.folder / "good.state"
        done = support.run("attend", *cls.start, "--phi", cls.folder / "phi.safetensors", "--state-out", cls.state,
                           "--out", cls.folder / "start.npy")
        assert done.returncode == 0, done.stderr

    def state_with(self, content):
        path = self.folder / "bad.state"
        path.write_bytes(content)
        return path

    def test_runs_that_end_inside_a_chunk(self):
        for frames, chunk_frames in ((7, 3), (6, 4), (1, 2)):
            clip = support.flags(**{name: self.save(f"{name}_short", self.arrays[name][:frames]) for name in "qkv"})
            options = support.flags(chunk_frames=chunk_frames, state_out=self.folder / "no.state")
            self.assert_refused(*clip, *self.phi, *options,
                                says=("--q ", f"{frames} frames", f"multiple of the {chunk_frames} ", "--state-out"))
        self.assertFalse((self.folder / "no.state").exists())

    def test_clips_that_have_ended(self):
        good = self.state.read_bytes()
        ended = forged(forged(good, 144, "<q", 7), 152, "<q", 1)
        self.assert_refused(*self.end, *self.phi, "--state-in", self.state_with(ended),
                            says=("--state-in ", "bad.state: ", "7 frames", "fewer than 3"))

    def test_other_configurations(self):
        other = self.folder / "other.safetensors"
        content = bytearray((self.folder / "phi.safetensors").read_bytes())
        content[-1] ^= 1
        other.write_bytes(content)
        one_head = support.flags(**{name: self.save(name + "_head", self.arrays[name][6:, :, :1]) for name in "kv"})
        narrow = self.save("v_narrow", self.arrays["v"][6:, ..., :3])
        halves = support.flags(**{name: self.save(name + "_half", self.arrays[name][6:, :3]) for name in "qkv"})
        for clip, options, says in (
            (self.end, support.flags(phi=other), "hash of phi_k"),
            (self.end, support.flags(feature_map="elu1"), ("feature_dim is 10", "expected 8")),
            (self.end, [*self.phi, "--chunk-frames", 2], ("chunk_frames is 3", "expected 2")),
            (self.end, [*self.phi, "--overlap-frames", 2], ("overlap_frames is 1", "expected 2")),
            (self.end, [*self.phi, "--schedule", "linear"], "schedule"),
            (self.end, [*self.phi, "--stabilizer", "none"], "stabilizer"),
            (self.end, [*self.phi, "--scale", 0.5], ("scale is 0.3535", "expected 0.5")),
            (self.end, [*self.phi, "--denominator-epsilon", 0.5], "denominator_epsilon is 0, expected 0.5"),
            (self.end, [*self.phi, "--denominator-floor", 2], "denominator_floor is 0, expected 2"),
            ([*self.end[:2], *one_head], support.flags(feature_map="elu1"), ("kv_heads is 2", "expected 1")),
            ([*self.end[:4], "--v", narrow], self.phi, ("value_dim is 12", "expected 3")),
            (halves, self.phi, ("tokens_per_frame is 6", "expected 3")),
        ):
            with self.subTest(options=options):
                words = ("--state-in ", "good.state: ", *([says] if isinstance(says, str) else says))
                self.assert_refused(*clip, *options, "--state-in", self.state, says=words)

    def test_files_that_are_no_state(self):
        good = self.state.read_bytes()
        two = forged(good[:-8] + good[144:], 24, "<q", 2)
        for content, says in ((b"", "magic"), (good[:-1], "truncated"), (good + b"x", "trailing"),
                              (good[:300] + bytes([good[300] ^ 4]) + good[301:], "checksum"),
                              (self.file("k").read_bytes(), "magic"), (forged(good, 12, "<I", 2), "newer"),
                              (forged(two, 16, "<Q", len(two)), "entries is 2, expected 1")):
            with self.subTest(says=says):
                self.assert_refused(*self.end, *self.phi, "--state-in", self.state_with(content),
                                    says=("--state-in ", "bad.state: ", says))
        for path in ("missing.state", self.folder, ""):
            self.assert_refused(*self.end, *self.phi, "--state-in", path, says="--state-in")

    def test_options(self):
        state = support.flags(state_out=self.folder / "no.state")
        for options, says in (([*self.phi, "--mode", "oneshot"], "--mode oneshot"),
                              (["--schedule", "softmax"], "--schedule softmax"),
                              ([*self.phi, "--direction", "bidirectional"], "--direction bidirectional"),
                              (support.flags(schedule="uniform", rate=2, feature_map="elu1"), "--schedule uniform")):
            for files in (state, ["--state-in", self.state]):
                self.assert_refused(*self.start, *options, *files, says=(files[0], says))
        for path in (self.folder, self.folder / "missing" / "a.state", "", "/dev/null"):
            self.assert_refused(*self.start, *self.phi, "--state-out", path, says="--state-out")
        out = self.folder / "refused" / "out.npy"
        for option in ("--state-in", "--state-out"):
            same = self.folder / "refused" / ".." / "refused" / "out.npy"
            self.assert_refused(*self.start, *self.phi, "--out", out, option, same, says=("--out ", option))

    def test_nothing_half_written(self):
        """Whichever of the two files is too large, neither is replaced."""
        clip = support.flags(**{name: self.save(name + "_chunk", self.arrays[name][:3]) for name in "qkv"})
        folder = self.folder / "full"
        folder.mkdir()
        out, state = folder / "out.npy", folder / "next.state"
        arguments = ("attend", *clip, *self.phi, "--out", out, "--state-out", state)
        self.assertEqual(support.run(*arguments, "--overlap-frames", 1).returncode, 0)
        small, large = out.stat().st_size, state.stat().st_size
        self.assertLess(large, small)
        self.assertEqual(support.run(*arguments, "--overlap-frames", 90).returncode, 0)
        self.assertGreater(state.stat().st_size, small)
        for overlap, room, option in ((1, small - 1, "--out "), (90, small, "--state-out ")):
            for before in (None, b"before"):
                for path in (out, state):
                    path.unlink(missing_ok=True)
                    if before:
                        path.write_bytes(before)
                done = support.run(*arguments, "--overlap-frames", overlap,
                                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)))
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertRegex(done.stderr, rf"\Arehyat: {option}[^\n]+\n\Z")
                found = {path.name: path.read_bytes() for path in folder.iterdir()}
                self.assertEqual(found, {"out.npy": before, "next.state": before} if before else {})
