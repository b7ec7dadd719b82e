"""How far attention to the softmax window alone is from exact attention, on real q, k, v, for a grid of Tc and To: what
the linear branch has to bring, whatever the feature map. Relative L2 distances over the clip and all heads, as JSON.

  window_only    softmax over the chunk and its overlap: a linear branch that is silent
  perfect_phi    softmax over all frames up to the chunk's end: a causal schedule whose linear branch were exact
  mass           share of the exact softmax weights that lies in the window, the mean over all queries
"""

import argparse
import json
import pathlib
import sys

try:
    import numpy
except ImportError as missing:
    sys.exit(f"{missing}; install NumPy (Debian: python3-numpy)")

DATA = pathlib.Path(__file__).resolve().parent.parent / "examples" / "data"
CHUNK_FRAMES = (1, 2, 3, 4, 6, 8)
OVERLAP_FRAMES = (0, 1, 2, 3)


def load(folder, name):
    """q, k, v as float32 [heads, frames, tokens, dim]."""
    return [numpy.load(folder / f"{name}_{x}.npy").astype(numpy.float32).transpose(2, 0, 1, 3) for x in "qkv"]


def frame_sums(q, k, v):
    """Of one head: for every query and frame of keys the sum of exp(score - the query's largest), [frames, tokens,
    frames], and of that times v, [frames, tokens, frames, dim]. All windows are sums of these."""
    frames, tokens, dim = k.shape
    keys = k.reshape(-1, dim).T / numpy.float32(dim**0.5)
    masses, values = [], []
    for queries in q:
        scores = queries @ keys
        weights = numpy.exp(scores - scores.max(axis=1, keepdims=True)).reshape(tokens, frames, tokens)
        masses.append(weights.sum(axis=2))
        values.append(numpy.matmul(weights.transpose(1, 0, 2), v).transpose(1, 0, 2))
    return numpy.stack(masses), numpy.stack(values)


def frame_mask(frames, first, end):
    """[frames of queries, frames of keys]: the keys of [first, end) of each query's chunk."""
    keys = numpy.arange(frames)
    return ((keys >= first[:, None]) & (keys < end[:, None])).astype(numpy.float32)


def masks(frames, chunk_frames, overlap_frames):
    """The window of every frame's queries, and all keys that causal attention by chunk has."""
    starts = numpy.arange(frames) // chunk_frames * chunk_frames
    ends = numpy.minimum(starts + chunk_frames, frames)
    window = frame_mask(frames, numpy.maximum(starts - overlap_frames, 0), ends)
    return window, frame_mask(frames, numpy.zeros(frames), ends)


def attend(mass, values, mask):
    weighted = numpy.einsum("tnfd,tf->tnd", values, mask, optimize=True)
    return weighted / numpy.einsum("tnf,tf->tn", mass, mask)[..., None]


def errors(heads, frames, chunk_frames, overlap_frames):
    """A row of the grid; `heads` are frame_sums."""
    squares, window_mass = numpy.zeros(3), []
    window, causal = masks(frames, chunk_frames, overlap_frames)
    for mass, values in heads:
        exact = attend(mass, values, numpy.ones_like(window))
        outs = attend(mass, values, window), attend(mass, values, causal)
        squares += [numpy.square(out - exact, dtype=numpy.float64).sum() for out in outs] + [
            numpy.square(exact, dtype=numpy.float64).sum()]
        window_mass.append(numpy.einsum("tnf,tf->tn", mass, window) / mass.sum(axis=2))
    window_only, perfect_phi = numpy.sqrt(squares[:2] / squares[2])
    return {"chunk_frames": chunk_frames, "overlap_frames": overlap_frames, "window_only": float(window_only),
            "perfect_phi": float(perfect_phi), "mass": float(numpy.mean(window_mass))}


def table(rows):
    lines = [f"{'Tc':>3} {'To':>3} {'window only':>12} {'perfect phi':>12} {'mass':>7}"]
    lines += [f"{r['chunk_frames']:>3} {r['overlap_frames']:>3} {r['window_only']:>12.3f} {r['perfect_phi']:>12.3f}"
              f" {100 * r['mass']:>5.1f} %" for r in rows]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=DATA, help="folder of <name>_q.npy, _k.npy, _v.npy, each "
                        "[frames, tokens, heads, dim] (%(default)s)")
    parser.add_argument("--name", default="vtest_l2", help="of the arrays (%(default)s)")
    parser.add_argument("--json", type=pathlib.Path, help="writes the rows here too")
    arguments = parser.parse_args()
    try:
        q, k, v = load(arguments.data, arguments.name)
    except OSError as error:
        sys.exit(f"window_error.py: {error}")
    frames = q.shape[1]
    heads = [frame_sums(*head) for head in zip(q, k, v)]
    rows = [errors(heads, frames, tc, to) for to in OVERLAP_FRAMES for tc in CHUNK_FRAMES]
    title = f"{arguments.name}: {frames} frames of {q.shape[2]} tokens, {q.shape[0]} heads of {q.shape[3]}"
    print(f"{title}; relative L2 distance from exact attention\n{table(rows)}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"case": title, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
