"""Runs rehyat and other libraries side by side on the same clips: every peer is a process with its inputs loaded and
prepared; first each runs once and its output is compared with rehyat's, then all run in turn, round after round, with
measurements of the FMA peak between. See README.md here."""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

try:
    import clips
except ImportError as missing:
    sys.exit(f"{missing}; install NumPy (Debian: python3-numpy)")
import contestants
import onnx_graphs
import report
import table
from contestants import PeerError

FLOAT32_TOLERANCE = 1e-5  # relative L2 of two float32 computations of the same
# where something was rounded to float16 or to bytes
ROUNDED_TOLERANCE = {"float16": 5e-3, "int8": 3e-2}
SETTLE_SECONDS = 0.02  # for threads of the last run that still spin


def parse_arguments():
    parser = argparse.ArgumentParser(description="rehyat beside other libraries, on the same clips, in turn.",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"),
                        help="where rehyat's benchmarks are built")
    parser.add_argument("--shape", default="31x20x30_2x128", help="<frames>x<height>x<width>_<heads>x<head dim>")
    parser.add_argument("--frames", type=integers,
                        help="numbers of frames to run the shape with, with commas between; its own if not given")
    parser.add_argument("--chunk-frames", type=positive, default=3, help="frames of a chunk of hybrid attention")
    parser.add_argument("--overlap-frames", type=int, default=1, help="frames that it also sees by softmax")
    parser.add_argument("--hidden", type=positive, default=256, help="width of both layers of its feature maps")
    parser.add_argument("--threads", type=integers, default=[1], help="numbers of threads, with commas between")
    parser.add_argument("--rounds", type=positive, default=5, help="timed runs of every peer, after an untimed one")
    parser.add_argument("--budget", type=float, default=120, metavar="SECONDS",
                        help="no further round for a peer whose runs on a clip took as long together; one whose first "
                        "run did is rated by that")
    parser.add_argument("--peers", default="all", help="with commas between, of "
                        f"{', '.join(contestants.all_peers(HERE))}; rehyat always runs")
    parser.add_argument("--memory-limit", type=float, default=4, metavar="GB",
                        help="peers that would store more scores of queries times keys are skipped")
    parser.add_argument("--time-limit", type=float, default=600, metavar="SECONDS",
                        help="of several --frames, peers whose run would take longer, going by the clip before, are "
                        "skipped")
    parser.add_argument("--scratch", type=pathlib.Path, metavar="FOLDER",
                        help="where inputs and outputs are for a time; the system's folder for such files if not given")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("peers.json"), help="where the rows go")
    arguments = parser.parse_args()
    if not arguments.out.parent.is_dir():
        parser.error(f"--out is {arguments.out}, whose folder is not there")
    try:
        arguments.clips = clips_of(arguments)
        arguments.peers = chosen_peers(arguments)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer above 0")
    return int(text)


def integers(text):
    return [positive(part) for part in text.split(",")]


def clips_of(arguments):
    shape = clips.parse_shape(arguments.shape)
    if arguments.overlap_frames < 0:
        raise ValueError(f"--overlap-frames is {arguments.overlap_frames}; expected 0 or more")
    return [clips.Clip(**{**shape, "frames": frames}, chunk_frames=arguments.chunk_frames,
                       overlap_frames=arguments.overlap_frames, hidden=arguments.hidden)
            for frames in arguments.frames or [shape["frames"]]]


def chosen_peers(arguments):
    known = contestants.all_peers(arguments.build.resolve())
    names = list(known) if arguments.peers == "all" else arguments.peers.split(",")
    for name in names:
        if name not in known:
            raise ValueError(f"there is no peer {name}; there are {', '.join(known)}")
    return {name: known[name] for name in known if name == "rehyat" or name in names}


def judge(contestant, reference):
    """Notes the distance of a contestant's output from rehyat's; raises PeerError if they disagree."""
    if reference.skipped:
        raise PeerError("rehyat's own output, to compare with, is missing")
    tolerance = max((tolerance for rounded, tolerance in ROUNDED_TOLERANCE.items()
                     if rounded in contestant.about["arithmetic"]), default=FLOAT32_TOLERANCE)
    contestant.error = clips.distance(contestant.output, reference.output)
    if not contestant.error <= tolerance:
        raise PeerError(f"its output is {contestant.error:.1e} from rehyat's; at most {tolerance:.0e} is expected")


