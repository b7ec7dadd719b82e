"""Speed against error of every arithmetic and storage type."""

import itertools
import math

from plot_style import GREY, footer, machine, need

from matplotlib import lines, pyplot, ticker
from matplotlib.transforms import Bbox

COLORS = {"float32": "#4a7fb5", "float16": "#2a9d6f", "int8": "#e4572e"}
MARKERS = {"exact": ("o", "exact softmax"), "hybrid": ("D", "hybrid")}
# Where a label may stand, in points from its marker: the nearest that is free.
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7))
DISTANCES = (7, 14, 22, 32, 44, 58)


def worst_error(row):
    return max(row["error_by_head"])


def place_label(axes, point, text, color, taken):
    """Names a point, off all boxes in `taken`; far from it, with a line to it."""
    for distance, (x, y) in itertools.product(DISTANCES, DIRECTIONS):
        offset = distance * x, distance * y
        label = axes.annotate(text, point, offset, textcoords="offset points", color=color, fontsize=8.5,
                              zorder=3, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
                              ha=("center", "left", "right")[(x > 0) - (x < 0)],
                              va=("center", "bottom", "top")[(y > 0) - (y < 0)])
        box = label.get_window_extent()
        inside = box.x0 > axes.bbox.x0 and box.x1 < axes.bbox.x1 and box.y0 > axes.bbox.y0 and box.y1 < axes.bbox.y1
        if inside and not box.count_overlaps(taken):
            taken.append(box.padded(1))
            if distance > DISTANCES[0]:
                axes.annotate("", point, offset, textcoords="offset points",
                              arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3})
            return
        label.remove()
    raise ValueError(f"no room for the label of {text}")


def scale_axes(axes, rows):
    """The error's axis is logarithmic; where an error of zero is drawn, at its lower end."""
    errors = [worst_error(r) for r in rows if worst_error(r) > 0]
    lowest, highest = (math.log10(f(errors or [1e-3])) for f in (min, max))
    zero = 10 ** (lowest - 0.3 * (highest - lowest + 1))
    speeds = [r["speed"] for r in rows]
    room = 0.18 * (max(speeds) - min(speeds) + 0.1)
    axes.set(yscale="log", ylim=(zero / 1.4, 10 ** (highest + 0.15)), xlim=(min(speeds) - room, max(speeds) + room))
    ticks = [n * 10.0**e for e in range(-8, 1) for n in (1, 2, 5) if zero * 1.3 < n * 10.0**e < axes.get_ylim()[1]]
    axes.set_yticks([zero, *ticks], ["none", *(f"{tick:g}" for tick in ticks)])
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.axhline(zero, color=GREY, linewidth=1)
    axes.axvline(1, color=GREY, linewidth=1, linestyle=(0, (4, 4)))
    return zero


def plot_arithmetic(figures):
    (report,) = need(figures, "arithmetic")
    rows = report["rows"]
    figure, axes = pyplot.subplots(figsize=(8.6, 5), dpi=72)  # of SVG, which texts are measured in
    figure.subplots_adjust(left=0.085, right=0.985, bottom=0.2, top=0.93)
    zero = scale_axes(axes, rows)
    points = [(r["speed"], worst_error(r) or zero) for r in rows]
    for row, point in zip(rows, points):
        axes.plot(*point, MARKERS[row["operator"]][0], color=COLORS[row["arithmetic"]], markersize=6,
                  markeredgecolor="white", markeredgewidth=0.6, zorder=4, clip_on=False)
    axes.set(xlabel="speed over float32 arithmetic on f32 tensors, the same operator")
    axes.set_title("Distance from float32 arithmetic on f32 tensors: relative L2, the worst head")
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in map(axes.transData.transform, points)]
    names = {(point, row["arithmetic"], row["storage"]) for row, point in zip(rows, points)}  # the reference once
    for point, arithmetic, storage in sorted(names):
        place_label(axes, point, f"{arithmetic}, {storage}", COLORS[arithmetic], taken)
    handles = [lines.Line2D([], [], color="#222222", marker=mark, linestyle="", label=name)
               for mark, name in MARKERS.values()]
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 0.04), ncol=2, frameon=False, fontsize=9)
    isas = ", ".join(sorted({r["isa"] for r in rows}))
    footer(figure, f"{report['case']}; 1 thread, {isas}; {machine(report['context'])}")
    return figure
