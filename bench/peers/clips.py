"""The clips that the peers run on: geometry, and a folder with the inputs that every peer reads."""

import dataclasses
import json
import math
import re

import numpy


@dataclasses.dataclass(frozen=True)
class Clip:
    frames: int
    height: int
    width: int
    heads: int
    head_dim: int
    chunk_frames: int
    overlap_frames: int
    hidden: int  # width of both of phi's layers

    @property
    def name(self):
        """As in bench/shapes.hpp."""
        return f"{self.frames}x{self.height}x{self.width}_{self.heads}x{self.head_dim}"

    @property
    def tokens_per_frame(self):
        return self.height * self.width

    @property
    def tokens(self):
        return self.frames * self.tokens_per_frame

    def softmax_frames(self):
        """The softmax keys of every chunk: pairs [first frame, end)."""
        starts = range(0, self.frames, self.chunk_frames)
        return [(max(t - self.overlap_frames, 0), min(t + self.chunk_frames, self.frames)) for t in starts]


def parse_shape(text):
    """Frames, height, width, heads and head dim of a shape's name."""
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)_(\d+)x(\d+)", text)
    numbers = [int(number) for number in match.groups()] if match else [0]
    if min(numbers) < 1:
        raise ValueError(f"{text} is no shape; expected <frames>x<height>x<width>_<heads>x<head dim>")
    return dict(zip(("frames", "height", "width", "heads", "head_dim"), numbers))


def phi_arrays(clip, side, random):
    """Weights [heads, out, in] and biases [heads, out] of phi's two layers, distributed as in bench/inputs.hpp: they
    keep the size of what they multiply, and the last biases let the linear branch of a long clip weigh about as much as
    softmax."""
    arrays = {}
    for layer, (width, mean) in enumerate(((clip.head_dim, 0), (clip.hidden, -4))):
        weight = random.standard_normal((clip.heads, clip.hidden, width), dtype=numpy.float32)
        bias = random.standard_normal((clip.heads, clip.hidden), dtype=numpy.float32)
        arrays[f"{side}_weight_{layer}"] = weight / numpy.float32(math.sqrt(width))
        arrays[f"{side}_bias_{layer}"] = numpy.float32(0.1) * bias + numpy.float32(mean)
    return arrays


def write_inputs(clip, folder):
    """Writes clip.json, q.npy, k.npy, v.npy [heads, tokens, head_dim] and phi's arrays; returns the latter."""
    random = numpy.random.default_rng(1)
    for name in "qkv":
        numpy.save(folder / f"{name}.npy",
                   random.standard_normal((clip.heads, clip.tokens, clip.head_dim), dtype=numpy.float32))
    phi = {**phi_arrays(clip, "phi_q", random), **phi_arrays(clip, "phi_k", random)}
    for name, array in phi.items():
        numpy.save(folder / f"{name}.npy", array)
    geometry = {**dataclasses.asdict(clip), "tokens_per_frame": clip.tokens_per_frame}
    (folder / "clip.json").write_text(json.dumps(geometry))
    return phi


def distance(path, reference_path):
    """Relative L2 distance of one output from another, in float64, head by head."""
    ours, theirs = (numpy.load(p, mmap_mode="r") for p in (path, reference_path))
    if ours.shape != theirs.shape:
        raise ValueError(f"outputs of shapes {ours.shape} and {theirs.shape}")
    difference = size = 0.0
    for a, b in zip(ours, theirs):
        b = b.astype(numpy.float64)
        difference += numpy.square(a - b).sum()
        size += numpy.square(b).sum()
    return float(numpy.sqrt(difference / size))
