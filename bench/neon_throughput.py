#!/usr/bin/env python3
"""How busy the NEON inner loops keep the FMA pipes of an Arm core, judged by llvm-mca.

Compiles the kernels of rehyat for NEON, one dispatch unit an arithmetic with the flags of
cmake/RehyatDispatch.cmake, and takes the inner loops of the full register tile from the machine code: innermost
loops whose arithmetic is nothing but a whole number of tiles' FMAs, which are fmla in float32 and float16, and sdot
in int8. The debug information says which function of the source each came from. Each loop goes to llvm-mca as it
is, with its loads, prefetches and address arithmetic.

  busy   FMAs of an iteration / (cycles of an iteration * pipes that take an FMA); 100 % is the core's peak
  bound  the same with llvm-mca's block reciprocal throughput: with no wait for a result
  spills accumulators that go through memory, in vectors stored per iteration. llvm-mca does not see an
         iteration wait for the store of the one before: a loop with spills is slower than it says

  bench/neon_throughput.py                                              # GCC
  bench/neon_throughput.py --compiler 'clang++ --target=aarch64-linux-gnu'
  bench/neon_throughput.py --arithmetic int8 --object neon.o --json neon.json     # an object compiled with -g
"""

import argparse
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import typing

ROOT = pathlib.Path(__file__).resolve().parent.parent
ITERATIONS = 1000


class Unit(typing.NamedTuple):
    """The kernels of an arithmetic."""
    prefix: str  # of its roles
    source: str
    flags: tuple
    fma: str  # a multiply-add
    expected: tuple  # roles of loops that it must have


UNITS = {
    "float32": Unit("", '#include "rehyat/kernel/instantiate.hpp"\n\nREHYAT_DEFINE_KERNELS(neon)\n', (), "fmla",
                    ("scores", "values")),
    "int8": Unit("int8 ", '#include "rehyat/kernel/instantiate_int8.hpp"\n\nREHYAT_DEFINE_KERNELS_IN(int8, neon)\n',
                 ("-march=armv8.2-a+dotprod",), "sdot", ("scores", "values")),
    "float16": Unit("float16 ", '#include "rehyat/kernel/instantiate_float16.hpp"\n\nREHYAT_DEFINE_KERNELS_IN(float16, neon)\n',
                    ("-march=armv8.2-a+fp16",), "fmla", ("scores", "values")),
}

# What a loop computes, by the function of the source that it was written in or inlined to, innermost first.
ROLES = {"score_block": "scores", "dense_layer": "phi layer", "add_outer_products": "state update",
         "join_linear": "state read", "softmax_step": "values", "accumulate": "values, state read",
         "narrow_scores": "scores", "half_scores": "scores", "narrow_values": "values"}
# A call of accumulate that was inlined is one of the two; its caller says which.
GENERAL = {"accumulate": ("join_linear", "softmax_step")}

MOVES = ("ld", "st", "prf", "mov", "dup", "ins", "fmov")
VECTOR_REGISTER = re.compile(r"\b[bhsdqv]\d+\b")


class Failure(Exception):
    """An error that the user can do something about."""


def find_tool(name, package):
    path = shutil.which(name)
    if path is None:
        raise Failure(f"{name} is missing: apt-get install {package}")
    return path


