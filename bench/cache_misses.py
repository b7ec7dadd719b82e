#!/usr/bin/env python3
"""Memory traffic of exact softmax and of hybrid attention, counted with cachegrind and derived.

Runs bench_once under cachegrind with a phone's caches: what misses the last level comes from memory, 64 bytes
each. A run that only makes the inputs is subtracted. The default is the seeds' case, 121 frames at 320 x 480
(31 x 20 x 30 tokens, D = 128, Tc 3, To 1, hidden = F = 256), scaled down in heads alone, which share nothing:
just as many as make the schedule cut its groups of query blocks as with 12. Figures are per head. Cachegrind
knows neither hardware prefetch, which moves the same bytes earlier, nor write-backs: each line written goes
back too, once more the written bytes.

What to expect, per head and in float32 (predict() has every term):

  exact    K and V pass once per group of 768 queries, on every instruction set: with N tokens N / 768 times
           8 N D bytes, 25 passes of 19 MB. Tiling has removed the N x N scores already: stored, as a softmax
           between two matrix products must, they would be 5.5 GB.
  hybrid   the same, but the passes are over a window of To + Tc frames, 2,400 keys and 2.46 MB of K and V, and
           a chunk's 1,800 queries are 4 groups (12 heads then make 48 tasks). Beside it, per group: phi's
           weights (0.39 MB) and the sums (0.13 MB), and per chunk the keys absorbed, the state and its parts.

So the ratio of the two is 2.8 where the window does not fit in the last level (2 MiB), and 6.1 where it does
(4 MiB): then window, weights and sums come from memory once a chunk instead of once a group. Smaller groups
give a larger ratio and more traffic in both: with 192 queries a group it was 5.3, from 1,867 and 355 MB instead
of 495 and 178. The 11 that the seeds name for this case lies between that and 31, which is what a softmax that
stores its scores moves more than hybrid attention: such a ratio says as much about the exact kernel and
the last level as about the algorithm. It grows with the clip, as exact traffic is quadratic in it.

The prediction takes a last level that holds what a group uses beside the keys: from 2 MiB on it is within a few
percent of the count.

  bench/cache_misses.py build/bench/bench_once                            # about twenty minutes
  bench/cache_misses.py build/bench/bench_once --clip 13x20x30            # five
  bench/cache_misses.py build/bench/bench_once --LL 4194304,16,64 --json traffic.json
"""

import argparse
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile

LINE = 64
FLOAT = 4
TC, TO, HIDDEN, FEATURES = 3, 1, 256, 256  # as bench/once.cpp
QUERY_BLOCKS = {"avx2": 24, "neon": 12, "avx512": 48}  # rehyat/kernel/tile_shape.hpp
ABSORB_GROUP, MOST_GROUP_QUERIES, LEAST_ATTEND_TASKS = 768, 768, 48  # rehyat/detail/tasks.hpp
OPERATORS = ("exact", "hybrid", "recurrent")


class Failure(Exception):
    """An error that the user can do something about."""


