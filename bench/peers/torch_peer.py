"""The peer PyTorch, exact attention. Answers compare.py as server.hpp says. Arguments: <variant> <operator> <threads>
<folder>, where the variant is composed (of operators, a head after the other, N x N scores) or sdpa (one call)."""

import json
import math
import pathlib
import sys
import time

import numpy
import torch
from torch.nn import functional


def composed(q, k, v):
    """Out of [heads, tokens, head_dim], a head at a time: all at once need heads times the memory."""
    scale = 1 / math.sqrt(q.shape[-1])
    out = torch.empty_like(q)
    for h in range(q.shape[0]):
        torch.matmul(torch.softmax(torch.matmul(q[h] * scale, k[h].T), dim=-1), v[h], out=out[h])
    return out


def sdpa(q, k, v):
    return functional.scaled_dot_product_attention(q[None], k[None], v[None])[0]


def quadratic_bytes(variant, heads, tokens):
    if variant == "composed":
        return 2 * 4 * tokens**2
    flash = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 2)
    return 0 if flash else 2 * 4 * heads * tokens**2


def say(**reply):
    print(json.dumps(reply), flush=True)


def timed(call, *inputs):
    start = time.monotonic()
    out = call(*inputs)
    return time.monotonic() - start, out


def main(variant, operation, threads, folder):
    if operation != "exact":
        raise ValueError(f"torch has no {operation} here")
    if variant == "sdpa" and not hasattr(functional, "scaled_dot_product_attention"):
        raise ValueError(f"PyTorch {torch.__version__} has no scaled_dot_product_attention")
    call = {"composed": composed, "sdpa": sdpa}[variant]
    torch.set_num_threads(int(threads))
    inputs = [torch.from_numpy(numpy.load(pathlib.Path(folder) / f"{name}.npy")) for name in "qkv"]
    say(quadratic_bytes=quadratic_bytes(variant, *inputs[0].shape[:2]))
    for line in map(str.strip, sys.stdin):
        command, _, path = line.partition(" ")
        if command == "quit":
            break
        if command == "prepare":
            say(version=torch.__version__, arithmetic="float32")
        elif command == "run":
            seconds, out = timed(call, *inputs)
            say(seconds=seconds)
        elif command == "write":
            numpy.save(path, out.numpy())
            say()
        else:
            raise ValueError(f"no command here: {line}")


if __name__ == "__main__":
    try:
        with torch.inference_mode():
            main(*sys.argv[1:])
    except (ValueError, RuntimeError, OSError) as error:
        say(error=str(error))
        sys.exit(1)