class Forecast:
    """How long a run will take, by the last clip's with the same number of threads: exact attention grows with the
    square of the tokens, hybrid attention with the tokens."""

    def __init__(self, limit):
        self._limit = limit
        self._last = {}

    def note(self, rows):
        for r in rows:
            if "seconds" in r:
                self._last[r["peer"], r["operator"], r["threads"]] = r["seconds"], r["tokens"]

    def check(self, contestant, clip, threads):
        last_seconds, last_tokens = self._last.get((contestant.name, contestant.operator, threads), (0, 1))
        seconds = last_seconds * (clip.tokens / last_tokens) ** (2 if contestant.operator == "exact" else 1)
        if seconds > self._limit:
            raise PeerError(f"would run for about {seconds:.0f} s; the limit is {self._limit:g} s")


def start_all(arguments, clip, threads, folder, forecast):
    """All contestants, each having run once; those that cannot run or disagree say so and are skipped."""
    started, references = [], {}
    for name, peer in arguments.peers.items():
        for operator in peer.operators:
            say(f"{clip.name}, threads {threads}: {name} {operator} ...")
            c = contestants.Contestant(name, peer, operator, folder)
            reference = references.setdefault(operator.partition("_")[0], c)
            started.append(c)
            try:
                forecast.check(c, clip, threads)
                c.start(threads, 1e9 * arguments.memory_limit)
                if c is not reference:
                    judge(c, reference)
            except PeerError as reason:
                c.skip(reason)
            if c is not reference:
                c.output.unlink(missing_ok=True)
    return started


def run_rounds(running, rounds, budget):
    """Times the contestants in turn, rehyat the first; returns the largest of the FMA peaks measured in between."""
    peak = running[0].ask("peak")["gflops"]
    for c in running:
        if c.runs[0] < budget:
            c.runs = []  # the first was a warm-up
    for _ in range(rounds):
        for c in running:
            if c.skipped or sum(c.runs) >= budget:
                continue
            time.sleep(SETTLE_SECONDS)
            peak = max(peak, running[0].ask("peak")["gflops"])
            try:
                c.runs.append(c.ask("run")["seconds"])
            except PeerError as reason:
                c.skip(reason)
    return peak


def compare(arguments, clip, threads, folder, forecast):
    """The rows of one clip and number of threads, and what rehyat says of itself."""
    started = start_all(arguments, clip, threads, folder, forecast)
    running = [c for c in started if not c.skipped]
    ours = {c.operator: c.about for c in running if c.name == "rehyat"}
    if not ours:
        sys.exit(f"rehyat does not run: {started[0].skipped}")
    say(f"{clip.name}, threads {threads}: {len(running)} in turn ...")
    peak = run_rounds(running, arguments.rounds, arguments.budget)
    for c in running:
        c.close()
    rows = [report.row(clip, threads, c, ours.get(c.operator, {}).get("operations"), peak) for c in started]
    return rows, next(iter(ours.values()))


def context_of(arguments, rehyat):
    hybrid = dataclasses.asdict(arguments.clips[0])
    return {"cpu": table.cpu_model(), "num_cpus": len(os.sched_getaffinity(0)),
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "compiler": rehyat["compiler"],
            "rehyat_version": rehyat["version"], "isa": rehyat["isa"],
            "hybrid": {key: hybrid[key] for key in ("chunk_frames", "overlap_frames", "hidden")}}


def say(text):
    print(text, file=sys.stderr)


def main():
    arguments = parse_arguments()
    forecast = Forecast(arguments.time_limit)
    context, rows = None, []
    for clip in arguments.clips:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as name:
            folder = pathlib.Path(name)
            phi = clips.write_inputs(clip, folder)
            if "onnxruntime" in arguments.peers:
                onnx_graphs.write_models(clip, phi, folder)
            for threads in arguments.threads:
                new, rehyat = compare(arguments, clip, threads, folder, forecast)
                forecast.note(new)
                context = context or context_of(arguments, rehyat)
                rows += new
                arguments.out.write_text(json.dumps({"context": context, "rows": rows}, indent=1) + "\n")
                print(report.table(new) + "\n", flush=True)


if __name__ == "__main__":
    main()
