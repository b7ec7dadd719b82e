#!/usr/bin/env python3
"""Writes q, k and v of the model's layers, which `rehyat distill` and `rehyat tune` learn from.

    capture.py OUT_FOLDER --weights minidit.safetensors --latents vtest.npy --noise 0.3 0.7 --layers 1 2

One clip of --frames frames from each file of latents and for each noise level, begun where --seed says; frame 0 is given clean. Files
are OUT_FOLDER/<latents>_n<noise>_l<layer>_{q,k,v}.npy, float16 [frames, tokens, heads, 64]: as they enter attention,
after RMS norm and rotary embedding, q unscaled. --grid keeps a part of the tokens of a frame, rows by columns,
from its middle (the model still sees all of them). Prints the error of the x_0 that the model predicts.
"""
import argparse
import pathlib
import sys

import numpy as np
import torch

import weights
from model import HEAD_DIM, VDiT, noised, rope_tab

ROWS, COLUMNS = 18, 24  # tokens of a frame


def middle(tensor, grid):
    """[heads, frames * ROWS * COLUMNS, D] to [frames, rows * columns, heads, D] of the middle of each frame."""
    rows, columns = grid
    x = tensor.view(tensor.shape[0], -1, ROWS, COLUMNS, HEAD_DIM)
    top, left = (ROWS - rows) // 2, (COLUMNS - columns) // 2
    x = x[:, :, top:top + rows, left:left + columns].flatten(2, 3)
    return x.permute(1, 2, 0, 3).contiguous().numpy().astype(np.float16)


def grid(text):
    rows, columns = (int(part) for part in text.split("x"))
    if not (0 < rows <= ROWS and 0 < columns <= COLUMNS):
        raise ValueError
    return rows, columns


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--latents", nargs="+", required=True, type=pathlib.Path, help="of latents.py")
    parser.add_argument("--noise", nargs="+", type=float, default=[0.7])
    parser.add_argument("--layers", nargs="+", type=int, default=[0, 1, 2, 3])
    parser.add_argument("--frames", type=int, default=21)
    parser.add_argument("--stride", type=int, default=1, help="every how many-th frame (%(default)s)")
    parser.add_argument("--grid", type=grid, default=(ROWS, COLUMNS), help=f"at most, and by default, {ROWS}x{COLUMNS}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("out", type=pathlib.Path, metavar="OUT_FOLDER")
    return parser.parse_args()


def main():
    options = parse()
    tensors, metadata = weights.load(options.weights)
    model = VDiT(attention=metadata["attention"], tokens_per_frame=ROWS * COLUMNS)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.of_model(tensors).items()})
    if not set(options.layers) <= set(range(len(model.b))):
        sys.exit(f"capture.py: layers are {options.layers}; expected numbers from 0 to {len(model.b) - 1}")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_grad_enabled(False)
    for number, (path, t) in enumerate((path, t) for path in options.latents for t in options.noise):
        latents = np.load(path, mmap_mode="r")
        span = (options.frames - 1) * options.stride + 1
        if len(latents) < span:
            sys.exit(f"capture.py: {path} has {len(latents)} frames; expected {span} at least")
        begin = int(np.random.default_rng([options.seed, number]).integers(len(latents) - span + 1))
        clip = latents[begin:begin + span:options.stride].astype(np.float32).reshape(1, -1, latents.shape[2])
        x0 = torch.from_numpy(clip)
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(options.seed + number))
        xt, clean = noised(x0, noise, t, ROWS * COLUMNS)
        tap = []
        velocity = model(xt, torch.tensor([t]), clean, rope_tab(options.frames, ROWS, COLUMNS), tap)
        error = (xt + t * velocity - x0)[~clean].square().mean()
        print(f"{path.stem}, frames from {begin} on, noise {t:g}: x0 mse {error:.4f}")
        for layer in options.layers:
            for letter, tensor in zip("qkv", tap[layer]):
                np.save(options.out / f"{path.stem}_n{t:g}_l{layer}_{letter}.npy", middle(tensor[0], options.grid))


if __name__ == "__main__":
    main()
