"""Time and memory of attention by number of frames: rehyat and its peers."""

import re
import sys

from plot_style import GREY, OPERATOR_COLORS, Missing, footer, machine, need

from matplotlib import pyplot, ticker

# Peer, operator: name, colour. Ours are drawn thick.
LINES = {
    ("rehyat", "exact"): ("rehyat, exact", OPERATOR_COLORS["exact"]),
    ("rehyat", "hybrid"): ("rehyat, hybrid in one shot", OPERATOR_COLORS["hybrid"]),
    ("rehyat", "hybrid_recurrent"): ("rehyat, hybrid by chunk", OPERATOR_COLORS["hybrid_recurrent"]),
    ("onnxruntime", "exact"): ("ONNX Runtime", "#2a9d6f"),
    ("onnxruntime", "hybrid"): ("ONNX Runtime, hybrid composed", "#8fd0b4"),
    ("ggml", "exact"): ("ggml", "#8c62b8"),
    ("ggml_float16", "exact"): ("ggml, float16 k and v", "#c3a6de"),
    ("onednn", "exact"): ("oneDNN", "#8a6d3b"),
    ("torch", "exact"): ("PyTorch, composed", "#c98a9c"),
    ("torch_sdpa", "exact"): ("PyTorch, sdpa", "#a0405e"),
    ("eigen", "exact"): ("Eigen", "#9a9a9a"),
}
LABEL_GAP = 0.06  # of the axes' height


def seconds_text(value, _=None):
    for size, unit in ((1, "s"), (1e-3, "ms")):
        if value >= 0.999 * size:
            return f"{value / size:g} {unit}"
    return f"{value * 1e6:g} µs"


def bytes_text(value, _=None):
    for size, unit in ((1e9, "GB"), (1e6, "MB")):
        if value >= 0.999 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e3:.3g} kB"


def clip_bytes(row):
    """Of one of q, k, v, out."""
    return 4 * row["tokens"] * row["heads"] * row["head_dim"]


def call_bytes(row):
    """q, k, v, and what a call adds to them, its output among it; of a streaming caller, all it holds."""
    if "streaming_bytes" in row:
        return row["streaming_bytes"]
    return None if row["peak_bytes"] is None else row["peak_bytes"] + 3 * clip_bytes(row)


def why_it_ends(row):
    """In short, why a peer was skipped."""
    scores = re.search(r"stores ([\d.]+ GB) of scores", row["skipped"])
    duration = re.search(r"would run for (about \d+ s)", row["skipped"])
    frames = f"{row['frames']:,} frames"
    if scores:
        return f"{frames} would store {scores[1]} of scores"
    return f"{frames} would take {duration[1]}" if duration else f"{frames}: {row['skipped'].partition(';')[0]}"


def curves(rows, value):
    """(name, colour, is ours, points, why it ends before the last frames or None), in the order of LINES."""
    result = []
    for (peer, operator), (name, color) in LINES.items():
        mine = [r for r in rows if (r["peer"], r["operator"]) == (peer, operator)]
        points = [(r["frames"], value(r)) for r in mine if "seconds" in r and value(r) is not None]
        skipped = [r for r in mine if "skipped" in r]
        if points:
            end = next((why_it_ends(r) for r in skipped if r["frames"] > points[-1][0]), None)
            result.append((name, color, peer == "rehyat", points, end))
        elif skipped:
            print(f"  without {name}: {skipped[0]['skipped']}", file=sys.stderr)
    return result


def spread(positions, gap):
    """Positions at least `gap` apart, in the same order and near the given ones, within 0 and 1."""
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    placed = []
    for i in order:
        placed.append(max(positions[i], placed[-1] + gap) if placed else max(positions[i], 0))
    for n in range(len(placed) - 1, -1, -1):
        placed[n] = min(placed[n], placed[n + 1] - gap if n + 1 < len(placed) else 1)
    heights = dict(zip(order, placed))
    return [heights[i] for i in range(len(positions))]


