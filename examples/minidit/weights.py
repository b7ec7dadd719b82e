#!/usr/bin/env python3
"""Writes a model's weights as one float16 safetensors file.

    weights.py model.npz [more.npz ...] minidit.safetensors [--attention softmax,hybrid,hybrid,softmax]

Arrays of later files replace those of the same name. Named as in model.py's state_dict; b.<l>.phi_q.* and
b.<l>.phi_k.* become layer<l>.phi_q.* and layer<l>.phi_k.*. mu, U and sc are the basis of the patches: latents are
(patch - mu) U sc.
"""
import argparse
import json
import re
import struct
import sys

import numpy as np

BASIS = ("mu", "U", "sc")
TYPES = {"F16": "<f2", "F32": "<f4"}
UNUSED = ("w",)  # the variance of each component, which comes with the basis


def save(path, tensors, metadata):
    """Writes float16 arrays by name, and strings by name."""
    header, blob = {"__metadata__": metadata}, b""
    for name, array in tensors.items():
        half = np.asarray(array).astype("<f2")
        if not np.isfinite(half).all():
            raise ValueError(f"{name} does not fit float16: its largest magnitude is {np.abs(array).max():g}")
        header[name] = dict(dtype="F16", shape=half.shape, data_offsets=[len(blob), len(blob) + half.nbytes])
        blob += half.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + blob)


def load(path):
    """Reads such a file, or one of float32: float32 arrays by name, and the metadata."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        blob = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in TYPES:
            raise ValueError(f"{path}: tensor {name} has dtype {entry['dtype']}; expected one of {', '.join(TYPES)}")
        begin, end = entry["data_offsets"]
        array = np.frombuffer(blob[begin:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = array.astype(np.float32)
    return tensors, metadata


def name_in_file(name):
    return re.sub(r"^b\.(\d+)\.(phi_[qk]\.)", r"layer\1.\2", name)


def name_in_model(name):
    """The opposite of name_in_file: for load_state_dict."""
    return re.sub(r"^layer(\d+)\.(phi_[qk]\.)", r"b.\1.\2", name)


def of_model(tensors):
    """Those that are the model's own, named as in its state_dict."""
    return {name_in_model(name): array for name, array in tensors.items() if name not in BASIS}


def metadata(attention, tensors, grid="18x24", degree="2"):
    """What the file says about its model."""
    about = dict(attention=attention, grid=grid)
    if any(".phi_" in name for name in tensors):
        about.update(degree=degree, activation="gelu", output_activation="softplus")
    return about


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="+", metavar="IN.npz")
    parser.add_argument("output", metavar="OUT.safetensors")
    parser.add_argument("--attention", default="softmax", help="how the layers attend: one name, or one for each layer")
    parser.add_argument("--grid", default="18x24", help="tokens of a frame, height by width (%(default)s)")
    parser.add_argument("--degree", default="2", help="of the feature maps, if there are any (%(default)s)")
    options = parser.parse_args()
    tensors = {}
    for path in options.inputs:
        with np.load(path) as arrays:
            tensors.update({name_in_file(name): arrays[name] for name in arrays.files if name not in UNUSED})
    try:
        save(options.output, tensors, metadata(options.attention, tensors, options.grid, options.degree))
    except ValueError as error:
        sys.exit(f"weights.py: {error}")


if __name__ == "__main__":
    main()
