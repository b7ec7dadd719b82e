#!/usr/bin/env bash
# Runs fuzzers, each on a copy of its corpus, and fails on the first finding, saying how to replay it:
#   run.sh BUILD_DIR SECONDS [FUZZER...]
# SECONDS: for each fuzzer; 0 runs the corpus and nothing else. Without names all that BUILD_DIR has are run, one after
# another. What is found, and the grown corpus, stay in BUILD_DIR/fuzz/FUZZER.
set -euo pipefail

if [[ $# -lt 2 || ! $2 =~ ^[0-9]+$ ]]; then
  sed -n '2,5s/^# \?//p' "$0" >&2
  exit 2
fi
source_dir=$(cd "$(dirname "$0")" && pwd)
build_dir=$(cd "$1" && pwd)
seconds=$2
shift 2

fuzzers=("$@")
if [[ ${#fuzzers[@]} -eq 0 ]]; then
  for program in "$build_dir"/tests/fuzz/*_fuzz; do
    name=$(basename "$program" _fuzz)
    if [[ -x $program ]]; then fuzzers+=("$name"); fi
  done
fi
if [[ ${#fuzzers[@]} -eq 0 ]]; then
  echo "no fuzzers in $build_dir: configure it with -DCMAKE_CXX_COMPILER=clang++ -DREHYAT_BUILD_FUZZERS=ON" >&2
  exit 2
fi

for name in "${fuzzers[@]}"; do
  program=$build_dir/tests/fuzz/${name}_fuzz
  work=$build_dir/fuzz/$name
  if [[ ! -x $program ]]; then
    echo "there is no fuzzer $name: $program is missing" >&2
    exit 2
  fi
  rm -rf "$work"
  mkdir -p "$work/corpus" "$work/findings"
  cp "$source_dir/corpus/$name"/* "$work/corpus"

  options=(-artifact_prefix="$work/findings/" -timeout=20 -print_final_stats=1)
  if [[ -f $source_dir/$name.dict ]]; then options+=(-dict="$source_dir/$name.dict"); fi
  if [[ $seconds -eq 0 ]]; then options+=(-runs=0); else options+=(-max_total_time="$seconds"); fi

  if ! "$program" "${options[@]}" "$work/corpus" >"$work/log" 2>&1; then
    tail -n 60 "$work/log" >&2
    echo "$name: found something (above; all of it in $work/log). Replay it with:" >&2
    for finding in "$work"/findings/*; do echo "  $program $finding" >&2; done
    exit 1
  fi
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log")
  coverage=$(sed -n 's/.*\(cov: [0-9]* ft: [0-9]*\).*/\1/p' "$work/log" | tail -n 1)
  echo "$name: $executions executions, $coverage, nothing found"
done
