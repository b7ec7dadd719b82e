#!/usr/bin/env python3
"""What model.py computes on a small random clip, for minidit_test.cpp: make_golden.py [--check]

Writes data/: latents.npy [7 frames, 3 x 4 tokens, 64], phi.safetensors (random feature maps of all four layers) and, for
each of ATTENTION, velocity_<i>.npy. --check compares with what is there instead. The weights are the shipped ones.
"""
import argparse
import pathlib
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
MINIDIT = HERE.parents[1] / "examples" / "minidit"
sys.path.insert(0, str(MINIDIT))
import model  # noqa: E402
import weights  # noqa: E402

FRAMES, HEIGHT, WIDTH, FIRST_FRAME, NOISE_LEVEL = 7, 3, 4, 3, 0.6
ATTENTION = ["softmax", "causal", "window", "hybrid", "softmax,hybrid,window,causal"]


def load(net, path):
    """Replaces the parameters that the file has."""
    arrays = weights.of_model(weights.load(path)[0])
    net.load_state_dict({**net.state_dict(), **{name: torch.from_numpy(array) for name, array in arrays.items()}})


def random_clip():
    return torch.randn(FRAMES, HEIGHT * WIDTH, 64).half()


def random_phi(net):
    """The feature maps' parameters rounded to float16, as a file holds them; the linear branch is not silent."""
    tensors = {}
    for name, parameter in net.named_parameters():
        if ".phi_" in name:
            if name.endswith("1.bias"):
                parameter.data += 2
            parameter.data = parameter.data.half().float()
            tensors[weights.name_in_file(name)] = parameter.data.numpy()
    return tensors


def velocity(net, attention, latents):
    net.set_attention(attention.split(",") if "," in attention else attention)
    clean = torch.zeros(FRAMES, HEIGHT * WIDTH, dtype=torch.bool)
    clean[0] = True
    rope = model.rope_tab(FRAMES, HEIGHT, WIDTH, first_frame=FIRST_FRAME)
    with torch.no_grad():
        out = net(latents.float().reshape(1, -1, 64), torch.tensor([NOISE_LEVEL]), clean.reshape(1, -1), rope)
    return out.reshape(FRAMES, HEIGHT * WIDTH, 64).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    torch.manual_seed(7)
    net = model.VDiT(attention="hybrid", tokens_per_frame=HEIGHT * WIDTH, hidden=16, features=16)
    load(net, MINIDIT / "minidit.safetensors")
    data = HERE / "data"
    if check:
        latents = torch.from_numpy(np.load(data / "latents.npy"))
        load(net, data / "phi.safetensors")
    else:
        latents = random_clip()
        np.save(data / "latents.npy", latents.numpy())
        metadata = dict(degree="2", activation="gelu", output_activation="softplus")
        weights.save(data / "phi.safetensors", random_phi(net), metadata)
    for i, attention in enumerate(ATTENTION):
        result, path = velocity(net, attention, latents), data / f"velocity_{i}.npy"
        if not check:
            np.save(path, result)
            continue
        error = np.abs(result - np.load(path)).max() / np.abs(result).max()
        if not error < 2e-5:
            sys.exit(f"{path}: off by {error:.3g} of the largest element; expected 2e-5 or less")


if __name__ == "__main__":
    main()
