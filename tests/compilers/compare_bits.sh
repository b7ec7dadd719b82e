#!/usr/bin/env bash
# Against the headers alone, with each compiler:
#   compare_bits.sh INCLUDE_DIRS BUILD_DIR EMULATOR COMPILER...     (INCLUDE_DIRS separated by ;)
# - bits.cpp, whose hashes of all kernels' results must be equal by instruction set: with kernels of the compiler's flags,
#   and with run-time dispatch, its objects linked in two orders, their kernels at several optimisation levels, with and
#   without contraction of a * b + c;
# - in a unit of run-time dispatch no weak symbol may lie outside the namespace of its instruction set: the linker could
#   otherwise give a program's baseline code a function compiled for a CPU that it does not run on;
# - nothing may be initialised before main, and multiply-adds must be one instruction (fused.py);
# - on CPUs without AVX, emulated by EMULATOR (qemu-x86_64, or "" for none), the program runs its scalar kernels and
#   refuses others.
set -euo pipefail

source_dir=$(cd "$(dirname "$0")" && pwd)
include_dirs=$1
build_dir=$2
emulator=$3
shift 3
mkdir -p "$build_dir"

declare -A flags=(
  [scalar]="-DREHYAT_KERNEL_ISA_SCALAR"
  [avx2]="-mavx2 -mfma"
  [avx512]="-mavx512f -mavx512cd -mavx512dq -mavx512bw -mavx512vl -mfma"
  [neon]=""
)
case $(uname -m) in
  x86_64) isas=(scalar avx2 avx512) ;;
  aarch64) isas=(scalar neon) ;;
  *) isas=(scalar) ;;
esac

# cpu_has ISA: the CPU that this runs on.
cpu_has() {
  case $1 in
    avx2) grep -qw avx2 /proc/cpuinfo ;;
    avx512) grep -qw avx512dq /proc/cpuinfo ;;
  esac
}

includes=()
IFS=';' read -ra dirs <<<"$include_dirs"
for dir in "${dirs[@]}"; do
  # an installed package may give its include directory as a condition, or none because it is the system's
  if [[ -d $dir && $dir != /usr/include ]]; then includes+=(-I "$dir"); fi
done

failed=0
complain() {
  echo "error: $*"
  failed=1
}

declare -A expected=() units=()

# check_hash WHAT ISA COMMAND...: prints what the program printed, and compares.
check_hash() {
  local what=$1 isa=$2 hash
  shift 2
  hash=$(REHYAT_ISA=$isa "$@") || complain "$* ended with $?"
  printf '%-10s %-40s %s\n' "$(basename "$compiler")" "$what" "$hash"
  expected[$isa]=${expected[$isa]:-$hash}
  if [[ $hash != "${expected[$isa]}" || $hash != "$isa "* ]]; then complain "expected ${expected[$isa]}"; fi
}

# check_unit OBJECT ISA
check_unit() {
  local strays
  strays=$(nm -C "$1" | grep -E '^[0-9a-f]* +[VWvwu] ' | grep -v "rehyat::kernel::$2::" || true)
  if [[ -n $strays ]]; then complain "$1: weak symbols outside rehyat::kernel::$2:"$'\n'"$strays"; fi
  if [[ $2 == avx* ]]; then python3 "$source_dir/fused.py" "$1" || failed=1; fi
}

# check_uninitialised OBJECT
check_uninitialised() {
  if objdump -h "$1" | grep -E '\.(init_array|ctors)'; then complain "$1 is initialised before main"; fi
}

# compile OBJECT OPTION...
compile() { "$compiler" -std=c++20 "${includes[@]}" "${@:2}" -c -o "$1"; }

# compare_variant NAME: links the program with the units in both orders.
compare_variant() {
  local order isa
  "$compiler" "$program.o" "${units[@]}" -pthread -o "$program"
  "$compiler" "${units[@]}" "$program.o" -pthread -o "$program.reversed"
  for order in "" .reversed; do
    for isa in "${isas[@]}"; do
      if cpu_has "$isa"; then check_hash "dispatch $1$order" "$isa" "$program$order"; fi
    done
  done
}

# build_units FLAGS ISA...
build_units() {
  local options isa isa_flags
  read -ra options <<<"$1"
  shift
  for isa in "$@"; do
    read -ra isa_flags <<<"${flags[$isa]}"
    units[$isa]=$program.$isa.o
    sed "s/@isa@/$isa/" "$source_dir/../../cmake/isa_unit.cpp.in" >"$program.$isa.cpp"
    compile "${units[$isa]}" "${defines[@]}" "${options[@]}" "${isa_flags[@]}" -fno-exceptions "$program.$isa.cpp"
    check_unit "${units[$isa]}" "$isa"
    check_uninitialised "${units[$isa]}"
  done
}

