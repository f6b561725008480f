#!/bin/sh
# Builds and runs the native unit tests twice: address and undefined-behaviour sanitizers, then the thread sanitizer.
# MDMESH_TEST_DIR: a directory on a file system with O_DIRECT (default: native-addon/build).
set -eu
addon=$(cd "$(dirname "$0")" && pwd)
out=$addon/build/test
mkdir -p "$out"
export MDMESH_TEST_DIR="${MDMESH_TEST_DIR:-$out}"
sources="$(cd "$addon" && ls *.cc | grep -v '^binding\.cc$' | sed "s|^|$addon/|") $addon/../test/native/guard_test.cc"
# The thread sanitizer of some compilers cannot start under high-entropy address layouts: setarch -R gives it a plain one.
plain_layout=
setarch -R true 2>/dev/null && plain_layout='setarch -R'
for sanitizer in ${*:-address,undefined thread}; do
  program=$out/guard_test-$(echo "$sanitizer" | tr , -)
  echo "== -fsanitize=$sanitizer"
  objects=$program.objects
  rm -rf "$objects"
  mkdir "$objects"
  # One a processor: sanitized code compiles slowly.
  # shellcheck disable=SC2086
  printf '%s\n' $sources | xargs -P "$(nproc)" -I '{}' sh -c '${CXX:-g++} -std=gnu++20 -Wall -Wextra -Werror -O1 -g -fno-omit-frame-pointer \
    -fsanitize="$2" -fno-sanitize-recover=all -D_FILE_OFFSET_BITS=64 -I "$4" -c "$1" -o "$3/$(basename "$1" .cc).o"' \
    sh '{}' "$sanitizer" "$objects" "$addon"
  ${CXX:-g++} -fsanitize="$sanitizer" "$objects"/*.o -o "$program" -l:libsodium.a -pthread
  # shellcheck disable=SC2086
  TSAN_OPTIONS=halt_on_error=1 timeout 120 $plain_layout "$program"
  # What disks, device-mapper and sysfs might say, for two seconds; make fuzz: longer, and guided by coverage.
  [ "$sanitizer" = address,undefined ] || continue
  rm "$objects/guard_test.o"
  ${CXX:-g++} -std=gnu++20 -Wall -Wextra -Werror -O1 -g -fsanitize="$sanitizer" -fno-sanitize-recover=all -D_FILE_OFFSET_BITS=64 \
    -DMDMESH_FUZZ_BY_ITSELF "$addon/../test/native/fuzz.cc" "$objects"/*.o -o "$out/fuzz" -l:libsodium.a -pthread
  timeout 60 "$out/fuzz" 2000
done
