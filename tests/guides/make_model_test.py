#!/usr/bin/env python3
"""The model that examples/onnxruntime_op/make_model.py writes has the node that the operator reads, and phi's weights as a
grouped Conv1d has them: make_model_test.py REPOSITORY"""
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
from onnx import numpy_helper

examples = pathlib.Path(sys.argv[1]) / "examples"
phi = examples / "data" / "phi.safetensors"  # 3 heads: 64 -> 128 -> 512
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "model.onnx"
    subprocess.run([sys.executable, "-B", examples / "onnxruntime_op" / "make_model.py", phi, path,
                    "--tokens-per-frame", "432"], check=True)
    model = onnx.load(path)

(node,) = model.graph.node
attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
assert (node.domain, node.op_type) == ("rehyat", "HybridAttention"), node
assert attributes == dict(num_heads=3, tokens_per_frame=432, chunk_frames=3, overlap_frames=1, activation=b"gelu",
                          output_activation=b"softplus", degree=2), attributes
names = [f"{side}.{layer}.{kind}" for layer in (0, 1) for side in ("phi_q", "phi_k") for kind in ("weight", "bias")]
assert list(node.input) == ["query", "key", "value"] + names, node.input

arrays = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
for name in names:
    inputs, outputs = (64, 128) if ".0." in name else (128, 512)
    expected = (3 * outputs, inputs, 1) if name.endswith("weight") else (3 * outputs,)
    assert arrays[name].shape == expected, (name, arrays[name].shape)
stored = b"".join(arrays[f"{side}.{layer}.{kind}"].tobytes() for side in ("phi_q", "phi_k") for layer in (0, 1)
                  for kind in ("weight", "bias"))
assert phi.read_bytes().endswith(stored)
assert all(numpy.isfinite(a).all() for a in arrays.values())
print("1 passed, 0 failed")
