"""Bad input: one line, status 2, and nothing is touched."""
import itertools
import os
import pathlib
import platform
import resource
import struct
import subprocess
import unittest

import numpy as np

from cli import support


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


class Refusals(support.CliTest):

    def test_arguments(self):
        good = [*self.clip(), *support.flags(feature_map="elu1")]
        for arguments, says in (
            (["--no-such-option", 3], "--no-such-option"), (["stray"], "stray"),
            (["--schedule", "quadratic"], ("--schedule", "quadratic", "uniform")),
            (["--mode", "fast"], "--mode"), (["--direction", "up"], "--direction"),
            (["--stabilizer", "mean"], "--stabilizer"), (["--arithmetic", "int4"], ("--arithmetic", "int8")),
            (["--storage", "f64"], ("--storage", "bf16")), (["--feature-map", "gelu"], "--feature-map"),
            (["--chunk-frames", 0], "--chunk-frames"), (["--chunk-frames", "two"], "--chunk-frames"),
            (["--chunk-frames", 2.5], "--chunk-frames"), (["--chunk-frames", 10**30], "--chunk-frames"),
            (["--overlap-frames", -1], "--overlap-frames"), (["--frames", 0], "--frames"),
            (["--schedule", "uniform", "--rate", 0], "--rate"), (["--threads", 0], "--threads"),
            (["--repeat", 0], "--repeat"), (["--scale", "nan"], "scale"), (["--scale", "inf"], "scale"),
            (["--scale", "wide"], "--scale"), (["--denominator-epsilon", -1], "denominator_epsilon"),
            (["--denominator-floor", "nan"], "denominator_floor"), (["--isa", "sse9"], ("--isa", "sse9", "expected")),
            (["--q", "again.npy"], "--q"), (["--scale"], "--scale"),
            (["--no\nsuch"], "--no"),
        ):
            with self.subTest(arguments=arguments):
                self.assert_refused(*good, *arguments, says=says)
        for option in ("--q", "--k", "--v"):
            at = good.index(option)
            self.assert_refused(*good[:at], *good[at + 2:], says=option)
        self.assertEqual(support.run("attend", *good).returncode, 2)
        for arguments in ([], ["nothing"], ["--json"], ["attend", "--no-such-option"]):
            done = support.run(*arguments)
            self.assertIn(arguments[-1] if arguments else "subcommand", done.stderr)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertRegex(done.stderr, support.ONE_LINE)

    def test_instruction_sets_that_do_not_run_here(self):
        for isa in set(support.ISAS) - set(support.isas):
            self.assert_refused(*self.clip(), *self.phi, "--isa", isa, says=("--isa", isa))

    def test_arithmetic_that_an_instruction_set_may_lack(self):
        processor = set(pathlib.Path("/proc/cpuinfo").read_text().split())
        if platform.machine() != "aarch64":
            processor |= {"asimddp", "asimdhp"}  # programs for ARM run emulated, and qemu-user has both
        for isa, arithmetic, needed in (
                ("avx2", "int8", "avx_vnni"), ("avx512", "int8", "avx512_vnni"), ("neon", "int8", "asimddp"),
                ("avx512", "float16", "avx512_fp16"), ("neon", "float16", "asimdhp"),
                ("avx2", "float16", None), ("scalar", "float16", None)):
            if isa not in support.isas:
                continue
            arguments = [*self.phi, *support.flags(isa=isa, arithmetic=arithmetic)]
            with self.subTest(isa=isa, arithmetic=arithmetic):
                if needed in processor:
                    self.assertEqual(self.attend(*arguments)[1]["arithmetic"], arithmetic)
                else:
                    self.assert_refused(*self.clip(), *arguments, says=("--arithmetic", arithmetic, isa))

    def test_malformed_files(self):
        whole = self.file("k").read_bytes()
        header = whole[10:128]
        small, huge = b"(7, 6, 2, 8), }" + 18 * b" ", b"(4611686018427387904, 6, 2, 8), }"
        contents = {
            "truncated": whole[:-1], "longer": whole + b"x", "empty": b"", "text": b"frames, tokens\n" * 20,
            "header_alone": whole[:128], "half_a_header": whole[:50],
            "lying_shape": whole.replace(b"(7, 6,", b"(9, 6,"), "huge_shape": whole.replace(small, huge),
            "negative_shape": whole.replace(b"(7, 6,", b"(-7,6,"), "integers": whole.replace(b"<f4", b"<i4"),
            "big_endian": whole.replace(b"<f4", b">f4"), "fortran": whole.replace(b"False", b"True "),
            "no_dictionary": whole.replace(header, b" " * 117 + b"\n"),
        }
        for name, content in contents.items():
            if name not in ("header_alone", "half_a_header"):
                self.assertNotEqual(content, whole, name)
            path = self.folder / f"{name}.npy"
            path.write_bytes(content)
            with self.subTest(name=name):
                clip = self.clip()
                clip[clip.index("--k") + 1] = path
                self.assert_refused(*clip, *self.phi, says=("--k ", ".npy: "))
        for path in ("missing.npy", self.folder, ""):
            self.assert_refused(*support.flags(q=path), *self.clip()[2:], *self.phi, says="--q")

    def test_malformed_weights(self):
        whole = (self.folder / "phi.safetensors").read_bytes()
        contents = {
            "truncated": whole[:-4], "longer": whole + b"1234", "empty": b"", "no_length": whole[:5],
            "long_header": struct.pack("<Q", 2**62) + whole[8:], "no_json": whole[:8] + b"x" + whole[9:],
            "dtype": whole.replace(b'"F32"', b'"I32"'), "offsets": whole.replace(b"[0, 640]", b"[4, 644]"),
            "activation": whole.replace(b"softplus", b"hardplus"), "degree": whole.replace(b'"2"', b'"9"'),
        }
        for name, content in contents.items():
            self.assertNotEqual(content, whole, name)
            path = self.folder / f"{name}.safetensors"
            path.write_bytes(content)
            with self.subTest(name=name):
                self.assert_refused(*self.clip(), "--phi", path, says=("--phi", ".safetensors"))
        self.assert_refused(*self.clip(), "--phi", "missing.safetensors", says="--phi")
        fewer_heads = support.flags(q=self.file("k"), k=self.file("k"), v=self.file("v"))
        self.assert_refused(*fewer_heads, *self.phi, says="--phi")

    def test_shapes(self):
        q, k, v = (self.arrays[name] for name in "qkv")
        numbers = itertools.count()

        def save(array):
            return self.save(f"shape{next(numbers)}", array)

        def files(**changed):
            return support.flags(**{**{name: self.file(name) for name in "qkv"}, **changed})

        rank3 = {name: self.file(name + "_rank3") for name in "qkv"}
        for arguments, says in (
            (files(q=save(q[0, 0])), ("--q", "[4, 8]")), (files(v=save(v[None])), ("--v", "[1, 7, 6, 2, 12]")),
            (files(q=save(q[:0])), ("--q", "[0, 6, 4, 8]")), (files(k=save(k[:, :, :0])), "--k"),
            (files(k=save(k[:5])), ("--k", "7 frames")), (files(v=save(v[:, :5])), ("--v", "42 tokens")),
            (files(k=rank3["k"]), ("--k", "4 dimensions")), (files(k=save(k[..., :7])), ("--k", "8 elements")),
            (files(q=save(q[:, :, :3])), ("--k", "divides the 3")), (files(v=save(v[:, :, :1])), ("--v", "2 heads")),
            (files(q=save(np.zeros((7, 6, 2, 513))), k=save(np.zeros((7, 6, 2, 513)))), ("--q", "512")),
            (files(v=save(np.zeros((7, 6, 2, 600)))), ("--v", "512")),
            ([*files(), "--frames", 6], ("--q", "--frames")), (support.flags(**rank3), ("--q", "--frames")),
            (support.flags(**rank3, frames=5), ("--q", "--frames 5")),
        ):
            with self.subTest(arguments=arguments):
                self.assert_refused(*arguments, *support.flags(feature_map="elu1"), says=says)
        few = save(q.reshape(-1, self.H, self.D)[:6])
        self.assert_refused(*support.flags(**{**rank3, "q": few, "frames": 2, "schedule": "softmax"}), says="--k")
        self.assert_refused(*files(q=save(q[:5])), "--schedule", "softmax", says="--k")

        for side, changed in (("phi_q", self.arrays["phi_q"][:, :, :2]), ("phi_q", self.arrays["phi_q"][:6]),
                              ("phi_k", self.arrays["phi_k"][..., :9]), ("phi_k", self.arrays["phi_q"]),
                              ("phi_q_den", self.arrays["phi_q"][..., :9]), ("phi_k_den", self.arrays["phi_q"])):
            features = {name: self.file(name) for name in ("phi_q", "phi_k", "phi_q_den", "phi_k_den")}
            features[side] = save(changed)
            self.assert_refused(*files(), *support.flags(**features), says="--" + side.replace("_", "-"))

    def test_outputs(self):
        good = [*self.clip(), *self.phi]
        for out in (self.folder, self.folder / "missing" / "out.npy", "", "/dev/null"):
            self.assert_refused(*good, "--out", out, says="--out")

    def test_nothing_half_written(self):
        folder = self.folder / "full"
        folder.mkdir()
        for before in (None, b"before"):
            if before:
                (folder / "out.npy").write_bytes(before)
            done = support.run("attend", *self.clip(), *self.phi, "--out", folder / "out.npy",
                               preexec_fn=limit_file_size)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertRegex(done.stderr, r"\Arehyat: --out [^\n]+\n\Z")
            found = {path.name: path.read_bytes() for path in folder.iterdir()}
            self.assertEqual(found, {"out.npy": before} if before else {})

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_standard_output_is_full(self):
        arguments = [*self.clip(), *self.phi, "--out", self.folder / "full.npy", "--json"]
        with open("/dev/full", "w") as full:
            done = subprocess.run([*support.program, "attend", *map(str, arguments)],
                                  stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, support.ONE_LINE)

    @unittest.skipIf(os.environ.get("REHYAT_SANITIZE"), "a sanitizer ends the program where new would throw")
    def test_states_that_no_memory_holds(self):
        for overlap in (2**40, 2**33):
            options = support.flags(feature_map="elu1", mode="recurrent", overlap_frames=overlap)
            self.assert_refused(*self.clip(), *options, says="bytes of state")