def name_curves(axes, drawn):
    """Names the curves at the right: beside their last points, or, of those that end before, where there is room."""
    place = lambda point: axes.transAxes.inverted().transform(axes.transData.transform(point))
    low, high = axes.get_ylim()
    text = lambda x, y, *arguments, **style: axes.text(x, y, *arguments, transform=axes.transAxes, va="center", **style)
    whole = [(curve, place(curve[3][-1])[1]) for curve in drawn if curve[4] is None]
    heights = spread([end for _, end in whole], LABEL_GAP)
    for ((name, color, ours, _, _), end), height in zip(whole, heights):
        axes.plot([1, 1.03], [end, height], transform=axes.transAxes, color=color, linewidth=1, clip_on=False)
        text(1.04, height, name, fontweight="bold" if ours else "normal")
    ended = sorted((curve for curve in drawn if curve[4]), key=lambda curve: -place(curve[3][-1])[1])
    for (name, color, _, _, why), height in zip(ended, free_heights(heights, len(ended))):
        axes.plot([1.03, 1.05, 1.07], 3 * [height], transform=axes.transAxes, color=color, linewidth=1.5,
                  clip_on=False, marker="x", markersize=7, markeredgewidth=2, markevery=[1])
        text(1.09, height, name)
        text(1.09, height - 0.031, why, color=GREY, fontsize=7.5)
    axes.set_ylim(low, high)


def free_heights(taken, count):
    """`count` heights, falling, for two lines each in the largest gap that the others leave."""
    bounds = [-LABEL_GAP, *sorted(taken), 1 + LABEL_GAP]
    room, bottom = max((high - low, low) for low, high in zip(bounds, bounds[1:]))
    step = min(0.08, room / (count + 1))
    top = bottom + (room + (count - 1) * step) / 2
    return [top - i * step for i in range(count)]


def frames_plot(figures, value, title, value_text):
    """Curves of a value by number of frames, both logarithmic."""
    (report,) = need(figures, "frames")
    rows = report["rows"]
    threads = max(r["threads"] for r in rows)
    rows = [r for r in rows if r["threads"] == threads]
    drawn = curves(rows, value)
    if not drawn:
        raise Missing("no peer was measured")
    figure, axes = pyplot.subplots(figsize=(8.6, 5.4))
    figure.subplots_adjust(left=0.09, right=0.68, bottom=0.13, top=0.93)
    widths = iter((4.6, 3.0, 1.8))  # of ours: where they coincide, all are seen
    for name, color, ours, points, end in drawn:
        axes.plot(*zip(*points), color=color, linewidth=next(widths) if ours else 1.5, zorder=4 if ours else 3)
        if end:
            axes.plot(*points[-1], marker="x", color=color, markersize=7, markeredgewidth=2, zorder=5)
    frames = sorted({r["frames"] for r in rows})
    axes.set(xscale="log", yscale="log", xlabel="frames", xlim=(frames[0], frames[-1]))
    axes.set_title(title)
    axes.set_xticks(frames, [f"{n:,}" for n in frames])
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(value_text)
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    name_curves(axes, drawn)
    geometry = re.sub(r"^\d+x(\d+)x(\d+)_(\d+)x(\d+)$", r"\1 × \2 tokens a frame, \3 heads of \4", rows[0]["case"])
    footer(figure, f"{geometry}, float32, {threads} threads; {machine(report['context'])}")
    return figure, axes, rows


def plot_time(figures):
    return frames_plot(figures, lambda r: r["seconds"], "Time of attention over a clip", seconds_text)[0]


def plot_memory(figures):
    figure, axes, rows = frames_plot(figures, call_bytes, "Memory: q, k, v, out and all that a call needs beside them",
                                     bytes_text)
    clips = sorted({(r["frames"], 4 * clip_bytes(r)) for r in rows})
    axes.plot(*zip(*clips), color="#222222", linewidth=1, linestyle=(0, (4, 4)), zorder=5)
    note = lambda text, point, dx, dy: axes.annotate(text, point, (dx, dy), textcoords="offset points", color=GREY,
                                                     fontsize=8.5)
    note("dashed: q, k, v, out alone", clips[len(clips) // 2], 8, -14)
    streaming = [(r["frames"], call_bytes(r)) for r in rows if "streaming_bytes" in r]
    if streaming:
        note(f"{bytes_text(streaming[0][1])}: state, workspace, and a chunk of q, k, v, out", streaming[0], 6, 6)
    return figure
