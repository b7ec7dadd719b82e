"""A clip over several runs: --state-in, --state-out, and the format of the files between them."""
import struct

import numpy as np

from cli import support
from cli.state_format import StateFile, crc64


class States(support.CliTest):

    def part(self, begin, end, names, rank3=False):
        """Options with frames [begin, end) of the clip."""
        flat = (end - begin) * self.M
        arrays = {name: self.arrays[name][begin:end] for name in names}
        options = {name: self.save(f"{name}_{begin}_{end}_{rank3}", a.reshape(flat, *a.shape[2:]) if rank3 else a)
                   for name, a in arrays.items()}
        return support.flags(**options, **({"frames": end - begin} if rank3 else {}))

    def run_in_parts(self, cuts, *options, names=("q", "k", "v"), rank3=False, more=lambda i: []):
        """The outputs of all runs, one after another, and the reports. One state file serves all."""
        state, outputs, reports = self.folder / "clip.state", [], []
        for i, (begin, end) in enumerate(zip([0, *cuts], [*cuts, self.T])):
            states = ["--state-in", state] if begin else []
            states += ["--state-out", state] if end < self.T else []
            out, report = self.attend(*options, *states, *more(i), clip=self.part(begin, end, names, rank3))
            outputs.append(out)
            reports.append(report)
        state.unlink()
        return np.concatenate(outputs), reports

    def test_three_runs_equal_one_to_the_bit(self):
        given = ("q", "k", "v", "phi_q", "phi_k")
        for names, features in ((("q", "k", "v"), self.phi), (("q", "k", "v"), support.flags(feature_map="relu")),
                                (given, []), ((*given, "phi_q_den", "phi_k_den"), [])):
            for cuts, options in (([3, 6], dict()), ([2, 4], dict(chunk_frames=2, overlap_frames=3)),
                                  ([1, 5], dict(chunk_frames=1, overlap_frames=0, stabilizer="none")),
                                  ([4, 6], dict(chunk_frames=2, overlap_frames=9, scale=0.25)),
                                  ([2, 6], dict(schedule="linear", chunk_frames=2, denominator_epsilon=0.5))):
                options = [*features, *support.flags(**options)]
                with self.subTest(options=options, names=names, cuts=cuts):
                    whole, report = self.attend(*options, clip=self.part(0, self.T, names))
                    parts, reports = self.run_in_parts(cuts, *options, names=names)
                    self.assertEqual(parts.tobytes(), whole.tobytes())
                    self.assertEqual([r.get("frames_before") for r in reports], [None, *cuts])
                    self.assertEqual({r["mode"] for r in reports}, {"recurrent"})
                    self.assertEqual(min(r["min_denominator"] for r in reports), report["min_denominator"])
                    work = sum(r["gflops"] * r["seconds"] for r in reports)
                    self.assertAlmostEqual(work / (report["gflops"] * report["seconds"]), 1, places=6)

    def test_runs_may_differ_in_what_does_not_matter(self):
        whole, _ = self.attend(*self.phi)
        parts, _ = self.run_in_parts([3, 6], *self.phi, rank3=True,
                                     more=lambda i: support.flags(threads=1 + i, repeat=3 - i, mode="recurrent"))
        self.assertEqual(parts.tobytes(), whole.tobytes())

    def test_the_same_frames_give_the_same_file(self):
        one, two = self.folder / "one.state", self.folder / "two.state"
        self.attend(*self.phi, "--state-out", one, clip=self.part(0, 6, "qkv"))
        self.attend(*self.phi, "--state-out", two, *support.flags(threads=2, repeat=2), clip=self.part(0, 3, "qkv"))
        self.assertEqual(one.stat().st_size, two.stat().st_size)
        self.assertNotEqual(one.read_bytes(), two.read_bytes())
        before = two.read_bytes()
        self.attend(*self.phi, "--state-in", two, "--state-out", one, clip=self.part(3, 6, "qkv"))
        self.assertEqual(two.read_bytes(), before)
        self.attend(*self.phi, "--state-out", two, clip=self.part(0, 6, "qkv"))
        self.assertEqual(one.read_bytes(), two.read_bytes())

    def test_a_stranger_can_read_the_file(self):
        path = self.folder / "read.state"
        self.attend(*support.flags(feature_map="relu", state_out=path, chunk_frames=2, overlap_frames=3),
                    clip=self.part(0, 6, "qkv"))
        s = StateFile(path.read_bytes())
        self.assertEqual((s.magic, s.byte_order, s.version, s.length), (b"\x89rehyat\n", 0x01020304, 1, len(s.data)))
        self.assertEqual((s.entries, s.tail_type, s.schedule, s.separate_denominator, s.stabilizer), (1, 0, 0, 0, 0))
        self.assertEqual((s.heads, s.kv_heads, s.head_dim, s.value_dim, s.feature_dim),
                         (self.H, self.HKV, self.D, self.DV, self.D))
        self.assertEqual((s.tokens_per_frame, s.chunk_frames, s.overlap_frames), (self.M, 2, 3))
        self.assertEqual((s.scale, s.epsilon, s.floor), (1 / np.sqrt(self.D), 0, 0))
        relu = crc64(struct.pack("<qq", 1, 1))
        self.assertEqual((s.phi_q, s.phi_k, s.checksum), (relu, relu, crc64(s.data[:-8])))
        self.assertEqual((s.frames_seen, s.finished, s.at), (6, 0, len(s.data) - 8))

        tail_k, tail_v = (self.arrays[name][3:6].reshape(3 * self.M, self.HKV, -1).swapaxes(0, 1) for name in "kv")
        self.assertEqual((s.k.tobytes(), s.v.tobytes()), (tail_k.tobytes(), tail_v.tobytes()))
        k, v = (self.arrays[name][:3].astype(float) for name in "kv")
        np.testing.assert_allclose(s.a, np.einsum("tmhf,tmhd->hfd", np.maximum(k, 0), v), rtol=0, atol=1e-5)
        np.testing.assert_allclose(s.z, np.maximum(k, 0).sum(axis=(0, 1)), rtol=1e-6)

    def test_the_report_for_people(self):
        path = self.folder / "text.state"
        for states, says in ((["--state-out", path], "recurrent"), (["--state-in", path], "after 3 frames")):
            done = support.run("attend", *self.part(0, 3, "qkv"), *self.phi, *states, "--out", self.folder / "text.npy")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn(says, done.stdout)

    def test_compare_runs_with_states(self):
        first, state = self.folder / "first.npy", self.folder / "compare.state"
        np.save(first, self.attend(*self.phi, clip=self.part(0, 6, "qkv"))[0][3:])
        self.attend(*self.phi, "--state-out", state, clip=self.part(0, 3, "qkv"))
        done = support.run("compare", first, *self.part(3, 6, "qkv"), *self.phi, "--state-in", state,
                           "--state-out", state)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"all +0\.0000e\+00 +0\.0000e\+00")
        self.assertEqual(StateFile(state.read_bytes()).frames_seen, 6)
