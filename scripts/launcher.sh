#!/bin/sh
# The runtime lies beside the program once it is installed, and in the tree while it is built there.
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
case $(uname -m) in aarch64) arch=arm64 ;; *) arch=x64 ;; esac
# Behind a link named mdadm the program is mdadm: only this script sees the link's name.
export MDMESH_CALLED_AS="$0"
# Compiled code from the build: half of the start is compiling otherwise. Where it does not fit, Node compiles as ever.
export NODE_COMPILE_CACHE="${NODE_COMPILE_CACHE:-$here/cache}" NODE_COMPILE_CACHE_PORTABLE=1
for node in "$here/node" "$here/../node_modules/node-linux-$arch/bin/node"; do
  [ -x "$node" ] && exec "$node" "$here/mdmesh.mjs" "$@"
done
echo "mdmesh: no Node runtime at $here/node; copy node_modules/node-linux-$arch/bin/node there" >&2
exit 1
