#!/usr/bin/env bash
# Builds against the headers alone, for every instruction set of this CPU, with each compiler and optimisation level:
#   compare_bits.sh INCLUDE_DIRS BUILD_DIR COMPILER...     (INCLUDE_DIRS separated by ;)
# - bits.cpp, whose hashes of all operators' outputs must be equal, with and without contraction of a * b + c;
# - a unit of run-time dispatch, in which no weak symbol may lie outside the namespace of its instruction set: the linker
#   could otherwise give a program's baseline code a function compiled for a CPU that it does not run on.
set -euo pipefail

source_dir=$(cd "$(dirname "$0")" && pwd)
include_dirs=$1
build_dir=$2
shift 2
mkdir -p "$build_dir"

declare -A flags=(
  [scalar]="-DREHYAT_KERNEL_ISA_SCALAR"
  [avx2]="-mavx2 -mfma"
  [avx512]="-mavx512f -mavx512cd -mavx512dq -mavx512bw -mavx512vl -mfma"
)
isas=(scalar)
if grep -qw avx2 /proc/cpuinfo; then isas+=(avx2); fi
if grep -qw avx512dq /proc/cpuinfo; then isas+=(avx512); fi
if [[ $(uname -m) == aarch64 ]]; then
  flags[neon]=""
  isas+=(neon)
fi

includes=()
IFS=';' read -ra dirs <<<"$include_dirs"
for dir in "${dirs[@]}"; do
  # an installed package may give its include directory as a condition, or none because it is the system's
  if [[ -d $dir && $dir != /usr/include ]]; then includes+=(-I "$dir"); fi
done

failed=0
for isa in "${isas[@]}"; do
  expected=
  read -ra isa_flags <<<"${flags[$isa]}"
  printf '#include "rehyat/kernel/instantiate.hpp"\nREHYAT_DEFINE_KERNELS(%s)\n' "$isa" >"$build_dir/unit.cpp"
  for compiler in "$@"; do
    variants=("-O1" "-O2" "-O3" "-O2 -ffp-contract=off")
    if [[ $isa == avx2 ]]; then variants+=("-O2 -mf16c"); fi  # float16 by instruction instead of by shifts
    for variant in "${variants[@]}"; do
      read -ra options <<<"$variant"
      build=("$compiler" -std=c++20 "${options[@]}" "${isa_flags[@]}" "${includes[@]}")
      "${build[@]}" "$source_dir/bits.cpp" -pthread -o "$build_dir/bits"
      hash=$("$build_dir/bits")
      printf '%-10s %-24s %s\n' "$(basename "$compiler")" "$variant" "$hash"
      expected=${expected:-$hash}
      if [[ $hash != "$expected" || $hash != "$isa "* ]]; then
        echo "error: expected $expected"
        failed=1
      fi
      "${build[@]}" -fno-exceptions -c "$build_dir/unit.cpp" -o "$build_dir/unit.o"
      strays=$(nm -C "$build_dir/unit.o" | grep -E '^[0-9a-f]* [VWu] ' | grep -v "rehyat::kernel::$isa::" || true)
      if [[ -n $strays ]]; then
        echo "error: weak symbols outside rehyat::kernel::$isa:"
        echo "$strays"
        failed=1
      fi
    done
  done
done
exit $failed
