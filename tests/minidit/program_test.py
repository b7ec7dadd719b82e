#!/usr/bin/env python3
"""The program of examples/minidit, and its scripts: program_test.py COMMAND..."""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy as np

MINIDIT = pathlib.Path(__file__).resolve().parents[2] / "examples" / "minidit"
sys.path.insert(0, str(MINIDIT))
import latents  # noqa: E402
import weights  # noqa: E402

WEIGHTS = MINIDIT / "minidit.safetensors"
program = []  # the command


def run(*arguments):
    return subprocess.run([*program, *map(str, arguments)], capture_output=True, text=True, timeout=1000)


class Minidit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.clip = cls.folder / "clip.npy"
        np.save(cls.clip, np.random.default_rng(1).standard_normal((4, 432, 64)).astype(np.float16))

    def refused(self, message, *arguments):
        result = run(*arguments)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertRegex(result.stderr, rf"\Aminidit: .*{message}.*\n\Z")

    def test_denoise_reports_every_case(self):
        arguments = ["denoise", "--weights", WEIGHTS, "--latents", self.clip, "--noise", 0.3, 0.9, "--threads", 2]
        result = run(*arguments, "--json", "--attention", "softmax", "causal", "softmax,window,causal,softmax")
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = json.loads(result.stdout)["rows"]
        cases = [(row["attention"], round(row["noise_level"], 3)) for row in rows]
        names = ["softmax", "causal", "softmax,window,causal,softmax"]
        self.assertEqual(cases, [(name, noise) for name in names for noise in (0.3, 0.9)])
        # Of a clip of noise, x_0 and the noise each have a mean square of 1.
        for row in rows:
            self.assertAlmostEqual(row["noisy_mse"], 2 * row["noise_level"] ** 2, delta=0.03 * row["noisy_mse"])
            self.assertTrue(0.1 < row["x0_mse"] < 3, row)
        self.assertEqual(len({row["x0_mse"] for row in rows}), len(rows))
        table = run(*arguments)
        self.assertEqual(table.stdout.count("\n"), 1 + 2)
        for row in rows[:2]:  # softmax, as the weights say
            self.assertIn(f"{row['x0_mse']:.4f}", table.stdout)

    def test_sample_writes_pictures_in_constant_memory(self):
        out = self.folder / "video.ppm"
        arguments = ["sample", "--weights", WEIGHTS, "--latents", self.clip, "--attention", "window", "--frames", 8,
                     "--steps", 1, "--out", out]
        result = run(*arguments, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(len(report["state_bytes_after_chunk"]), 3)
        self.assertEqual(report["state_bytes_after_chunk"], [4 * 2 * 432 * 192 * 4] * 3)
        video = out.read_bytes()
        header, size = b"P6\n384 288\n255\n", 384 * 288 * 3
        self.assertEqual(len(video), 8 * (len(header) + size))
        given = np.frombuffer(video[len(header):len(header) + size], np.uint8).reshape(1, 288, 384, 3)
        basis, _ = weights.load(WEIGHTS)
        clip = np.load(self.clip).astype(np.float32)[0]
        patches = (clip / basis["sc"] @ basis["U"].T + basis["mu"] + 1) * 127.5
        pixels = patches.clip(0, 255).reshape(18, 24, 16, 16, 3).transpose(0, 2, 1, 3, 4).reshape(288, 384, 3)
        self.assertLess(np.abs(pixels - given[0]).max(), 0.51)
        first = video
        self.assertEqual(run(*arguments, "--threads", 2).returncode, 0)
        self.assertEqual(out.read_bytes(), first)

    def test_refusals(self):
        denoise = ["denoise", "--weights", WEIGHTS, "--latents", self.clip]
        sample = ["sample", "--weights", WEIGHTS, "--latents", self.clip, "--out", self.folder / "x.ppm"]
        self.refused("attention 'flash' names 'flash'; expected softmax, causal, window or hybrid", *denoise, "--attention",
                     "flash")
        self.refused("minidit.safetensors .layer0.*: lacks", *denoise, "--attention", "hybrid")
        self.refused("attention softmax sees frames to come", *sample)
        self.refused("--noise", *denoise, "--noise", 0)
        self.refused("a context of 5 frames; expected two chunks, 6, or more, or 0", *sample, "--attention", "window",
                     "--context-frames", 5)
        np.save(self.folder / "bad.npy", np.zeros((2, 12, 64), np.float32))
        self.refused(r"shape \[2, 12, 64\]; expected \[2 or more frames, 432 tokens, 64 channels\]", "denoise", "--weights",
                     WEIGHTS, "--latents", self.folder / "bad.npy")
        self.refused("/nowhere/x.ppm: cannot be written", *sample[:-1], "/nowhere/x.ppm", "--attention", "window")


class Scripts(unittest.TestCase):
    def test_weights_are_what_the_script_writes(self):
        tensors, metadata = weights.load(WEIGHTS)
        self.assertEqual(metadata, dict(attention="softmax", grid="18x24"))
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            np.savez(folder / "a.npz", **tensors)
            phi = np.ones((3, 4, 64), np.float32)
            np.savez(folder / "b.npz", **{"b.2.phi_q.0.weight": phi})
            command = [sys.executable, "-B", MINIDIT / "weights.py", folder / "a.npz"]
            subprocess.run([*command, folder / "again.safetensors"], check=True)
            self.assertEqual((folder / "again.safetensors").read_bytes(), WEIGHTS.read_bytes())
            subprocess.run([*command, folder / "b.npz", folder / "more.safetensors", "--attention", "causal"], check=True)
            more, metadata = weights.load(folder / "more.safetensors")
            self.assertEqual(metadata["attention"], "causal")
            np.testing.assert_array_equal(more["layer2.phi_q.0.weight"], phi)
            self.assertIn("b.2.phi_q.0.weight", weights.of_model(more))

    def test_latents_are_patches_in_the_basis(self):
        basis, _ = weights.load(WEIGHTS)
        coefficients = np.random.default_rng(2).uniform(-0.2, 0.2, (1, 432, 64)).astype(np.float32)
        patches = coefficients / basis["sc"] @ basis["U"].T + basis["mu"]
        pixels = ((patches + 1) * 127.5).reshape(1, 18, 24, 16, 16, 3).transpose(0, 1, 3, 2, 4, 5).reshape(1, 288, 384, 3)
        np.testing.assert_allclose(latents.encode(pixels, basis), coefficients, atol=3e-3)

    def test_latents_of_training_and_held_out_frames_are_apart(self):
        for name, first, last in (("vtest", 640, 680), ("box", 636, 656)):
            training, held_out = (latents.selected(np.arange(795), name, argparse.Namespace(training=training, frames=21))
                                  for training in (True, False))
            self.assertEqual((training[0], training[-1], len(training)), (0, 635, 636))
            self.assertEqual((held_out[0], held_out[-1], len(held_out)), (first, last, 21))


if __name__ == "__main__":
    if len(sys.argv) < 2 or re.match("-", sys.argv[1]):
        sys.exit(__doc__)
    program[:] = sys.argv[1:]
    unittest.main(argv=sys.argv[:1])
