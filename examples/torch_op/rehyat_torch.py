"""Chunked hybrid attention for PyTorch on the CPU: torch.ops.rehyat, a module around it, and the way to safetensors."""
import json
import pathlib
import struct

import torch
from torch import nn

torch.ops.load_library(str(pathlib.Path(__file__).resolve().with_name("librehyat_torch.so")))


def make_phi(heads, widths):
    """The layers of a per-head MLP, grouped 1x1 convolutions: widths are D, hidden ..., F."""
    return nn.ModuleList(
        nn.Conv1d(heads * inputs, heads * outputs, 1, groups=heads) for inputs, outputs in zip(widths, widths[1:]))


def tensors(phi):
    """What torch.ops.rehyat takes as phi_q and phi_k: weight and bias (or None) of each layer."""
    return [tensor for layer in phi for tensor in (layer.weight, layer.bias)]


class HybridAttention(nn.Module):
    """Hybrid attention (ReHyAt) with polynomial feature maps of its own.

    q [batch, heads, tokens, head_dim], k and v [batch, kv_heads, tokens, ...] as scaled_dot_product_attention takes
    them; tokens are frames * tokens_per_frame, frame by frame.
    """

    def __init__(self, heads, head_dim, *, kv_heads=None, hidden=(256,), features=256, degree=2, activation="gelu",
                 output_activation="softplus", chunk_frames=3, overlap_frames=1, stabilizer="row_max", scale=None):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads or heads, head_dim
        widths = [head_dim, *hidden, features]
        self.phi_q, self.phi_k = make_phi(heads, widths), make_phi(self.kv_heads, widths)
        self.settings = dict(chunk_frames=chunk_frames, overlap_frames=overlap_frames, stabilizer=stabilizer,
                             scale=scale, degree=degree, activation=activation, output_activation=output_activation)

    def forward(self, q, k, v, tokens_per_frame, causal=True):
        return torch.ops.rehyat.hybrid_attention(q, k, v, tensors(self.phi_q), tensors(self.phi_k),
                                                 tokens_per_frame=tokens_per_frame, causal=causal, **self.settings)

    def recurrent(self, batch, value_dim, tokens_per_frame):
        """A state for the causal form: step(q, k, v) chunk by chunk; its weights are these, not copies."""
        return torch.classes.rehyat.RecurrentAttention(batch, self.heads, self.kv_heads, self.head_dim, value_dim,
                                                       tensors(self.phi_q), tensors(self.phi_k),
                                                       tokens_per_frame=tokens_per_frame, **self.settings)


def save_phi(path, phi_q, phi_k, degree, activation, output_activation):
    """Writes grouped Conv1d layers as the safetensors file that rehyat::read_feature_maps() and the CLI read."""
    header = {"__metadata__": dict(degree=str(degree), activation=activation, output_activation=output_activation)}
    blob = b""
    for side, layers in (("phi_q", phi_q), ("phi_k", phi_k)):
        for name, tensor in nn.ModuleList(layers).state_dict().items():  # "0.weight", "0.bias", "1.weight", ...
            array = tensor.detach().float().cpu().numpy()
            header[f"{side}.{name}"] = dict(dtype="F32", shape=array.shape,
                                            data_offsets=[len(blob), len(blob) + array.nbytes])
            blob += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + blob)
