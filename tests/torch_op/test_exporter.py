"""save_phi() writes what the command-line program reads."""
import pathlib
import subprocess
import tempfile

import numpy as np
import torch

from torch_op import support


class ExporterTest(support.TorchTest):

    def test_the_program_computes_the_same(self):
        torch.manual_seed(3)
        module = support.rehyat_torch.HybridAttention(4, 8, kv_heads=2, hidden=(7,), features=6, chunk_frames=2,
                                                      activation="silu", output_activation="elu1")
        clip = support.Clip(41, batch=1, dtype=torch.float32)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            support.rehyat_torch.save_phi(folder / "phi.safetensors", module.phi_q, module.phi_k, degree=2,
                                          activation="silu", output_activation="elu1")
            for name in "qkv":  # the program's arrays are [frames, tokens, heads, dim]
                array = getattr(clip, name)[0].transpose(0, 1).reshape(7, 5, -1, getattr(clip, name).shape[3])
                np.save(folder / f"{name}.npy", array.numpy())
            done = subprocess.run([
                *support.program, "attend", "--schedule", "hybrid", "--phi", folder / "phi.safetensors", "--chunk-frames", "2",
                "--out", folder / "out.npy", *(word for name in "qkv" for word in (f"--{name}", folder / f"{name}.npy"))
            ], capture_output=True, text=True, timeout=60)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            out = torch.from_numpy(np.load(folder / "out.npy"))
        with torch.no_grad():
            expected = module(clip.q, clip.k, clip.v, 5)
        self.assert_same_bits(out.reshape(35, 4, 6), expected[0].transpose(0, 1).contiguous())
