"""Work and bytes of every rank, and what a long clip on many nodes would take: from the JSON of rehyat_mpi."""

import argparse
import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "bench"))
from plot_style import GREY, STYLE, footer  # noqa: E402

import matplotlib  # noqa: E402
from matplotlib import pyplot  # noqa: E402

WORK = {"softmax": ("softmax", "#4a7fb5"), "feature_map": ("feature maps", "#8fd0b4"),
        "linear": ("sums: absorb and read", "#e4572e")}
KINDS = {"halo": ("frames of q, k, v", "#4a7fb5"), "prefix": ("prefix sums", "#e4572e"),
         "outputs": ("outputs", "#f2a45c")}


def work_of(rank):
    n = rank["operations"]
    return {"softmax": n["softmax"], "feature_map": n["feature_map"], "linear": n["read"] + n["absorb"]}


def stack(axes, places, width, rows, names):
    """Stacked bars of dictionaries."""
    bottom = [0.0] * len(rows)
    for key, (label, color) in names.items():
        heights = [row[key] for row in rows]
        axes.bar(places, heights, width, bottom, color=color, label=label, linewidth=0)
        bottom = [b + h for b, h in zip(bottom, heights)]


def draw(axes, runs, scale, row_of, names, title):
    """One group of bars a run."""
    at, ticks, top = 0, [], 0
    for run in runs:
        ranks = run["ranks"]
        rows = [{key: value / scale for key, value in row_of(rank).items()} for rank in ranks]
        stack(axes, range(at, at + len(ranks)), 0.8, rows, names)
        ticks.append((at + (len(ranks) - 1) / 2, f"{len(ranks)} rank{'s'[:len(ranks) > 1]}"))
        at += len(ranks) + 1
        top = max(top, *(sum(row.values()) for row in rows), 0)
    axes.set_xticks(*zip(*ticks))
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="x", visible=False)
    axes.set_title(title, fontsize=10)
    axes.set_ylim(0, 1.05 * top)


def clip_text(run):
    c = run["clip"]
    return (f"{c['frames']} frames of {c['tokens_per_frame']} tokens, {c['heads']} heads of {c['head_dim']}, "
            f"F = {c['feature_dim']}, Tc = {c['chunk_frames']}, To = {c['overlap_frames']}")


def plot(measured, plan):
    figure, axes = pyplot.subplots(2, 2, figsize=(8.6, 6.4))
    figure.subplots_adjust(left=0.08, right=0.99, bottom=0.13, top=0.95, hspace=0.35, wspace=0.2)
    sent = lambda rank: {kind: rank["bytes"][kind]["sent"] for kind in KINDS}  # noqa: E731
    draw(axes[0][0], measured, 1e9, work_of, WORK, "GFLOP of a rank, measured runs")
    draw(axes[0][1], measured, 1e6, sent, KINDS, "MB sent by a rank, measured runs")
    draw(axes[1][0], [plan], 1e12, work_of, WORK, "TFLOP of a node, projected")
    draw(axes[1][1], [plan], 1e6, sent, KINDS, "MB sent by a node, projected")
    for n in range(2):
        handles, labels = axes[0][n].get_legend_handles_labels()
        figure.legend(handles[:3], labels[:3], loc="lower center", bbox_to_anchor=(0.28 + 0.47 * n, 0.035), ncol=3,
                      frameon=False, fontsize=8.5)
    footer(figure, f"Above: {clip_text(measured[0])}. Below: {clip_text(plan)}")
    figure.texts[-1].set_fontsize(7)
    return figure


