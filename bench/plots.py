"""The README's plots, of figures.json that bench/run.sh leaves: SVG files, the same bytes for the same figures. A plot
whose figures are not there is skipped with a word."""

import argparse
import json
import pathlib
import re
import sys

from plot_arithmetic import plot_arithmetic
from plot_frames import plot_memory, plot_time
from plot_style import GREY, OPERATOR_COLORS, STYLE, Missing, footer, machine, need

import matplotlib
from matplotlib import pyplot

# Share of the FMA peak by shape


OPERATOR_NAMES = {"exact": "exact softmax", "hybrid_causal": "hybrid, one shot",
                  "hybrid_recurrent": "hybrid, one chunk"}
ISA_NAMES = {"avx512": "AVX-512", "avx2": "AVX2", "neon": "NEON"}
BAR = 0.27


def shares(rows):
    """Share of the peak by (isa, shape, operator, threads, layout)."""
    found = {}
    for row in rows:
        parts = row["name"].split("/")
        if len(parts) == 6 and parts[1] in OPERATOR_NAMES and parts[3] in ISA_NAMES and "share" in row:
            found[parts[3], parts[2], parts[1], int(parts[4].partition(":")[2]), parts[5]] = row["share"]
    return found


def shape_text(shape):
    model, size, heads = shape.split("_")
    return f"{model} {size.replace('x', ' × ')}\n{heads.replace('x', ' heads of ')}"


def draw_shares(axes, isa, shapes, found):
    """Bars of one thread, head-major; marks of token-major, and of most threads."""
    most = max(key[3] for key in found)
    colors = dict(zip(OPERATOR_NAMES, OPERATOR_COLORS.values()))
    for i, shape in enumerate(shapes):
        here = [op for op in OPERATOR_NAMES if (isa, shape, op, 1, "head_major") in found]
        for n, op in enumerate(here):
            y = i + (n - (len(here) - 1) / 2) * BAR
            share = 100 * found[isa, shape, op, 1, "head_major"]
            axes.barh(y, share, 0.88 * BAR, color=colors[op])
            axes.text(1.5, y, f"{share:.0f} %", va="center", fontsize=7.5, color="white", fontweight="bold")
            for threads, layout, mark in ((1, "token_major", "D"), (most, "head_major", "|")):
                other = found.get((isa, shape, op, threads, layout))
                if other and (threads, layout) != (1, "head_major"):
                    axes.plot(100 * other, y, mark, color="#222222", markersize=3.5 if mark == "D" else 8,
                              markerfacecolor="white", markeredgewidth=1 if mark == "D" else 2)
    axes.set(xlim=(0, 100), xlabel="% of the FMA peak", xticks=range(0, 101, 25))
    axes.set_title(ISA_NAMES[isa])
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    return most


def plot_shares(figures):
    (report,) = need(figures, "operators")
    found = shares(report["rows"])
    isas = [isa for isa in ISA_NAMES if any(key[0] == isa and key[3:] == (1, "head_major") for key in found)]
    if not isas:
        raise Missing("no head-major rows of 1 thread with a vector instruction set")
    shapes = list(dict.fromkeys(key[1] for key in found))
    figure, all_axes = pyplot.subplots(1, len(isas), sharey=True, squeeze=False,
                                       figsize=(8.6, 1.7 + 0.48 * len(shapes)))
    bottom, top = 1.15 / figure.get_figheight(), 1 - 0.35 / figure.get_figheight()
    figure.subplots_adjust(left=0.19, right=0.975, bottom=bottom, top=top, wspace=0.12)
    for axes, isa in zip(all_axes[0], isas):
        most = draw_shares(axes, isa, shapes, found)
    all_axes[0][0].set_yticks(range(len(shapes)), [shape_text(shape) for shape in shapes])
    all_axes[0][0].set_ylim(len(shapes) - 0.45, -0.55)
    handles = [matplotlib.patches.Patch(color=color, label=name)
               for name, color in zip(OPERATOR_NAMES.values(), OPERATOR_COLORS.values())]
    mark = lambda symbol, size, name: matplotlib.lines.Line2D([], [], color="#222222", marker=symbol, markersize=size,
                                                            linestyle="", markerfacecolor="white", label=name)
    handles += [mark("D", 3.5, "heads interleaved")] + ([mark("|", 8, f"{most} threads")] if most > 1 else [])
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 0.2 / figure.get_figheight()),
                  ncol=len(handles), frameon=False, fontsize=9, columnspacing=1.4, handletextpad=0.5)
    footer(figure, f"bars: 1 thread, heads apart, float32; shapes: frames × height × width; "
                   f"{machine(report['context'])}")
    return figure


