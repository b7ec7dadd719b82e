"""The code of examples/torch_op/README.md runs, with little sizes in the place of a model's, and teaches phi something."""
import contextlib
import os
import pathlib
import re
import tempfile

import torch

from torch_op import support

README = pathlib.Path(__file__).resolve().parents[2] / "examples/torch_op/README.md"
HEADS, DIM, TOKENS = 2, 8, 6
SIZES = {"heads=12": f"heads={HEADS}", "head_dim=128": f"head_dim={DIM}", "value_dim=128": f"value_dim={DIM}",
         "tokens_per_frame=600": f"tokens_per_frame={TOKENS}", ", 600)": f", {TOKENS})", "lr=1e-3": "lr=1e-2"}


def clip(frames):
    """q, k and v."""
    return [torch.randn(1, HEADS, frames * TOKENS, DIM) for _ in range(3)]


@contextlib.contextmanager
def inside(folder):
    """Runs the block in another working folder."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


class ReadmeTest(support.TorchTest):

    def test_code(self):
        torch.manual_seed(5)
        q, k, v = clip(12)
        expected = torch.softmax(q @ k.transpose(2, 3) / DIM**0.5, dim=3) @ v
        names = {"torch": torch, "clips": [(q, k, v, expected)]}
        text = README.read_text(encoding="utf-8")
        for size, little in SIZES.items():
            self.assertIn(size, text)
            text = text.replace(size, little)
        module, training, streaming = re.findall(r"```python\n(.*?)```", text, re.S)

        names.update(zip("qkv", clip(3)))
        exec(module, names)  # pylint: disable=exec-used
        self.assertEqual(names["out"].shape, names["q"].shape)
        with tempfile.TemporaryDirectory() as folder, inside(folder):
            losses = []
            for _ in range(20):
                exec(training, names)  # pylint: disable=exec-used
                losses.append(float(names["loss"]))
            self.assertTrue(pathlib.Path("phi.safetensors").is_file())
        self.assertLess(losses[-1], 0.9 * losses[0])

        names.update(zip("qkv", clip(3)))
        exec(streaming, names)  # pylint: disable=exec-used
        with torch.no_grad():
            one_shot = names["attention"](names["q"], names["k"], names["v"], TOKENS)
        self.assert_same_bits(names["out"], one_shot)
