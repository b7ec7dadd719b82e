#!/usr/bin/env python3
"""Writes an ONNX model of one node rehyat::HybridAttention, with the phi of a safetensors file. Inputs query, key and
value, output: [batch, tokens, heads * dim] in float32. Needs the Python packages onnx and numpy."""
import argparse
import json
import pathlib
import struct

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper


def read_safetensors(path):
    """Float32 tensors by name, and the metadata."""
    data = pathlib.Path(path).read_bytes()
    begin = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:begin])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, entry in header.items():
        first, last = (begin + offset for offset in entry["data_offsets"])
        tensors[name] = numpy.frombuffer(data[first:last], "<f4").reshape(entry["shape"])
    return tensors, metadata


def make_model(tensors, metadata, chunking):
    heads, layers = len(tensors["phi_q.0.bias"]), len(tensors) // 4
    # README begin
    weights = []  # of each layer: phi_q weight and bias, phi_k weight and bias, as a grouped Conv1d has them
    for layer in range(layers):
        for side in ("phi_q", "phi_k"):
            weight, bias = tensors[f"{side}.{layer}.weight"], tensors[f"{side}.{layer}.bias"]
            weights.append((f"{side}.{layer}.weight", weight.reshape(-1, weight.shape[2], 1)))
            weights.append((f"{side}.{layer}.bias", bias.reshape(-1)))
    node = helper.make_node(
        "HybridAttention", ["query", "key", "value"] + [name for name, _ in weights], ["output"], domain="rehyat",
        num_heads=heads, **chunking,  # tokens_per_frame, chunk_frames, overlap_frames
        activation=metadata["activation"], output_activation=metadata["output_activation"],
        degree=int(metadata["degree"]))
    # README end
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "tokens", f"{name}_width"])
    initializers = [numpy_helper.from_array(numpy.ascontiguousarray(array), name) for name, array in weights]
    graph = helper.make_graph([node], "attention", [value(n) for n in ("query", "key", "value")], [value("output")],
                              initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("rehyat", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("phi", help="weights, as rehyat attend --phi takes them")
    parser.add_argument("model", help="the .onnx file to write")
    parser.add_argument("--tokens-per-frame", type=int, required=True)
    parser.add_argument("--chunk-frames", type=int, default=3)
    parser.add_argument("--overlap-frames", type=int, default=1)
    options = parser.parse_args()
    chunking = {name: getattr(options, name) for name in ("tokens_per_frame", "chunk_frames", "overlap_frames")}
    model = make_model(*read_safetensors(options.phi), chunking)
    onnx.checker.check_model(model)
    onnx.save(model, options.model)


if __name__ == "__main__":
    main()
