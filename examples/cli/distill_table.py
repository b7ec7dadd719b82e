#!/usr/bin/env python3
"""What the options of `rehyat distill` buy: a Markdown table of relative L1 by head and of time, medians over seeds.

A setting is options of distill without their dashes, in one word for the shell: "hidden=256 features=256", keep-chunks,
or "" for the base. Each is trained once a seed, with --base's options where it has none of its own:

    distill_table.py --clip q.npy,k.npy,v.npy --base "steps=400 threads=2" "" features=64 features=256 keep-chunks
"""
import argparse
import ast
import json
import pathlib
import shlex
import statistics
import struct
import subprocess
import sys
import tempfile

PARTS = ("train", "validation")


def options_in(setting):
    """"features=64 keep-chunks" as {"features": "64", "keep-chunks": None}."""
    pairs = (word.partition("=") for word in setting.split())
    return {name.lstrip("-"): value if equals else None for name, equals, value in pairs}


def flags(options):
    return [word for name, value in options.items() for word in ["--" + name] + ([] if value is None else [str(value)])]


def triple(text):
    """The option's Q,K,V as options of attend."""
    files = text.split(",")
    if len(files) != 3:
        raise argparse.ArgumentTypeError(f"{text}: expected three files, Q,K,V")
    return dict(zip("qkv", files))


class Program:

    def __init__(self, command, folder):
        self.command, self.folder = shlex.split(command), folder

    def run(self, *arguments):
        """The JSON object of a run."""
        command = [*self.command, *map(str, arguments), "--json"]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # progress and errors are shown
        except OSError as error:
            sys.exit(f"distill_table.py: {self.command[0]}: {error.strerror}; expected the program, see --program")
        if done.returncode != 0:
            sys.exit(f"distill_table.py: exit status {done.returncode} of: {shlex.join(command)}")
        return json.loads(done.stdout)


class HeldOut:
    """A clip that is not trained on: how far hybrid attention is from the teacher, over queries with linear keys."""

    def __init__(self, program, clip):
        self.program, self.clip, self.teachers = program, clip, {}

    def errors(self, report, features):
        """By head, with the options `features` in the chunks of `report`."""
        chunks = {"chunk-frames": report["chunk_frames"], "overlap-frames": report["overlap_frames"]}
        scale = {} if report["scale"] is None else {"scale": report["scale"]}
        first = (report["overlap_frames"] // report["chunk_frames"] + 1) * report["chunk_frames"]
        compared = self.program.run("compare", self.teacher(report, chunks, scale), "--first-frame", first,
                                    *flags(self.clip | chunks | scale | features))
        return compared["relative_l1_by_head"]

    def teacher(self, report, chunks, scale):
        key = report["teacher"], report["chunk_frames"], report["scale"]
        if key not in self.teachers:
            out = self.program.folder / f"teacher{len(self.teachers)}.npy"
            everything = 2**40  # frames that a chunk overlaps: all before it keep softmax, no key is linear
            schedule = {"schedule": "softmax"} if report["teacher"] == "full" else (
                chunks | {"overlap-frames": everything, "feature-map": "elu1"})
            self.program.run("attend", *flags(self.clip | schedule | scale | {"out": out}))
            self.teachers[key] = out
        return self.teachers[key]

    def silence(self):
        """Features that are 0."""
        return {"phi-" + side: self.zeros(self.clip[side]) for side in "qk"}

    def zeros(self, path):
        with open(path, "rb") as file:
            major = file.read(8)[6]
            length, = struct.unpack("<H" if major == 1 else "<I", file.read(2 if major == 1 else 4))
            shape = ast.literal_eval(file.read(length).decode())["shape"][:-1]
        header = str(dict(descr="<f2", fortran_order=False, shape=(*shape, 1))).encode() + b"\n"
        count = 1
        for extent in shape:
            count *= extent
        out = self.program.folder / (pathlib.Path(path).name + ".zeros.npy")
        out.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(2 * count))
        return out


def errors_of(report, way):
    """[head][part] of a way to attend: window, elu1 or distilled."""
    return [[head[part][way] for part in PARTS] for head in report["heads"]]


def with_held_out(errors, held_out):
    return [[*parts, held] for parts, held in zip(errors, held_out)]


def medians(runs):
    """[head][part] from one of these a seed."""
    return [[statistics.median(values) for values in zip(*of_head)] for of_head in zip(*runs)]


def row(label, errors, note=""):
    cells = [" / ".join(f"{value:.3f}" for value in of_head) for of_head in errors]
    print("| " + " | ".join([label, *cells, note]) + " |", flush=True)


def measure(program, arguments, setting, held_out):
    """The reports of a setting, and [seed][head][part] of what was distilled."""
    options = options_in(arguments.base) | options_in(setting)
    weights = program.folder / "phi.safetensors"
    reports, errors = [], []
    for seed in range(arguments.seeds):
        clips = [word for clip in arguments.clip for word in ("--clip", ",".join(clip.values()))]
        reports.append(program.run("distill", *clips, *flags({"seed": seed} | options | {"out": weights})))
        errors.append(errors_of(reports[-1], "distilled"))
        if held_out:
            errors[-1] = with_held_out(errors[-1], held_out.errors(reports[-1], {"phi": weights}))
    return reports, errors


def baselines(report, held_out):
    """Label and errors of what needs no training."""
    for way, name, features in (("window", "window alone", None), ("elu1", "elu1", {"feature-map": "elu1"})):
        errors = errors_of(report, way)
        if held_out:
            errors = with_held_out(errors, held_out.errors(report, features or held_out.silence()))
        yield f"{name}; {report['teacher']}, chunks of {report['chunk_frames']}, overlap {report['overlap_frames']}", errors


def table(program, arguments):
    held_out = arguments.held_out and HeldOut(program, arguments.held_out)
    shown = []
    for setting in arguments.settings:
        reports, errors = measure(program, arguments, setting, held_out)
        heads = reports[0]["heads"]
        if not shown:
            parts = " / ".join([*PARTS, "held out"] if held_out else PARTS)
            print(f"Relative L1: {parts}; medians of {arguments.seeds} seeds; base: {arguments.base or 'defaults'}\n")
            row_of_names = ["setting", *(f"head {head['head']}" for head in heads), "seconds"]
            print("| " + " | ".join(row_of_names) + " |\n|" + "---|" * len(row_of_names))
        if errors_of(reports[0], "window") not in shown:  # other chunks have other windows
            shown.append(errors_of(reports[0], "window"))
            for label, known in baselines(reports[0], held_out):
                row(label, known)
        fell_back = sum(head["fell_back"] for report in reports for head in report["heads"])
        note = f"; {fell_back} of {len(reports) * len(heads)} heads fell back" if fell_back else ""
        seconds = statistics.median(report["seconds"] for report in reports)
        row((setting or "base") + note, medians(errors), f"{seconds:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+", metavar="SETTING", help="options without dashes, a row each")
    parser.add_argument("--clip", type=triple, action="append", required=True, metavar="Q,K,V", help="trained on; once a clip")
    parser.add_argument("--held-out", type=triple, metavar="Q,K,V", help="another clip of the layer, only measured on")
    parser.add_argument("--base", default="", help="options of every setting")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of a setting, with seeds 0, 1, ... (%(default)s)")
    parser.add_argument("--program", default="rehyat", help="the command that runs rehyat (%(default)s)")
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error(f"--seeds is {arguments.seeds}, expected at least 1")
    with tempfile.TemporaryDirectory() as folder:
        table(Program(arguments.program, pathlib.Path(folder)), arguments)
