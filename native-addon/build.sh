#!/bin/sh
# Builds native-addon/build/Release/mdmesh.node with the project's own Node runtime and headers. Works from any directory.
set -eu
addon=$(cd "$(dirname "$0")" && pwd)
modules=$addon/../node_modules
case $(uname -m) in
  x86_64) arch=x64 ;;
  aarch64) arch=arm64 ;;
  *) echo "build.sh: no Node runtime for $(uname -m) in this project (x86_64 and aarch64 only)" >&2; exit 1 ;;
esac
runtime=$modules/node-linux-$arch
[ -x "$runtime/bin/node" ] || { echo "build.sh: $runtime/bin/node is missing; run npm ci first" >&2; exit 1; }
echo '#include <sodium.h>' | "${CXX:-g++}" -E -x c++ - > /dev/null 2>&1 ||
  { echo "build.sh: there is no sodium.h; run make packages as root, or install libsodium-dev" >&2; exit 1; }
# gyp evaluates commands with whatever `node` is first in the path.
PATH=$runtime/bin:$PATH
export PATH
node "$modules/node-gyp/bin/node-gyp.js" --directory "$addon" --nodedir "$(cd "$runtime" && pwd)" --silent configure
node "$modules/node-gyp/bin/node-gyp.js" --directory "$addon" --nodedir "$(cd "$runtime" && pwd)" --loglevel=warn --jobs max build
