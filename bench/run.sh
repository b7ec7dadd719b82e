#!/bin/sh
# Makes all figures of the README: runs the benchmarks, the peers and the scripts (about 50 minutes; leave the machine
# to it), and writes tables that say machine, date and versions, and the plots. Options: run.sh --help
#
#   bench/run.sh build                                  # all, into build/bench_results
#   bench/run.sh build --only operators,chunking        # some; what an earlier run left in the folder is kept
#   PYTHON=python3.11 bench/run.sh build --trial        # all at little sizes, to see that it works
set -eu
exec "${PYTHON:-python3}" "$(dirname -- "$0")/run.py" "$@"
