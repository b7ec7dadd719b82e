#!/usr/bin/env python3
"""Whether the register tiles of ISA units multiply and add in one instruction: fused.py OBJECT...

xsimd 8.1 spells AVX-512's fma as a product and a sum, which Clang keeps apart. Looked at are the loops of the disassembly
without another jump, whose arithmetic on whole vectors is multiplications and additions alone: none may add a product,
and there must be loops of a whole tile of fused ones, of floats, halves or bytes.
"""
import argparse
import re
import subprocess
import sys

FUSED = re.compile(r"vfn?m(add|sub)\d+p[hs]|vpdpbusd")
OTHER = re.compile(r"v(sub|div|sqrt|max|min|cmp|round|rndscale|reduce|scalef)\w*ps")
WHOLE_TILE, TILE_LOOPS = 12, 3  # AVX2: 4 rows of 3 vectors; AVX-512: 8 of 3. The units have more than 3 such loops


def straight_loops(disassembly):
    """Lists of (mnemonic, operands): what lies between a jump backwards and its target, without another jump or a return."""
    for function in disassembly.split("\n\n"):
        code = re.findall(r"^ *([0-9a-f]+):\t(?:{vex} )?(\S+) *(.*)$", function, re.M)
        index = {int(address, 16): i for i, (address, _, _) in enumerate(code)}
        for last, (_, name, operands) in enumerate(code):
            target = re.match(r"([0-9a-f]+) <", operands)
            first = index.get(int(target[1], 16), last + 1) if name.startswith("j") and target else last + 1
            if first <= last and not any(inner.startswith(("j", "ret")) for _, inner, _ in code[first:last]):
                yield [(inner, what) for _, inner, what in code[first:last + 1]]


def adds_a_product(loop):
    """Whether an addition reads what a multiplication wrote, in the same turn or the one before."""
    products = set()
    for name, masked in loop * 2:
        operands = re.sub(r"{.*?}", "", masked)
        *read, written = re.findall(r"%[yz]mm\d+", operands) or [None]
        if name == "vaddps" and products.intersection(read):
            return True
        if operands.endswith(str(written)):  # not to memory
            products.discard(written)
            if name == "vmulps":
                products.add(written)
    return False


def counts(loop):
    """Fused ones and other arithmetic than multiplications and additions, on vectors of 8 or 16 floats."""
    names = [name for name, operands in loop if re.search(r"%[yz]mm", operands)]
    return sum(bool(FUSED.fullmatch(name)) for name in names), sum(bool(OTHER.fullmatch(name)) for name in names)


def complaint(path):
    """What is wrong with an object, or nothing."""
    disassembly = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], stdout=subprocess.PIPE, text=True,
                                 check=True).stdout
    tiles = [(loop, counts(loop)[0]) for loop in straight_loops(disassembly) if counts(loop)[1] == 0]
    for loop, fused in tiles:
        if adds_a_product(loop):
            return f"a loop of {fused} fused multiply-adds multiplies and adds apart, too; expected all of them fused"
    whole = sum(fused >= WHOLE_TILE for _, fused in tiles)
    if whole < TILE_LOOPS:
        return f"{whole} loops of {WHOLE_TILE} or more fused multiply-adds, expected {TILE_LOOPS} or more"
    return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", nargs="+", metavar="OBJECT")
    found = {path: text for path in parser.parse_args().objects if (text := complaint(path))}
    for path, text in found.items():
        print(f"error: {path}: {text}")
    sys.exit(bool(found))
