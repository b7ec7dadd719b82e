#!/usr/bin/env python3
"""The code that is shown in a README is the marked part of a file that the tests build or run:
readme_test.py REPOSITORY"""
import pathlib, re, sys

# The main README shows other code too; in the guides there is no code but what is marked.
SHOWN = {
    "README.md": ["minimal/minimal.cpp"],
    "examples/ggml_op/README.md": ["ggml_op/clip.cpp", "ggml_op/CMakeLists.txt"],
    "examples/onnxruntime_op/README.md": ["onnxruntime_op/op.cpp", "onnxruntime_op/runtime.hpp",
                                          "onnxruntime_op/make_model.py", "onnxruntime_op/CMakeLists.txt"],
}
root = pathlib.Path(sys.argv[1])
lines = lambda text: [line.strip() for line in text.strip().splitlines()]
for readme, sources in SHOWN.items():
    blocks = [lines(block) for block in re.findall(r"```\w+\n(.*?)```", (root / readme).read_text(), re.S)]
    shown = set()
    for source in sources:
        marked = re.findall(r"(?://|#) README begin\n(.*?) *(?://|#) README end", (root / "examples" / source).read_text(),
                            re.S)
        if not marked:
            sys.exit(f"examples/{source} has no part between README begin and README end")
        for part in map(lines, marked):
            ends = [i for i, block in enumerate(blocks) if block[-len(part):] == part]
            if not ends:
                sys.exit(f"{readme} has no block that ends in the lines of examples/{source} from '{part[0]}' on")
            shown.update(ends)
    stray = set(range(len(blocks))) - shown
    if stray and readme != "README.md":
        sys.exit(f"{readme} shows code that no test runs: '{blocks[min(stray)][0]}' and so on")
    print(f"{readme} shows the code that runs: {len(shown)} blocks")
