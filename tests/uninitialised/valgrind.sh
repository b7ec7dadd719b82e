#!/usr/bin/env bash
# valgrind.sh BUILD: programs of a usual build folder under memcheck, on the instruction sets that valgrind knows (3.19 has no
# AVX-512, and no program sees one there): no decision hangs on undefined bytes, nothing is read or written behind a heap
# block, nothing is lost. Few random cases each: memcheck is some 50 times slower.
set -euo pipefail
tests=${1:?valgrind.sh BUILD}/tests

memcheck() {
  echo "memcheck $*"
  # the programs' own malloc, which counts, is replaced too
  valgrind --quiet --error-exitcode=1 --leak-check=full --soname-synonyms=somalloc=NONE "$@"
}

memcheck "$tests/uninitialised/rehyat_uninitialised" --undefined --seeds 3
export REHYAT_TEST_SEEDS=1
for name in golden random elements recurrent packed_weights state_file io; do
  memcheck "$tests/${name}_test" --gtest_brief=1
done
