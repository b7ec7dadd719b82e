#!/usr/bin/env python3
"""The C++ code of the README is the marked part of examples/minimal/minimal.cpp, which runs as a test of its own:
readme_test.py REPOSITORY"""
import re, sys

root = sys.argv[1]
program = open(f"{root}/examples/minimal/minimal.cpp").read()
marked = re.search(r"// README begin\n(.*?) *// README end", program, re.S).group(1)
lines = lambda text: [line.strip() for line in text.strip().splitlines()]
blocks = re.findall(r"```cpp\n(.*?)```", open(f"{root}/README.md").read(), re.S)
if not any(lines(marked) == lines(block)[-len(lines(marked)):] for block in blocks):
    sys.exit("README.md has no C++ block that ends in the marked lines of examples/minimal/minimal.cpp")
print("README.md shows the code that runs")
