"""Makes all figures of the README: runs the benchmark programs, the peers and the scripts of this folder one after the
other, leaves their JSON in a folder, and makes figures.txt, figures.json and plots of it. Builds nothing. What needs
something that is not there is skipped with the reason."""

import argparse
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent

# The quick rows, and those of the README that take longer.
QUOTED = ("^quick/|^full/(exact(_int8|_float16)?/chunk|hybrid_causal(_int8|_float16)?/(phone|wan)).*_12x128/"
          "(avx512|neon|avx2/threads:1/head_major)")
QUOTED_PAIRS = "^quick/|^full/int8.*/avx2/threads:1"
CORES = len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is run: all of it for the README, or little to see that it works."""
    rows: str  # of bench_operators
    runs: int
    rounds: int  # of the peers
    shape: str  # of the peers: 121 frames at 320 x 480, what a phone makes
    hidden: int
    frames: str  # of the sweep; its clips are small, so that exact attention gets to 1,000
    time_limit: int  # seconds of a peer's run in the sweep
    cache_clip: str
    pairs: str  # rows of bench_ratios and bench_reference
    real_frames: int  # of the real q, k, v, in every arithmetic


FULL = Sizes(QUOTED, 5, 2, "31x20x30_12x128", 256, "31,62,125,250,500,1000", 30, "13x20x30", QUOTED_PAIRS, 21)
TRIAL = Sizes("^quick/.*/small", 1, 1, "8x8x8_2x64", 64, "8,16,32,64", 2, "7x8x8", "^quick/.*/small", 6)


def google_benchmark(name, rows=lambda sizes: "^quick/"):
    """Command of a Google Benchmark program that leaves <step>.json."""
    def command(a, out):
        return [a.build / "bench" / f"bench_{name}", f"--benchmark_out={out}.json", "--benchmark_out_format=json",
                f"--runs={a.sizes.runs}", f"--threads={a.threads}", f"--benchmark_filter={rows(a.sizes)}"]
    return command


def compare(a, out, shape, hidden, *options):
    return [sys.executable, HERE / "peers" / "compare.py", "--build", a.build, "--rounds", a.sizes.rounds,
            "--shape", shape, "--hidden", hidden, *options, "--out", f"{out}.json"]


def peers(a, out):
    return compare(a, out, a.sizes.shape, a.sizes.hidden, "--threads", a.threads, "--budget", 60)


def frames(a, out):
    return compare(a, out, "31x8x8_4x64", 64, "--frames", a.sizes.frames, "--threads", a.threads.split(",")[-1],
                   "--budget", 5, "--time-limit", a.sizes.time_limit)


def script(name, *arguments):
    """Command of a script of this folder that leaves <step>.json."""
    def command(a, out):
        return [sys.executable, HERE / name, *(argument(a) for argument in arguments), "--json", f"{out}.json"]
    return command


@dataclasses.dataclass(frozen=True)
class Step:
    about: str
    minutes: float  # on 2 cores
    command: object


STEPS = {
    "operators": Step("all operators, instruction sets, threads", 12,
                      google_benchmark("operators", lambda sizes: sizes.rows)),
    "ratios": Step("layouts, threads, streaming: pairs in turn", 3,
                   google_benchmark("ratios", lambda sizes: sizes.pairs)),
    "reference": Step("hybrid beside exact attention and Eigen, in turn", 1,
                      google_benchmark("reference", lambda sizes: sizes.pairs)),
    "kernels": Step("the kernels alone", 1, google_benchmark("kernels")),
    "chunking": Step("a grid of Tc and To", 1, google_benchmark("operators", lambda _: "^chunking/")),
    "window": Step("a grid of Tc and To on real q, k, v", 0.2, script("window_error.py")),
    "arithmetic": Step("speed and error of each arithmetic on real q, k, v", 2,
                       script("arithmetic_error.py", lambda a: a.program, lambda a: f"--frames={a.sizes.real_frames}",
                              lambda a: f"--rounds={a.sizes.runs}")),
    "peers": Step("other libraries, side by side", 15, peers),
    "frames": Step("the same, by number of frames", 7, frames),
    "neon": Step("NEON's inner loops in llvm-mca", 0.5, script("neon_throughput.py")),
    "cache": Step("misses of the last level in cachegrind", 5,
                  script("cache_misses.py", lambda a: a.build / "bench" / "bench_once",
                         lambda a: f"--clip={a.sizes.cache_clip}")),
}


def parse_arguments():
    steps = "\n".join(f"  {name:<10} {step.about}, {step.minutes:g} min" for name, step in STEPS.items())
    parser = argparse.ArgumentParser(prog="bench/run.sh", description=f"{__doc__}\n\nsteps:\n{steps}",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path, nargs="?", default=pathlib.Path("build"),
                        help="where the benchmarks are built (%(default)s)")
    parser.add_argument("out", type=pathlib.Path, nargs="?", help="where all goes (<build>/bench_results)")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(STEPS), metavar="STEP,...",
                        help="steps to run; none: just tables and plots of what is there")
    parser.add_argument("--runs", type=int, help=f"least runs of a row of the programs ({FULL.runs})")
    parser.add_argument("--rounds", type=int, help=f"timed runs of the peers ({FULL.rounds})")
    parser.add_argument("--threads", default="1" if CORES == 1 else f"1,{CORES}",
                        help="numbers of threads, with commas between; the last is that of the frames (%(default)s)")
    parser.add_argument("--program", type=pathlib.Path, help="rehyat, built (<build>/examples/cli/rehyat)")
    parser.add_argument("--plots", type=pathlib.Path, metavar="FOLDER", help="where the plots go (<out>/plots)")
    parser.add_argument("--strict", action="store_true", help="a step that cannot run is an error")
    parser.add_argument("--trial", action="store_true", help="little sizes: shows that it runs, figures mean nothing")
    arguments = parser.parse_args()
    return checked(parser, arguments)


def checked(parser, a):
    a.only = [] if a.only == ["none"] else a.only
    unknown = [name for name in a.only if name not in STEPS]
    if unknown:
        parser.error(f"there is no step {', '.join(unknown)}; there are {', '.join(STEPS)}, or none")
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", a.threads):
        parser.error(f"--threads is {a.threads}; expected numbers above 0 with commas between")
    if not (a.build / "bench").is_dir():
        parser.error(f"{a.build}/bench is missing: configure with REHYAT_BUILD_BENCH=ON and build first")
    a.out = a.out or a.build / "bench_results"
    a.program = a.program or a.build / "examples" / "cli" / "rehyat"
    a.plots = a.plots or a.out / "plots"
    sizes = TRIAL if a.trial else FULL
    a.sizes = dataclasses.replace(sizes, runs=a.runs or sizes.runs, rounds=a.rounds or sizes.rounds)
    return a


def run_shown(command, output):
    """Runs a command that writes to `output`, and shows what it says on stderr; its status, and the last it said."""
    said = ""
    with subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            print(f"  {line.rstrip()}", file=sys.stderr, flush=True)
            said = line.strip() or said
    return process.returncode, said


def run_step(name, arguments):
    """Runs a step; its output goes to <out>/<step>.txt. Returns why it was skipped, if it was. What an earlier run
    left is then gone: it would look like this one's."""
    step, out = STEPS[name], arguments.out / name
    for old in (out.with_suffix(".json"), out.with_suffix(".txt")):
        old.unlink(missing_ok=True)
    command = [str(part) for part in step.command(arguments, out)]
    about = "trial" if arguments.trial else f"about {step.minutes:g} min"
    print(f"{name}: {step.about} ({about}) ...", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        with open(f"{out}.txt", "w") as output:
            status, said = run_shown(command, output)
    except OSError as error:
        return f"{error.strerror}: {command[0]}"
    if status != 0:
        pathlib.Path(f"{out}.json").unlink(missing_ok=True)  # half of it
        return said or f"it ended with status {status}"
    print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return None


def main():
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in STEPS:
        if name in arguments.only and (reason := run_step(name, arguments)):
            print(f"{name}: skipped: {reason}", file=sys.stderr, flush=True)
            if arguments.strict:
                sys.exit(1)
    if subprocess.run([sys.executable, HERE / "table.py", arguments.out]).returncode != 0:
        sys.exit(1)
    plotted = subprocess.run([sys.executable, HERE / "plots.py", arguments.out / "figures.json",
                              "--out", arguments.plots])
    print(f"{arguments.out / 'figures.txt'}, {arguments.out / 'figures.json'}", file=sys.stderr)
    sys.exit(plotted.returncode)


if __name__ == "__main__":
    main()
