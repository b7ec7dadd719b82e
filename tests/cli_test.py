#!/usr/bin/env python3
"""Tests of the command-line program: cli_test.py [--cases DIR] COMMAND...

COMMAND is the program, with an emulator before it where one is needed. DIR holds the golden cases: folders of
case.json (the settings), the inputs and out.npy (float64).
"""
import argparse
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
from cli import support  # noqa: E402

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=pathlib.Path, default=support.golden_cases)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    support.golden_cases, support.program = arguments.cases, arguments.command
    support.isas = [isa for isa in support.ISAS if support.is_available(isa)]
    print("rehyat tests ran on:", *support.isas, flush=True)
    tests = unittest.TestLoader().discover(str(support.TESTS / "cli"), top_level_dir=str(support.TESTS))
    sys.exit(not unittest.TextTestRunner().run(tests).wasSuccessful())
