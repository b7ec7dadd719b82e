"""What the plots share: their look, and what to do without figures."""

import re
import sys

try:
    import matplotlib
except ImportError as missing:
    sys.exit(f"{missing}; install Matplotlib (Debian: python3-matplotlib)")
matplotlib.use("svg")

STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "rehyat", "font.family": "sans-serif", "font.size": 10,
    "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"], "text.color": "#222222",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#888888", "axes.labelcolor": "#222222",
    "axes.titlesize": 11, "axes.titlelocation": "left", "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#e4e4e4", "grid.linewidth": 0.8, "xtick.color": "#444444", "ytick.color": "#444444",
    "lines.solid_capstyle": "round",
}
GREY = "#777777"
OPERATOR_COLORS = {"exact": "#4a7fb5", "hybrid": "#e4572e", "hybrid_recurrent": "#f2a45c"}


class Missing(Exception):
    """What a plot would need."""


def need(figures, *names):
    absent = [name for name in names if not figures.get(name, {}).get("rows")]
    if absent:
        raise Missing(f"no rows of {', '.join(absent)}; bench/run.sh --only {','.join(absent)}")
    return [figures[name] for name in names]


def footer(figure, text):
    figure.text(0.995, 0.01, text, ha="right", va="bottom", fontsize=8, color=GREY)


def machine(context):
    cpu = re.sub(r"\((R|TM)\)|\(cpu family.*?\)", "", context["cpu"])
    return f"{' '.join(cpu.split())}, {context['date'][:10]}"
