#!/usr/bin/env python3
"""Writes phi.safetensors, polynomial feature maps for vtest_l2_*.npy: make_phi.py OUTPUT.

Random weights, always the same: 3 heads of 64, two layers, 64 hidden units, 64 features of degree 2, gelu between the
layers, softplus after the last, whose bias of -4 keeps the linear branch nearly silent until weights are distilled.
"""
import json
import struct
import sys

import numpy as np

HEADS, HEAD_DIM, HIDDEN, FEATURES = 3, 64, 64, 64
METADATA = dict(degree="2", activation="gelu", output_activation="softplus")


def draw_tensors(rng):
    tensors = {}
    for side in ("phi_q", "phi_k"):
        for layer, (width, inputs, bias) in enumerate(((HIDDEN, HEAD_DIM, 0.0), (FEATURES, HIDDEN, -4.0))):
            weight = rng.standard_normal((HEADS, width, inputs)) / np.sqrt(inputs)
            tensors[f"{side}.{layer}.weight"] = weight.astype("<f4")
            tensors[f"{side}.{layer}.bias"] = np.full((HEADS, width), bias, "<f4")
    return tensors


def save_safetensors(path, tensors, metadata):
    header, blob = {"__metadata__": metadata}, b""
    for name, array in tensors.items():
        header[name] = dict(dtype="F32", shape=array.shape, data_offsets=[len(blob), len(blob) + array.nbytes])
        blob += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + blob)


if __name__ == "__main__":
    save_safetensors(sys.argv[1], draw_tensors(np.random.default_rng(64)), METADATA)
