#!/usr/bin/env python3
"""examples/minidit's capture.py and finetune.py: training_test.py PROGRAM OPERATOR_FOLDER

OPERATOR_FOLDER, of rehyat_torch.py and its library, may be "", for none.
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy as np

MINIDIT = pathlib.Path(__file__).resolve().parents[2] / "examples" / "minidit"
sys.path.insert(0, str(MINIDIT))
import weights  # noqa: E402

WEIGHTS = MINIDIT / "minidit.safetensors"
ATTENTION = "softmax,hybrid,window,softmax"
program, operator = None, None


def script(name, *arguments):
    return subprocess.run([sys.executable, "-B", MINIDIT / name, *map(str, arguments)], capture_output=True, text=True,
                          timeout=500)


class Training(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        random = np.random.default_rng(3)
        cls.clip = cls.folder / "still.npy"  # the same picture in all frames: soon learned
        np.save(cls.clip, np.repeat(random.standard_normal((1, 432, 64)), 9, 0).astype(np.float16))
        shapes = {"0.weight": (3, 16, 64), "0.bias": (3, 16), "1.weight": (3, 24, 16), "1.bias": (3, 24)}
        cls.phi = cls.folder / "phi{}.safetensors"
        weights.save(str(cls.phi).format(1), {f"{side}.{name}": random.uniform(-0.2, 0.2, shape) for side in ("phi_q", "phi_k")
                               for name, shape in shapes.items()}, {})

    def finetune(self, name, *options):
        """The file written, and the last loss that was printed."""
        out = self.folder / name
        done = script("finetune.py", out, "--weights", WEIGHTS, "--latents", self.clip, "--frames", 7, "--strides", 1, "--grid",
                      "3x4", "--attention", ATTENTION, "--phi", self.phi, "--seed", 5, *options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return out, float(done.stdout.split("loss")[-1].split()[0])

    def test_finetuning_learns_and_repeats(self):
        begun, first = self.finetune("one.safetensors", "--steps", 1)
        out, last = self.finetune("more.safetensors", "--steps", 150, "--learning-rate", 1e-3)
        self.assertLess(last, 0.8 * first)
        tensors, metadata = weights.load(out)
        self.assertEqual(metadata, dict(attention=ATTENTION, grid="18x24", degree="2", activation="gelu",
                                        output_activation="softplus"))
        before, _ = weights.load(begun)
        self.assertEqual(tensors.keys(), before.keys())
        unmoved = {name for name in tensors if np.array_equal(tensors[name], before[name])}
        self.assertEqual(unmoved, set(weights.BASIS))
        again, _ = self.finetune("again.safetensors", "--steps", 1)
        self.assertEqual(again.read_bytes(), begun.read_bytes())
        done = subprocess.run([program, "denoise", "--weights", out, "--latents", self.clip], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(ATTENTION, done.stdout)

    def test_the_operator_gives_the_same_training(self):
        if not operator:
            self.skipTest("the operator of PyTorch is not built")
        options = ["--steps", 3, "--phi-learning-rate", 1e-4]
        plain, _ = self.finetune("plain.safetensors", *options)
        with_operator, _ = self.finetune("operator.safetensors", *options, "--operator", operator)
        expected, begun = weights.load(plain)[0], weights.load(WEIGHTS)[0]
        for name, tensor in weights.load(with_operator)[0].items():
            scale = np.abs(expected[name] - begun[name]).max() if name in begun else 1e-4
            self.assertLessEqual(np.abs(tensor - expected[name]).max(), 0.1 * scale + 1e-3 * np.abs(tensor).max(), name)

    def test_refusals(self):
        def refused(message, *arguments):
            done = script("finetune.py", self.folder / "no.safetensors", "--weights", WEIGHTS, "--latents", self.clip, *arguments)
            self.assertNotEqual(done.returncode, 0)
            self.assertRegex(done.stderr, message)

        refused("weights are missing: b.2.phi_q", "--frames", 7, "--attention", "softmax,softmax,hybrid,softmax")
        refused("expected one of", "--frames", 7, "--attention", "flash")
        refused("still.npy has fewer frames than --frames = 21", "--attention", "window")
        self.assertFalse((self.folder / "no.safetensors").exists())

    def test_capture_is_the_middle_of_all_tokens(self):
        def capture(name, *options):
            done = script("capture.py", self.folder / name, "--weights", WEIGHTS, "--latents", self.clip, "--noise", 0.3, 0.7,
                          "--layers", 1, "--frames", 2, *options)
            self.assertEqual(done.returncode, 0, done.stderr)
            return [np.load(self.folder / name / f"still_n{noise}_l1_{x}.npy") for noise in ("0.3", "0.7") for x in "qkv"]

        whole, part = capture("whole"), capture("part", "--grid", "4x2")
        for all_tokens, some in zip(whole, part):
            self.assertEqual((all_tokens.shape, some.dtype), ((2, 432, 3, 64), np.float16))
            expected = all_tokens.reshape(2, 18, 24, 3, 64)[:, 7:11, 11:13].reshape(2, 8, 3, 64)
            np.testing.assert_array_equal(some, expected)
        for i in range(3):
            self.assertGreater(np.abs(whole[i] - whole[3 + i]).max(), 0.1)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, operator = sys.argv[1:]
    unittest.main(argv=sys.argv[:1])