def run(command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{shlex.join(map(str, command))}\n{done.stderr.strip()}")
    return done.stdout


def compile_unit(unit, args, folder):
    command = shlex.split(args.compiler)
    find_tool(command[0], "clang" if "clang" in command[0] else "g++-aarch64-linux-gnu")
    source, built = folder / "neon.cpp", folder / "neon.o"
    source.write_text(unit.source)
    run(command + shlex.split(args.flags) + [*unit.flags, "-g", f"-I{ROOT / 'include'}", "-c", source, "-o", built])
    return built


def link(built, folder):
    """Sections of an object overlap: linked, every instruction has an address of its own."""
    linker = find_tool("aarch64-linux-gnu-ld", "binutils-aarch64-linux-gnu")
    linked = folder / "neon.elf"
    run([linker, "--entry=0", "--unresolved-symbols=ignore-all", built, "-o", linked])
    return linked


def disassemble(linked, llvm):
    """Per function a list of (address, instruction, branch target or None)."""
    objdump = find_tool(f"llvm-objdump-{llvm}", f"llvm-{llvm}")
    functions = []
    for line in run([objdump, "-d", "--no-show-raw-insn", linked]).splitlines():
        if re.match(r"[0-9a-f]+ <.*>:$", line):
            functions.append([])
        elif match := re.match(r"\s*([0-9a-f]+):\s+(\S.*)", line):
            instruction = re.sub(r"\s+", " ", match[2].split(" //")[0]).strip()
            target = re.search(r"^(?:b|b\.\w+|cbn?z|tbn?z) (?:.*, )?0x([0-9a-f]+)", instruction)
            functions[-1].append((int(match[1], 16), instruction, int(target[1], 16) if target else None))
    return functions


def innermost_loops(function):
    """Bodies of the loops that no other lies in: from the target of a backward branch to the branch."""
    index = {address: i for i, (address, _, _) in enumerate(function)}
    loops = [(index[target], i) for i, (_, _, target) in enumerate(function)
             if target is not None and index.get(target, i + 1) <= i]
    inner = [loop for loop in loops
             if not any(other != loop and loop[0] <= other[0] and other[1] <= loop[1] for other in loops)]
    return [function[begin:end + 1] for begin, end in inner]


def mnemonics(body):
    return [instruction.split()[0] for _, instruction, _ in body]


def is_tile(body, fma, tile):
    """A whole number of tiles' FMAs, and no other arithmetic on vectors."""
    fmas = mnemonics(body).count(fma)
    others = [text for _, text, _ in body if VECTOR_REGISTER.search(text)
              and not text.startswith(fma) and not text.startswith(MOVES)]
    return fmas > 0 and fmas % tile == 0 and not others


def source_functions(linked, llvm, address):
    """The functions of the source at an address, innermost first: an inlined one, then what it was inlined to."""
    symbolizer = find_tool(f"llvm-symbolizer-{llvm}", f"llvm-{llvm}")
    frames = json.loads(run([symbolizer, "--output-style=JSON", "--inlines", f"--obj={linked}", hex(address)]))
    if isinstance(frames, list):
        frames = frames[0]
    return [frame["FunctionName"] for frame in frames["Symbol"]]


def role_of(names):
    found = [key for name in names for key in ROLES if re.search(rf"\b{key}\b", name)]
    if not found:
        return None
    callers = [key for key in found if key in GENERAL.get(found[0], ())]
    return ROLES[callers[0] if callers else found[0]]


def find_loops(unit, linked, llvm, tile):
    """The tiles' loops with their roles; the same code found twice (inlined to two callers) once."""
    found = {}
    for function in disassemble(linked, llvm):
        for body in innermost_loops(function):
            if not is_tile(body, unit.fma, tile):
                continue
            first = next(address for address, text, _ in body if text.startswith(unit.fma))
            names = source_functions(linked, llvm, first)
            role = role_of(names)
            if role is None:
                print(f"skipped: a loop of {names[0]}, of no known role", file=sys.stderr)
                continue
            found.setdefault((role, tuple(mnemonics(body))), (role, body))
    missing = [role for role in unit.expected if not any(key[0].startswith(role) for key in found)]
    if missing:
        raise Failure(f"found no inner loop of {' and '.join(missing)}: the object has no debug information (-g), or "
                      f"a tile has another number of FMAs than --tile={tile}")
    loops = sorted(found.values(), key=lambda item: list(ROLES.values()).index(item[0]))
    return [(unit.prefix + role, body) for role, body in loops]


def assembly(body):
    """The loop as llvm-mca reads it: branches to a label."""
    lines = [re.sub(r"0x[0-9a-f]+(?: <.*>)?$", "loop", text) if target is not None else text
             for _, text, target in body]
    return "loop:\n" + "".join(f"\t{line}\n" for line in lines)


def simulate(body, cpu, llvm):
    mca = find_tool(f"llvm-mca-{llvm}", f"llvm-{llvm}")
    command = [mca, "-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", f"-iterations={ITERATIONS}"]
    report = json.loads(run(command + ["--json"], assembly(body)))
    bottlenecks = run(command + ["--bottleneck-analysis"], assembly(body))
    return report, bottlenecks


def usage(report):
    """Cycles of an iteration that each unit is busy, the busiest first; pipes of the same kind together."""
    resources = report["TargetInfo"]["Resources"]
    region = report["CodeRegions"][0]
    totals = {}
    for entry in region["ResourcePressureView"]["ResourcePressureInfo"]:
        if entry["InstructionIndex"] == len(region["Instructions"]):
            name = re.split(r"[.\0]", resources[entry["ResourceIndex"]])[0]
            totals[name] = max(totals.get(name, 0), entry["ResourceUsage"])
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


def bottleneck(text):
    """The part of the simulated cycles that waited, and for what; empty if none did."""
    waits = re.findall(r"^\s*-? ?(\w[\w ]*\w):?\s+\[ ([\d.]+)% \]", text, re.MULTILINE)
    return {name: float(share) for name, share in waits if float(share) >= 1}


def measure(unit, role, body, cpu, llvm):
    report, text = simulate(body, cpu, llvm)
    region = report["CodeRegions"][0]
    names = mnemonics(body)
    fmas = names.count(unit.fma)
    pipes = round(1 / region["InstructionInfoView"]["InstructionList"][names.index(unit.fma)]["RThroughput"])
    cycles = region["SummaryView"]["TotalCycles"] / ITERATIONS
    throughput = region["SummaryView"]["BlockRThroughput"]
    stores = sum(2 if name == "stp" else 1 for name in names if name.startswith("st"))
    return {"loop": role, "cpu": cpu, "instructions": len(body), "fmas": fmas,
            "loads": sum(name.startswith("ld") for name in names),
            "prefetches": sum(name.startswith("prf") for name in names), "spills": stores,
            "fma_pipes": pipes, "cycles": round(cycles, 3), "block_rthroughput": throughput,
            "busy": round(fmas / (cycles * pipes), 4), "bound": round(min(1, fmas / (throughput * pipes)), 4),
            "unit_cycles": usage(report), "waits_percent": bottleneck(text)}


def table(rows):
    lines = [f"{'loop':<20}{'core':<14}{'instr.':>7}{'FMAs':>6}{'loads':>7}{'prefetch':>10}{'spills':>8}"
             f"{'cycles':>9}{'RThroughput':>13}{'busy':>8}{'bound':>8}  busiest units; waits"]
    for row in rows:
        units = ", ".join(f"{name} {cycles:.2f}" for name, cycles in list(row["unit_cycles"].items())[:2])
        waits = ", ".join(f"{name} {share:.0f} %" for name, share in row["waits_percent"].items()
                          if name in ("Resource Pressure", "Data Dependencies")) or "none"
        lines.append(f"{row['loop']:<20}{row['cpu']:<14}{row['instructions']:>7}{row['fmas']:>6}{row['loads']:>7}"
                     f"{row['prefetches']:>10}{row['spills']:>8}{row['cycles']:>9.2f}"
                     f"{row['block_rthroughput']:>13.2f}{100 * row['busy']:>6.1f} %{100 * row['bound']:>6.1f} %"
                     f"  {units}; {waits}")
    return "\n".join(lines)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arithmetic", nargs="+", choices=UNITS, default=list(UNITS), help="%(default)s")
    parser.add_argument("--object", type=pathlib.Path, help="an AArch64 object of the kernels of one arithmetic, compiled "
                        "with -g, instead of compiling one")
    parser.add_argument("--compiler", default="aarch64-linux-gnu-g++", help="with its options (%(default)s)")
    parser.add_argument("--flags", default="-std=c++20 -O3 -DNDEBUG -ffp-contract=off -fno-exceptions -fno-rtti",
                        help="of the unit (%(default)s)")
    parser.add_argument("--cpu", nargs="+", default=["neoverse-v2", "neoverse-n2"], help="llvm-mca's names of cores "
                        "(neoverse-v2, with 4 vector pipes, and neoverse-n2, with 2)")
    parser.add_argument("--llvm", default="19", help="version of the LLVM tools (%(default)s); 14 has no neoverse-v2")
    parser.add_argument("--tile", type=int, default=24, help="FMAs of a step of the full tile (%(default)s = 8 x 3)")
    parser.add_argument("--json", type=pathlib.Path, help="writes the figures here too")
    parser.add_argument("--show", action="store_true", help="prints the loops")
    return parser.parse_args()


def main():
    args = arguments()
    if args.object and len(args.arithmetic) != 1:
        raise Failure("--object: say of which --arithmetic")
    loops = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for unit in map(UNITS.get, args.arithmetic):
            linked = link(args.object or compile_unit(unit, args, folder), folder)
            loops += [(unit, role, body) for role, body in find_loops(unit, linked, args.llvm, args.tile)]
    rows = [measure(unit, role, body, cpu, args.llvm) for unit, role, body in loops for cpu in args.cpu]
    print(table(rows))
    if args.show:
        for _, role, body in loops:
            print(f"\n{role}\n{assembly(body)}", end="")
    if args.json:
        built_with = str(args.object) if args.object else f"{args.compiler} {args.flags}"
        args.json.write_text(json.dumps({"built_with": built_with, "llvm": args.llvm, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"neon_throughput.py: {failure}")
