#!/usr/bin/env python3
"""Draws what `rehyat distill --json` reports: each kv head's errors over the steps, and the heads side by side."""
import argparse
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


def read_report(path):
    try:
        report = json.loads(path.read_text())
        return report["curves"], report["heads"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"plot_distill.py: {path}: {error}; expected what rehyat distill --json prints")


def plot(curves, heads, path):
    figure, (over_steps, by_head) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    heads = [head for head in heads if head["began"]]  # of the others an interrupted run knows nothing
    for g, curve in enumerate(curves):
        if not curve:
            continue
        steps, _, validation = zip(*curve)
        over_steps.plot(steps, validation, color=f"C{g}", label=f"kv head {g}")
    over_steps.set(xlabel="step", ylabel="relative L1, validation frames", yscale="log")
    over_steps.legend()
    for i, name in enumerate(("window", "elu1", "distilled")):
        at = [head["head"] + (i - 1) * 0.27 for head in heads]
        by_head.bar(at, [head["validation"][name] for head in heads], width=0.25, label=name)
    by_head.set(xlabel="head", ylabel="relative L1, validation frames", xticks=[head["head"] for head in heads])
    by_head.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=pathlib.Path, help="what rehyat distill --json printed")
    parser.add_argument("image", help="the picture, .png or .svg")
    arguments = parser.parse_args()
    plot(*read_report(arguments.report), arguments.image)