# Tc and To


def chunking_rows(report, threads):
    """Milliseconds a frame and bytes, by To and Tc."""
    found = {}
    for row in report["rows"]:
        match = re.fullmatch(rf"chunking/[^/]+/Tc:(\d+)/To:(\d+)/\w+/threads:{threads}", row["name"])
        if match and "share" in row:
            tc, to = map(int, match.groups())
            found[to, tc] = {"ms": row["ms"] / tc, "bytes": sum(row[f"{name}_bytes"] for name in
                                                                 ("state", "workspace", "chunk"))}
    return found


def draw_chunkings(axes, cells, value, title):
    """A line per To over Tc."""
    chunks = sorted({tc for _, tc in cells})
    overlaps = sorted({to for to, _ in cells})
    for n, to in enumerate(overlaps):
        color = matplotlib.colormaps["YlOrRd"](0.35 + 0.6 * n / max(len(overlaps) - 1, 1))
        points = [(tc, value(cells[to, tc])) for tc in chunks if (to, tc) in cells]
        axes.plot(*zip(*points), color=color, marker="o", markersize=4, linewidth=2, label=f"To = {to}")
    axes.set_xticks(chunks)
    axes.set(xlabel="Tc, frames a chunk", ylim=(0, None))
    axes.set_title(title, fontsize=10)


def plot_chunking(figures):
    cost, error = need(figures, "chunking", "window")
    cells = chunking_rows(cost, 1)
    if not cells:
        raise Missing("no rows of 1 thread in chunking")
    errors = {(r["overlap_frames"], r["chunk_frames"]): r for r in error["rows"]}
    figure, (time, memory, distance) = pyplot.subplots(1, 3, figsize=(8.6, 3.5))
    figure.subplots_adjust(left=0.06, right=0.99, bottom=0.26, top=0.9, wspace=0.25)
    draw_chunkings(time, cells, lambda cell: cell["ms"], "Time, ms a frame (1 thread)")
    draw_chunkings(memory, cells, lambda cell: cell["bytes"] / 1e6, "Memory while streaming, MB")
    draw_chunkings(distance, errors, lambda cell: cell["window_only"], "Distance from exact attention")
    chunks = sorted({tc for _, tc in errors})
    distance.plot(chunks, [errors[0, tc]["perfect_phi"] for tc in chunks], color=GREY, linestyle="--")
    distance.annotate("with a perfect linear branch", (chunks[0], errors[0, chunks[0]]["perfect_phi"]), xytext=(4, -30),
                      textcoords="offset points", color=GREY, fontsize=8.5)
    distance.annotate("softmax window alone", (0.98, 0.95), xycoords="axes fraction", ha="right", va="top",
                      color="#222222", fontsize=8.5)
    handles, labels = time.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 0.05), ncol=len(handles), frameon=False)
    footer(figure, f"{error['case']}; distance: relative L2; {machine(cost['context'])}")
    return figure


def save(figure, folder, name):
    path = folder / f"{name}.svg"
    figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    return path


PLOTS = {"frames_time": plot_time, "frames_memory": plot_memory, "shares": plot_shares, "chunking": plot_chunking,
         "arithmetic": plot_arithmetic}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=pathlib.Path, help="figures.json")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."), help="folder of the SVG files (.)")
    arguments = parser.parse_args()
    if not arguments.figures.is_file():
        parser.error(f"{arguments.figures} is missing; bench/run.sh makes it")
    figures = json.loads(arguments.figures.read_text())
    arguments.out.mkdir(parents=True, exist_ok=True)
    matplotlib.rcParams.update(STYLE)
    for name, plot in PLOTS.items():
        try:
            print(save(plot(figures), arguments.out, name))
        except Missing as reason:
            print(f"{name}.svg skipped: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
