#!/bin/sh
# Runs the quick rows of all benchmarks (about five minutes; leave the machine to it) and writes <out>/figures.json
# and <out>/figures.txt, a table that says the machine and the date.
#
#   bench/run.sh [build folder] [out folder] [options of the programs: --runs=9 --threads=1,2,4 --benchmark_filter=...]
set -eu
build=${1:-build}
out=${2:-$build/bench_results}
[ $# -lt 1 ] || shift
[ $# -lt 1 ] || shift
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)

mkdir -p "$out"
for name in operators reference kernels; do
  program=$build/bench/bench_$name
  if [ ! -x "$program" ]; then
    echo "$program is missing: configure with REHYAT_BUILD_BENCH=ON and build first" >&2
    exit 2
  fi
  echo "$name ..." >&2
  "$program" --benchmark_out="$out/$name.json" --benchmark_out_format=json "$@" >"$out/$name.log"
done
python3 "$here/table.py" "$out" operators reference kernels
cat "$out/figures.txt"