def project(plan, o):
    """Prints the arithmetic of one attention layer, and of all."""
    ranks, clip = plan["ranks"], plan["clip"]
    flops, bandwidth, latency = o.node_gflops * 1e9, o.gigabits * 1e9 / 8, o.latency_us * 1e-6
    most = lambda value: max(value(rank) for rank in ranks)  # noqa: E731
    work = most(lambda r: r["operations"]["total"])
    mean = sum(r["operations"]["total"] for r in ranks) / len(ranks)
    absorb = min(r["operations"]["absorb"] for r in ranks[:-1]) / flops
    halo, outputs = (most(lambda r, kind=kind: r["bytes"][kind]["received"]) for kind in ("halo", "outputs"))
    head = most(lambda r: r["bytes"]["prefix"]["sent"]) / clip["kv_heads"]
    steps = len(ranks) - 1 + clip["kv_heads"] - 1
    hop = latency + head / bandwidth + head / (o.add_gigabytes * 1e9)
    seconds = {"attention": work / flops, "halo": 6 * latency + halo / bandwidth, "prefix": steps * hop,
               "outputs": latency + outputs / bandwidth}
    ms = {name: f"{value * 1e3:,.1f} ms" for name, value in seconds.items()}
    print(f"{clip_text(plan)}; {len(ranks)} nodes")
    print(f"attention  {work / 1e12:.3f} TFLOP of the busiest node ({mean / 1e12:.3f} on average) / "
          f"{o.node_gflops / 1e3:g} TFLOP/s = {ms['attention']}")
    print(f"halo       {halo / 1e6:.1f} MB at most / {bandwidth / 1e9:g} GB/s + 6 x {o.latency_us:g} us = {ms['halo']}")
    print(f"prefix     {steps} hops ({len(ranks)} - 1 nodes in a row, {clip['kv_heads']} - 1 more heads behind the first) "
          f"x ({o.latency_us:g} us + {head / 1e6:.3f} MB / {bandwidth / 1e9:g} GB/s + {head / 1e6:.3f} MB added at "
          f"{o.add_gigabytes:g} GB/s = {hop * 1e6:.0f} us) = {ms['prefix']}")
    print(f"outputs    {outputs / 1e6:.1f} MB / {bandwidth / 1e9:g} GB/s + {o.latency_us:g} us = {ms['outputs']}, "
          "not covered")
    calls = o.layers * o.steps * o.passes
    layer = seconds["attention"] + seconds["outputs"]
    print(f"covered    the halo by absorbing, {absorb * 1e3:,.0f} ms at least without phi_k; "
          "the prefix by absorbing and attending")
    print(f"a layer    {ms['attention']} + {ms['outputs']} = {layer * 1e3:,.1f} ms; if nothing were covered "
          f"{sum(seconds.values()) * 1e3:,.1f} ms")
    print(f"a clip     {o.layers} layers x {o.steps} steps x {o.passes} passes = {calls} x {layer:.3f} s = "
          f"{calls * layer / 3600:.2f} h")
    tokens = clip["frames"] * clip["tokens_per_frame"]
    exact = 2 * (clip["head_dim"] + clip["value_dim"]) * clip["heads"] * tokens ** 2 / len(ranks) / flops
    print(f"exact      softmax over all {tokens:,} tokens at the same rate: {exact:,.0f} s a layer, "
          f"{calls * exact / 86400:,.0f} days a clip")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", type=pathlib.Path, help="JSON of rehyat_mpi --plan")
    parser.add_argument("measured", type=pathlib.Path, nargs="+", help="JSON of runs")
    parser.add_argument("--out", type=pathlib.Path, help="SVG file to write")
    parser.add_argument("--node-gflops", type=float, default=2000, help="what a node computes a second (2000)")
    parser.add_argument("--gigabits", type=float, default=100, help="of a node's network a second (100)")
    parser.add_argument("--latency-us", type=float, default=5, help="of a message (5)")
    parser.add_argument("--add-gigabytes", type=float, default=5, help="of sums that a core adds a second (5)")
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--steps", type=int, default=50, help="of the sampler (50)")
    parser.add_argument("--passes", type=int, default=2, help="a step: with and without text (2)")
    arguments = parser.parse_args()
    try:
        plan, *measured = (json.loads(path.read_text()) for path in [arguments.plan, *arguments.measured])
    except (OSError, ValueError) as error:
        parser.error(f"cannot read a report of rehyat_mpi: {error}")
    project(plan, arguments)
    if arguments.out:
        matplotlib.rcParams.update(STYLE)
        plot(measured, plan).savefig(arguments.out, format="svg", facecolor="white",
                                     metadata={"Date": None, "Creator": None})
        print(arguments.out)


if __name__ == "__main__":
    main()
