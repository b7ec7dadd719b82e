"""What an arithmetic and a storage type cost and bring on real q, k, v: the time of `rehyat attend` with each, and how far its
result is from float32 arithmetic on float32 tensors. A mode that program or processor lacks is left out. All in turn, 1 thread.

  seconds    of the operator alone, the median of the rounds
  speed      over float32 arithmetic on float32 tensors, the median of the rounds' quotients, and their quartiles
  error      relative L2 by head
  cosine     the least of the heads
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

try:
    import numpy
except ImportError as missing:
    sys.exit(f"{missing}; install NumPy (Debian: python3-numpy)")

import table

DATA = pathlib.Path(__file__).resolve().parent.parent / "examples" / "data"
ARITHMETICS = ("float32", "float16", "int8")
STORAGES = ("f32", "bf16", "f16")
REFERENCE = ("float32", "f32")
BAD_INPUT = 2  # exit status


class Refused(Exception):
    """What the program says of options that it does not take."""


def write_clip(arguments, folder):
    """The clip's first frames as files in `folder`: the options that name them, and a line about the clip."""
    options = []
    for x in "qkv":
        array = numpy.load(arguments.data / f"{arguments.name}_{x}.npy")[:arguments.frames]
        numpy.save(folder / f"{x}.npy", array)
        options += [f"--{x}", folder / f"{x}.npy"]
    frames, tokens, heads, dim = array.shape
    return options, f"{arguments.name}: {frames} frames of {tokens} tokens, {heads} heads of {dim}, {array.dtype}"


def run(command):
    """What the program prints as JSON."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    said = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
    if done.returncode == BAD_INPUT:
        raise Refused(said[0])
    if done.returncode != 0:
        sys.exit(f"arithmetic_error.py: {command[0]}: {said[0]}")
    return json.loads(done.stdout)


def mode_options(arithmetic, storage):
    return ["--arithmetic", arithmetic, "--storage", storage]


def split_modes(program, clip, folder):
    """The modes that there are, each arithmetic with each storage type, and what the program says of the others."""
    there, refused = [], {}
    for arithmetic in ARITHMETICS:
        try:
            run([program, "attend", *clip, "--schedule", "softmax", *mode_options(arithmetic, "f32"),
                 "--out", folder / "tried.npy", "--json"])
        except Refused as refusal:
            if "--arithmetic" not in str(refusal):
                raise
            refused[arithmetic] = str(refusal)
            continue
        there += [(arithmetic, storage) for storage in STORAGES]
    return there, refused


def measure(program, operator, modes, folder, rounds):
    """By mode what `compare` reports of each round."""
    reference = folder / "reference.npy"
    run([program, "attend", *operator, *mode_options(*REFERENCE), "--out", reference, "--json"])
    reports = {mode: [] for mode in modes}
    for _ in range(rounds):
        for mode in modes:
            reports[mode].append(run([program, "compare", reference, *operator, *mode_options(*mode), "--repeat", 3, "--json"]))
    return reports


def rows_of(operator, reports):
    seconds = {mode: [report["run"]["seconds"] for report in of_mode] for mode, of_mode in reports.items()}
    for mode, of_mode in reports.items():
        low, speed, high = numpy.quantile(numpy.divide(seconds[REFERENCE], seconds[mode]), (0.25, 0.5, 0.75))
        yield {"operator": operator, "arithmetic": mode[0], "storage": mode[1], "isa": of_mode[0]["run"]["isa"],
               "seconds": statistics.median(seconds[mode]), "speed": float(speed), "low": float(low), "high": float(high),
               "error_by_head": of_mode[0]["relative_l2_by_head"], "cosine_by_head": of_mode[0]["cosine_by_head"]}


def text_of(rows):
    heads = len(rows[0]["error_by_head"])
    errors = "".join(f"{f'error, head {h}':>15}" for h in range(heads))
    lines = [f"{'operator':<8} {'arithmetic':<10} {'storage':<7} {'seconds':>8} {'speed':>6} {'(quartiles)':<14}{errors}"
             f" {'cosine':>9}"]
    for r in rows:
        errors = "".join(f"{error:>15.1e}" for error in r["error_by_head"])
        quartiles = f"({r['low']:.2f} to {r['high']:.2f})"
        lines.append(f"{r['operator']:<8} {r['arithmetic']:<10} {r['storage']:<7} {r['seconds']:>8.4f} {r['speed']:>6.2f} "
                     f"{quartiles:<14}{errors} {min(r['cosine_by_head']):>9.6f}")
    return "\n".join(lines)


def context_of():
    return {"cpu": table.cpu_model(), "num_cpus": len(os.sched_getaffinity(0)),
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path, help="rehyat, built: build/examples/cli/rehyat")
    parser.add_argument("--data", type=pathlib.Path, default=DATA, help="folder of <name>_q.npy, _k.npy, _v.npy, each "
                        "[frames, tokens, heads, dim], and of phi.safetensors (%(default)s)")
    parser.add_argument("--name", default="vtest_l2", help="of the arrays (%(default)s)")
    parser.add_argument("--frames", type=int, help="the clip's first; all of them unless given")
    parser.add_argument("--rounds", type=int, default=5, help="of runs with all modes in turn (%(default)s)")
    parser.add_argument("--json", type=pathlib.Path, help="writes the rows here too")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        try:
            clip, title = write_clip(arguments, folder)
            modes, refused = split_modes(arguments.program, clip, folder)
            operators = {"exact": [*clip, "--schedule", "softmax"],
                         "hybrid": [*clip, "--phi", arguments.data / "phi.safetensors"]}
            rows = [row for operator, options in operators.items() for row in
                    rows_of(operator, measure(arguments.program, options, modes, folder, arguments.rounds))]
        except (OSError, Refused) as error:
            sys.exit(f"arithmetic_error.py: {error}")
    print(f"{title}; error: relative L2 distance from {REFERENCE[0]} arithmetic on {REFERENCE[1]}\n{text_of(rows)}")
    for arithmetic, reason in refused.items():
        print(f"without {arithmetic}: {reason}")
    if arguments.json:
        report = {"context": context_of(), "case": title, "rows": rows, "refused": refused}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
