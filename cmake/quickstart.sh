#!/usr/bin/env bash
# From a bare Debian 12 to results:
#   cmake/quickstart.sh demo   builds the command-line program and runs it on examples/data
#   cmake/quickstart.sh test   builds and runs all tests, on this processor and on an emulated 64-bit ARM
# What follows is handed to cmake's configuration, e.g. -DREHYAT_WERROR=ON. Missing Debian packages are installed.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
jobs=$(getconf _NPROCESSORS_ONLN)
export LC_ALL=C

# 64-bit ARM is emulated on x86-64; elsewhere there is no need, or no cross compiler.
emulates_arm() { [[ "$(uname -sm)" == "Linux x86_64" ]]; }

demo_packages=(g++ cmake ninja-build libxsimd-dev libcli11-dev nlohmann-json3-dev)
test_packages=("${demo_packages[@]}" libgtest-dev libeigen3-dev python3 python3-numpy)
if emulates_arm; then
  test_packages+=(g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user googletest)
fi

install_packages() {
  local package missing=() as_root=()
  if ! command -v apt-get >/dev/null; then
    echo "This is no Debian: please see to it that there is what these Debian packages hold:" "$@" >&2
    return
  fi
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *" installed" ]] || missing+=("$package")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  if [[ $EUID -ne 0 ]]; then
    if ! command -v sudo >/dev/null; then
      echo "Please have these packages installed, then run this again: apt-get install ${missing[*]}" >&2
      exit 1
    fi
    as_root=(sudo)
  fi
  echo "Installing" "${missing[@]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qy --no-install-recommends "${missing[@]}" </dev/null
}

# configure_and_build <folder under build> <cmake option>...
configure_and_build() {
  local build=$repository/build/$1
  shift
  cmake -S "$repository" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release "$@"
  cmake --build "$build" --parallel "$jobs"
}

# run_tests <folder under build> <instruction set>...: all tests pass, and their kernels ran on these.
run_tests() {
  local build=$repository/build/$1
  shift
  (cd "$build" && ctest --output-on-failure --no-tests=error --parallel "$jobs")
  check_isas "$build/Testing/Temporary/LastTest.log" "$@"
}

# Every test program that runs kernels says on which; silent if all of them ran on all that are given.
check_isas() {
  local log=$1 isa line lines
  shift
  lines=$(sed -n 's/^rehyat tests ran on: *//p' "$log")
  if [[ -z $lines ]]; then
    echo "error: no test says which instruction sets it ran on ($log)" >&2
    return 1
  fi
  while read -r line; do
    for isa in "$@"; do
      if [[ " $line " != *" $isa "* ]]; then
        echo "error: a test ran on \"$line\" although there is $isa ($log)" >&2
        return 1
      fi
    done
  done <<<"$lines"
}

# cpu_has <flag>...: /proc/cpuinfo lists all of these.
cpu_has() {
  local flag flags=' '
  if [[ -r /proc/cpuinfo ]]; then flags=" $(sed -n 's/^flags[[:space:]]*: //p' /proc/cpuinfo | sed 1q) "; fi
  for flag in "$@"; do
    [[ $flags == *" $flag "* ]] || return 1
  done
}

# The instruction sets of this processor that rehyat has kernels for.
native_isas() {
  local isas=scalar
  if cpu_has avx2 fma f16c; then isas+=' avx2'; fi
  if cpu_has avx2 fma f16c avx512f avx512cd avx512dq avx512bw avx512vl; then isas+=' avx512'; fi
  case $(uname -m) in aarch64 | arm64) isas+=' neon' ;; esac
  echo "$isas"
}

run_all_tests() {
  local options=(-DREHYAT_BUILD_BENCH=OFF "$@") isas
  install_packages "${test_packages[@]}"
  if [[ -x /usr/bin/python3 ]]; then options+=(-DPython3_EXECUTABLE=/usr/bin/python3); fi
  read -ra isas <<<"$(native_isas)"

  configure_and_build test "${options[@]}"
  run_tests test "${isas[@]}"
  if emulates_arm; then
    configure_and_build test-aarch64 -DCMAKE_TOOLCHAIN_FILE="$repository/cmake/toolchains/aarch64-linux-gnu.cmake" \
      "${options[@]}"
    # fewer random cases and shorter videos: emulation is slow
    REHYAT_TEST_SEEDS=8 REHYAT_TEST_CHUNKS=3000 run_tests test-aarch64 scalar neon
  fi
}

run_demo() {
  install_packages "${demo_packages[@]}"
  configure_and_build demo -DREHYAT_BUILD_TESTS=OFF -DREHYAT_BUILD_BENCH=OFF "$@"
  demo
}

# json_value <file> <key>: a number of a flat JSON object.
json_value() { sed -n 's/.*"'"$2"'": *\([-+.0-9eE]*\).*/\1/p' "$1"; }

# demo_row <name> <attend option>...: runs one schedule and prints its row of the table.
demo_row() {
  local name=$1 data=$repository/examples/data results=$repository/build/demo/results difference=0
  local program=$repository/build/demo/examples/cli/rehyat
  shift
  "$program" attend --q "$data/vtest_l2_q.npy" --k "$data/vtest_l2_k.npy" --v "$data/vtest_l2_v.npy" --repeat 5 --json \
    --out "$results/$name.npy" "$@" >"$results/$name.json"
  if [[ $name != softmax ]]; then
    "$program" compare "$results/softmax.npy" "$results/$name.npy" --json >"$results/difference.json"
    difference=$(json_value "$results/difference.json" relative_l2)
  fi
  printf '%-18s %9.2f %9.1f %12s %16s %16.3g\n' "$name" \
    "$(awk "BEGIN { print 1000 * $(json_value "$results/$name.json" seconds) }")" \
    "$(json_value "$results/$name.json" gflops)" "$(json_value "$results/$name.json" state_bytes)" \
    "$(json_value "$results/$name.json" workspace_bytes)" "$difference"
}

demo() {
  local hybrid=(--schedule hybrid --phi "$repository/examples/data/phi.safetensors")
  mkdir -p "$repository/build/demo/results"
  printf '\n%-18s %9s %9s %12s %16s %16s\n' schedule ms GFLOP/s 'state bytes' 'workspace bytes' 'to softmax (L2)'
  demo_row softmax --schedule softmax
  demo_row hybrid-oneshot "${hybrid[@]}" --mode oneshot
  demo_row hybrid-recurrent "${hybrid[@]}" --mode recurrent
}

main() {
  local command=${1:-}
  [[ $# -eq 0 ]] || shift
  case $command in
    demo) run_demo "$@" ;;
    test) run_all_tests "$@" ;;
    *)
      sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
      exit 2
      ;;
  esac
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  main "$@"
fi
