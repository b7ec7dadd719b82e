#!/usr/bin/env python3
"""Draws what `rehyat tune --json` reports: each layer's settings and their Pareto front, and what the budgets chose."""
import argparse
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

MARKERS = {"softmax": "s", "window": "v", "elu1": "^", "phi": "o"}


def read_report(path):
    try:
        report = json.loads(path.read_text())
        return report["layers"], report["budgets"], report["teacher"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"plot_tune.py: {path}: {error}; expected what rehyat tune --json prints")


def share(layer, setting):
    return setting["operations"] / layer["settings"][0]["operations"]


def plot_layer(axes, layer, index, budgets):
    measured = [setting for setting in layer["settings"] if "error" in setting]
    for beyond, marker in MARKERS.items():
        of_kind = [setting for setting in measured if setting["beyond"] == beyond]
        for on_front, color in ((False, "lightgrey"), (True, "C0")):
            drawn = [setting for setting in of_kind if setting["on_front"] == on_front]
            axes.scatter([share(layer, s) for s in drawn], [s["error"] for s in drawn], marker=marker, color=color)
        if of_kind:
            axes.scatter([], [], marker=marker, color="C0", label=beyond)
    front = sorted((share(layer, s), s["error"]) for s in measured if s["on_front"])
    axes.plot(*zip(*front), drawstyle="steps-post", color="C0", linewidth=1)
    for number, budget in enumerate(budgets):
        if "settings" in budget:
            chosen = layer["settings"][budget["settings"][index]]
            axes.scatter(share(layer, chosen), chosen["error"], s=120 + 60 * number, facecolors="none",
                         edgecolors=f"C{number + 1}", label=f"budget {budget['budget']:g}")
    axes.set(title=layer["name"], xlabel="operations, of those of softmax", xscale="log")
    axes.legend(fontsize="small")


def plot(layers, budgets, teacher, path):
    columns = min(len(layers), 4)
    rows = -(-len(layers) // columns)
    figure, all_axes = plt.subplots(rows, columns, figsize=(1 + 4.5 * columns, 4.5 * rows), sharey=True, squeeze=False,
                                    layout="constrained")
    for axes in all_axes.flat[len(layers):]:
        axes.set_axis_off()
    for index, (axes, layer) in enumerate(zip(all_axes.flat, layers)):
        plot_layer(axes, layer, index, budgets)
    figure.supylabel(f"relative L1 to the {teacher} teacher, validation frames")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=pathlib.Path, help="what rehyat tune --json printed")
    parser.add_argument("image", help="the picture, .png or .svg")
    arguments = parser.parse_args()
    plot(*read_report(arguments.report), arguments.image)