def group_size(queries, heads, query_block):
    """Query blocks that share a pass over the keys: attend_grid in rehyat/detail/tasks.hpp."""
    share = math.ceil(math.ceil(queries / query_block) / math.ceil(LEAST_ATTEND_TASKS / heads))
    return min(MOST_GROUP_QUERIES // query_block, share)


class Case:
    """A clip, in tokens and bytes of one head."""

    def __init__(self, frames, height, width, heads, dim, query_block=QUERY_BLOCKS["avx2"]):
        self.frames, self.height, self.width, self.heads, self.dim = frames, height, width, heads, dim
        self.frame_tokens, self.tokens, self.query_block = height * width, frames * height * width, query_block
        self.row = dim * FLOAT
        self.weights = (dim * HIDDEN + HIDDEN * FEATURES) * FLOAT
        self.sums = FEATURES * (dim + 1) * FLOAT

    def chunks(self):
        """(tokens of queries, of softmax keys, of keys absorbed before and after the chunk's start, is last)."""
        for begin in range(0, self.frames, TC):
            end, first = min(begin + TC, self.frames), max(begin - TO, 0)
            cut = max(begin + TC - TO, 0)
            spans = [max(0, min(cut, begin) - first), max(0, cut - max(first, begin))]
            yield tuple(frames * self.frame_tokens for frames in (end - begin, end - first)) + (
                [span * self.frame_tokens for span in spans], end == self.frames)

    def schedule_queries(self, operator):
        """Queries that one phase has, from which the schedule takes its group size."""
        return self.tokens if operator == "exact" else min(TC * self.frame_tokens, self.tokens)

    def fewest_heads(self, operator):
        """Heads that give the same groups as all do."""
        queries, size = self.schedule_queries(operator), self.blocks_per_group(operator)
        return next(h for h in range(1, self.heads + 1) if group_size(queries, h, self.query_block) == size)

    def blocks_per_group(self, operator):
        return group_size(self.schedule_queries(operator), self.heads, self.query_block)

    def groups(self, operator, queries):
        return math.ceil(math.ceil(queries / self.query_block) / self.blocks_per_group(operator))

    def group_bytes(self, operator):
        """What a group touches beside the keys: its queries and results, as they lie and packed."""
        return 4 * self.blocks_per_group(operator) * self.query_block * self.row


def predict_exact(case, last_level):
    """Bytes by what they are: K and V of the clip once per group, or once if they stay in the last level."""
    clip = 2 * case.tokens * case.row
    times = case.groups("exact", case.tokens) if clip + case.group_bytes("exact") > last_level else 1
    return {"keys and values": times * clip, "queries": case.tokens * case.row, "out": case.tokens * case.row}


def predict_hybrid(case, last_level, recurrent):
    """As predict_exact, chunk by chunk. Between the phases of a chunk the other heads have had the cache."""
    total = dict.fromkeys(("keys and values", "queries", "out", "phi weights", "sums", "absorbed keys and values",
                           "state and parts", "tail"), 0)
    for t, (queries, keys, absorbed, last) in enumerate(case.chunks()):
        window = 2 * keys * case.row
        linear = case.weights + case.sums if t > 0 else 0
        fits = window + linear + case.group_bytes("hybrid") <= last_level
        times = 1 if fits else case.groups("hybrid", queries)
        total["keys and values"] += times * window
        total["queries"] += queries * case.row * (1 if fits or t == 0 else 2)  # phi reads them after the pass
        total["out"] += queries * case.row
        if t > 0:
            total["phi weights"] += times * case.weights
            total["sums"] += times * case.sums
        if not last or recurrent:
            parts = sum(math.ceil(span / ABSORB_GROUP) for span in absorbed)
            total["absorbed keys and values"] += 2 * sum(absorbed) * case.row
            total["phi weights"] += case.weights
            total["state and parts"] += 2 * parts * case.sums + 2 * case.sums  # parts written, read; hi and lo
        if recurrent:
            total["tail"] += 2 * 2 * TO * case.frame_tokens * case.row  # read from the clip, written
    return total


def predict(operator, case, last_level):
    if operator == "exact":
        return predict_exact(case, last_level)
    return predict_hybrid(case, last_level, operator == "recurrent")


def cachegrind(program, operator, case, heads, caches):
    """Events of one run."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "cachegrind.out"
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=yes", f"--cachegrind-out-file={out}", *caches,
                   str(program.resolve()), operator, f"{case.frames}x{case.height}x{case.width}", f"{heads}x{case.dim}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure(f"{' '.join(command)}\n{done.stderr.strip()}")
        lines = out.read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if line.startswith(("events:", "summary:")))
    return dict(zip(fields["events"].split(), map(int, fields["summary"].split())))


def count(program, case, caches, last_level):
    """The rows of the operators: bytes per head."""
    baselines, rows = {}, []
    for operator in OPERATORS:
        heads = case.fewest_heads(operator)
        print(f"{operator}, {heads} of {case.heads} heads ...", file=sys.stderr)
        if heads not in baselines:
            baselines[heads] = cachegrind(program, "none", case, heads, caches)
        events = cachegrind(program, operator, case, heads, caches)
        misses = {name: (events[name] - baselines[heads][name]) * LINE / heads
                  for name in ("D1mr", "D1mw", "DLmr", "DLmw")}
        terms = predict(operator, case, last_level)
        rows.append({"operator": operator, "heads_run": heads,
                     "first_level_bytes": misses["D1mr"] + misses["D1mw"], "read_bytes": misses["DLmr"],
                     "write_bytes": misses["DLmw"], "bytes": misses["DLmr"] + misses["DLmw"],
                     "predicted_bytes": sum(terms.values()), "predicted": terms})
    return rows


def ratio_rows(case, last_level):
    """Predicted exact over hybrid for all heads, by last level and by the width of the query blocks."""
    rows = []
    for isa, query_block in QUERY_BLOCKS.items():
        same = Case(case.frames, case.height, case.width, case.heads, case.dim, query_block)
        for size in sorted({last_level, last_level * 2, last_level * 4}):
            exact, hybrid = (sum(predict(name, same, size).values()) for name in ("exact", "hybrid"))
            rows.append({"isa": isa, "last_level": size, "exact_bytes": exact, "hybrid_bytes": hybrid,
                         "ratio": exact / hybrid})
    return rows


def operation_ratio(case):
    """Multiply-adds of exact over hybrid (softmax; phi of both sides, update and read of all tokens)."""
    exact = 2 * case.tokens**2 * case.dim
    softmax = sum(2 * queries * keys * case.dim for queries, keys, _, _ in case.chunks())
    chunks = list(case.chunks())
    reading = sum(queries for queries, _, _, _ in chunks[1:])
    absorbing = sum(sum(absorbed) for _, _, absorbed, last in chunks if not last)
    per_token = case.dim * HIDDEN + HIDDEN * FEATURES + FEATURES * case.dim
    return exact / (softmax + (reading + absorbing) * per_token)


def report(case, rows, ratios, last_level):
    mb = 1e-6
    lines = [f"{case.frames} x {case.height} x {case.width} tokens, D = {case.dim}, per head, MB "
             f"(last level {last_level / 2**20:.3g} MiB)", "",
             f"{'':<12}{'L1 misses':>12}{'LL reads':>12}{'LL writes':>12}{'LL misses':>12}{'predicted':>12}"]
    for row in rows:
        figures = [row[key] * mb for key in ("first_level_bytes", "read_bytes", "write_bytes", "bytes",
                                             "predicted_bytes")]
        lines.append(f"{row['operator']:<12}" + "".join(f"{figure:>12.1f}" for figure in figures))
    exact = rows[0]["bytes"]
    lines.append("")
    for row in rows[1:]:
        lines.append(f"exact over {row['operator']}: {exact / row['bytes']:.2f}x measured, "
                     f"{rows[0]['predicted_bytes'] / row['predicted_bytes']:.2f}x predicted; operations "
                     f"{operation_ratio(case):.2f}x")
    stored = 4 * case.tokens**2 * FLOAT
    lines += [f"an exact softmax that stores its N x N scores (4 passes over them): {stored * mb:.0f} MB, "
              f"{stored / rows[1]['bytes']:.1f}x hybrid", "", "predicted for all heads, by query block and last level:"]
    lines += [f"  {row['isa']:<8}{row['last_level'] / 2**20:>5.3g} MiB: exact {row['exact_bytes'] * mb:>8.1f}, hybrid "
              f"{row['hybrid_bytes'] * mb:>7.1f}, {row['ratio']:>5.1f}x" for row in ratios]
    lines += ["", "of which, predicted:"]
    for row in rows:
        lines.append(f"  {row['operator']}: " + ", ".join(f"{name} {size * mb:.1f}"
                                                          for name, size in row["predicted"].items() if size))
    return "\n".join(lines)


def sizes(count_of):
    def parse(text):
        values = [int(part) for part in text.split("x")]
        if len(values) != count_of or min(values) < 1:
            raise ValueError
        return values
    parse.__name__ = "size"
    return parse


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path, nargs="?", default=pathlib.Path("build/bench/bench_once"),
                        help="bench_once (%(default)s)")
    parser.add_argument("--clip", type=sizes(3), default=[31, 20, 30], help="<frames>x<height>x<width> (31x20x30)")
    parser.add_argument("--heads", type=sizes(2), default=[12, 128], help="<heads>x<head dim> (12x128); fewer are run")
    parser.add_argument("--D1", default="65536,4,64", help="size, ways, line of the data cache (%(default)s)")
    parser.add_argument("--LL", default="2097152,16,64", help="of the last level (%(default)s)")
    parser.add_argument("--json", type=pathlib.Path, help="writes the figures here too")
    return parser.parse_args()


def main():
    args = arguments()
    if shutil.which("valgrind") is None:
        raise Failure("valgrind is missing: apt-get install valgrind")
    if not args.program.is_file():
        raise Failure(f"{args.program} is missing: configure with REHYAT_BUILD_BENCH=ON on x86-64 and build bench_once")
    if not (args.D1.endswith(f",{LINE}") and args.LL.endswith(f",{LINE}")):
        raise Failure(f"--D1 and --LL are size,ways,line with lines of {LINE} bytes")
    case = Case(*args.clip, *args.heads)
    last_level = int(args.LL.split(",")[0])
    caches = [f"--I1={args.D1}", f"--D1={args.D1}", f"--LL={args.LL}"]
    rows = count(args.program, case, caches, last_level)
    ratios = ratio_rows(case, last_level)
    print(report(case, rows, ratios, last_level))
    if args.json:
        args.json.write_text(json.dumps({"clip": args.clip, "heads": args.heads, "D1": args.D1, "LL": args.LL,
                                         "operation_ratio": operation_ratio(case), "rows": rows,
                                         "predicted_ratios": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"cache_misses.py: {failure}")