# check_arithmetic_unit ARITHMETIC ISA NAMESPACE FLAGS: kernels whose flags say more than their instruction set's.
check_arithmetic_unit() {
  local isa_flags unit=$program.$1_$2
  read -ra isa_flags <<<"${flags[$2]} $4"
  sed "s/@isa@/$2/; s/@arithmetic@/$1/" "$source_dir/../../cmake/arithmetic_unit.cpp.in" >"$unit.cpp"
  compile "$unit.o" -O2 -ffp-contract=off "${isa_flags[@]}" -fno-exceptions "$unit.cpp"
  check_unit "$unit.o" "$3"
  check_uninitialised "$unit.o"
}

# The kernels of the compiler's flags.
compare_headers() {
  local isa isa_flags
  for isa in "${isas[@]}"; do
    if cpu_has "$isa"; then
      read -ra isa_flags <<<"${flags[$isa]}"
      compile "$program.headers.o" -O2 "${isa_flags[@]}" "$source_dir/bits.cpp"
      "$compiler" "$program.headers.o" -pthread -o "$program.headers"
      check_hash headers "$isa" "$program.headers"
    fi
  done
}

emulate_old_cpus() {
  local cpu isa message
  for cpu in core2duo Nehalem; do
    check_hash "dispatch on $cpu" scalar "$emulator" -cpu "$cpu" "$program"
    REHYAT_ISA='' "$emulator" -cpu "$cpu" "$program" | grep -qFx "${expected[scalar]}" ||
      complain "$cpu: the best instruction set is not scalar"
    for isa in avx2 avx512; do
      message=$(REHYAT_ISA=$isa "$emulator" -cpu "$cpu" "$program" 2>&1) && complain "$cpu: $isa was not refused"
      [[ $message == *"isa is $isa, which this CPU does not have"* ]] || complain "$cpu: $isa: $message"
    done
  done
}

# check_compiler VARIANT...: everything for $compiler; leaves the hashes in $program.hashes.
check_compiler() {
  local isa variant defines=(-DREHYAT_DISPATCH=1 -DREHYAT_DISPATCH_TRAINING=1)
  for isa in "${isas[@]}"; do defines+=("-DREHYAT_DISPATCH_${isa^^}=1"); done
  compile "$program.o" -O2 "${defines[@]}" "$source_dir/bits.cpp"
  check_uninitialised "$program.o"
  compare_headers
  for variant in "$@"; do
    build_units "$variant" "${isas[@]}"
    compare_variant "$variant"
  done
  for isa in "${isas[@]}"; do
    case $isa in
      avx2) check_arithmetic_unit int8 avx2 avx2_vnni -mavxvnni ;;
      avx512)
        check_arithmetic_unit int8 avx512 avx512_vnni -mavx512vnni
        check_arithmetic_unit float16 avx512 avx512_fp16 -mavx512fp16
        ;;
      neon)
        check_arithmetic_unit int8 neon neon_dotprod -march=armv8.2-a+dotprod
        check_arithmetic_unit float16 neon neon_fp16 -march=armv8.2-a+fp16
        ;;
    esac
  done
  if [[ -n $emulator ]]; then emulate_old_cpus; fi
  if [[ " ${isas[*]} " == *" avx2 "* ]]; then
    build_units "-O2 -mf16c" avx2  # float16 by instruction instead of by shifts
    compare_variant "-O2 -mf16c"
  fi
  printf '%s\n' "${expected[@]}" >"$program.hashes"
  return "$failed"
}

# All compilers at once; the first of each kind at every level, a further one at the highest.
programs=()
variants=(-O1 -O2 -O3 "-O2 -ffp-contract=off")
for compiler in "$@"; do
  program=$build_dir/$(basename "$compiler")
  if [[ ${#programs[@]} -ge 2 ]]; then variants=(-O3); fi
  programs+=("$program")
  check_compiler "${variants[@]}" >"$program.log" 2>&1 &
  running[${#programs[@]}]=$!
done
for i in "${!programs[@]}"; do
  wait "${running[i + 1]}" || complain "$(basename "${programs[i]}") ended with $?"
  cat "${programs[i]}.log"
done
different=$(cat "${programs[@]/%/.hashes}" | sort -u | cut -d' ' -f1 | uniq -d)
if [[ -n $different ]]; then complain "compilers differ on" $different; fi
exit $failed
