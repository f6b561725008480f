#!/bin/sh
# Fuzzes what the native code reads of others for so many seconds (default 60), under the address and undefined-behaviour sanitizers:
# guided by coverage where there is clang (its libFuzzer), else by changing answers at random.
set -eu
seconds=${1:-60}
addon=$(cd "$(dirname "$0")" && pwd)
out=$addon/build/fuzz
mkdir -p "$out/corpus"
sources=$(cd "$addon" && ls *.cc | grep -v '^binding\.cc$' | sed "s|^|$addon/|")
flags='-std=gnu++20 -Wall -Wextra -O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all -D_FILE_OFFSET_BITS=64 -pthread'
if command -v clang++ > /dev/null; then
  # shellcheck disable=SC2086
  clang++ $flags -fsanitize=fuzzer,address,undefined $sources "$addon/../test/native/fuzz.cc" -o "$out/guided" -l:libsodium.a
  cd "$out"
  exec ./guided -max_total_time="$seconds" -max_len=8192 -timeout=10 -print_final_stats=1 corpus
fi
echo "fuzz.sh: no clang++, so not guided by coverage (apt-get install clang)" >&2
# shellcheck disable=SC2086
${CXX:-g++} $flags -fsanitize=address,undefined -DMDMESH_FUZZ_BY_ITSELF $sources "$addon/../test/native/fuzz.cc" -o "$out/random" -l:libsodium.a
exec "$out/random" $((seconds * 1000)) "$$"
