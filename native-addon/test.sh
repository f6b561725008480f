#!/bin/sh
# Builds and runs the native unit tests twice: address and undefined-behaviour sanitizers, then the thread sanitizer.
# MDMESH_TEST_DIR: a directory on a file system with O_DIRECT (default: native-addon/build).
set -eu
addon=$(cd "$(dirname "$0")" && pwd)
out=$addon/build/test
mkdir -p "$out"
export MDMESH_TEST_DIR="${MDMESH_TEST_DIR:-$out}"
sources=$(cd "$addon" && ls *.cc | grep -v '^binding\.cc$' | sed "s|^|$addon/|")
# The thread sanitizer of some compilers cannot start under high-entropy address layouts: setarch -R gives it a plain one.
plain_layout=
setarch -R true 2>/dev/null && plain_layout='setarch -R'
for sanitizer in ${*:-address,undefined thread}; do
  program=$out/guard_test-$(echo "$sanitizer" | tr , -)
  echo "== -fsanitize=$sanitizer"
  # shellcheck disable=SC2086
  ${CXX:-g++} -std=gnu++20 -Wall -Wextra -Werror -O1 -g -fno-omit-frame-pointer -fsanitize="$sanitizer" -fno-sanitize-recover=all \
    -D_FILE_OFFSET_BITS=64 $sources "$addon/../test/native/guard_test.cc" -o "$program" -l:libsodium.a -pthread
  # shellcheck disable=SC2086
  TSAN_OPTIONS=halt_on_error=1 timeout 120 $plain_layout "$program"
done
