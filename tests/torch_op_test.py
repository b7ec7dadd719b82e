#!/usr/bin/env python3
"""Tests of the PyTorch operator: torch_op_test.py FOLDER COMMAND...

FOLDER holds rehyat_torch.py and the library that it loads; COMMAND is the command-line program, which reads the
exporter's files.
"""
import argparse
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="where rehyat_torch.py lies")
    parser.add_argument("command", nargs="+", help="the command-line program")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.folder))
    from torch_op import support  # loads the operator

    support.program = arguments.command
    here = pathlib.Path(__file__).resolve().parent
    tests = unittest.TestLoader().discover(str(here / "torch_op"), top_level_dir=str(here))
    sys.exit(not unittest.TextTestRunner().run(tests).wasSuccessful())
