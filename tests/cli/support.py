"""What the tests of the command-line program share: how it is called, and a small clip."""
import json
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest

import numpy as np

TESTS = pathlib.Path(__file__).resolve().parent.parent
ISAS = ("scalar", "avx2", "avx512", "neon")
ONE_LINE = r"\Arehyat: [^\n]+\n\Z"

# Set by cli_test.py.
program = []  # the command
golden_cases = TESTS / "data" / "golden"
isas = []  # those that run here


def run(*arguments, timeout=60, **options):
    return subprocess.run([*program, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, **options)


def is_available(isa):
    return "--isa" not in run("attend", "--q", "x", "--k", "x", "--v", "x", "--out", "x", "--schedule", "softmax",
                              "--isa", isa).stderr


def flags(**options):
    """flags(phi_q="a", json=True) is ["--phi-q", "a", "--json"]."""
    words = []
    for name, value in options.items():
        words.append("--" + name.replace("_", "-"))
        if value is not True:
            words.append(str(value))
    return words


def as_bfloat16(array):
    """float32 with what bfloat16 keeps of it, to nearest even."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def save_safetensors(path, tensors, metadata):
    header, blob = {"__metadata__": metadata}, b""
    for name, array in tensors.items():
        array = np.ascontiguousarray(array, dtype="<f4")
        header[name] = dict(dtype="F32", shape=array.shape, data_offsets=[len(blob), len(blob) + array.nbytes])
        blob += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + blob)


class CliTest(unittest.TestCase):
    """A folder with a small clip: 7 frames of 6 tokens, 4 query heads and 2 kv heads of 8, values 12 wide."""

    T, M, H, HKV, D, DV, F = 7, 6, 4, 2, 8, 12, 10

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        rng = np.random.default_rng(1)
        cls.arrays = {
            name: rng.standard_normal((cls.T, cls.M, heads, dim)).astype(np.float32)
            for name, heads, dim in (("q", cls.H, cls.D), ("k", cls.HKV, cls.D), ("v", cls.HKV, cls.DV),
                                     ("phi_q", cls.H, cls.F), ("phi_k", cls.HKV, cls.F),
                                     ("phi_q_den", cls.H, cls.F), ("phi_k_den", cls.HKV, cls.F))
        }
        for name, array in cls.arrays.items():
            if name.startswith("phi"):
                array[...] = np.abs(array)
            cls.save(name, array)
            cls.save(name + "_rank3", array.reshape(cls.T * cls.M, *array.shape[2:]))
        save_safetensors(
            cls.folder / "phi.safetensors", {
                f"{side}.{layer}.{kind}": rng.standard_normal((heads, rows) + ((columns,) if kind == "weight" else ()))
                for side, heads in (("phi_q", cls.H), ("phi_k", cls.HKV))
                for layer, rows, columns in ((0, 5, cls.D), (1, cls.F, 5)) for kind in ("weight", "bias")
            }, dict(degree="2", activation="gelu", output_activation="softplus"))

    @classmethod
    def save(cls, name, array):
        np.save(cls.folder / f"{name}.npy", array)
        return cls.file(name)

    @classmethod
    def file(cls, name):
        return cls.folder / f"{name}.npy"

    def clip(self, suffix=""):
        return flags(**{name: self.file(name + suffix) for name in "qkv"})

    @property
    def phi(self):
        return flags(phi=self.folder / "phi.safetensors")

    def given(self, *names):
        return flags(**{name: self.file(name) for name in names})

    def attend(self, *arguments, clip=None):
        """The result, and the JSON object."""
        out = self.folder / "accepted.npy"
        done = run("attend", *(self.clip() if clip is None else clip), "--out", out, "--json", *arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""), arguments)
        array = np.load(out)
        self.assertEqual(array.dtype, np.float32)
        out.unlink()
        return array, json.loads(done.stdout)

    def assert_refused(self, *arguments, says=(), command="attend"):
        """Status 2, one line that has all the words of `says`, and the folder of --out is as it was."""
        folder = self.folder / "refused"
        folder.mkdir(exist_ok=True)
        (folder / "out.npy").write_bytes(b"what was here before")
        out = ["--out", folder / "out.npy"] if command == "attend" and "--out" not in arguments else []
        done = run(command, *arguments, *out)
        self.assertEqual(done.returncode, 2, (arguments, done.stderr))
        self.assertEqual(done.stdout, "")
        self.assertRegex(done.stderr, ONE_LINE)
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, done.stderr)
        self.assertEqual([path.name for path in folder.iterdir()], ["out.npy"])
        self.assertEqual((folder / "out.npy").read_bytes(), b"what was here before")

    def assert_same_bits(self, a, b):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))
