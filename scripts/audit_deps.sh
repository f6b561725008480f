#!/bin/bash
# Asks the package registry what is known against the packages in the lock file. Exit code 1: something is against one that runs on a
# node; 2: nobody could say. What only builds and tests is told of, and fails nothing.
set -uo pipefail
cd "$(dirname "$0")/.."
report=$(npm audit --omit=dev 2>&1)
known=$?
# Found or not, an answer says so in these words; an endpoint that is not there, or not reached, in others.
if ! grep -Eq 'found [0-9]+ vulnerabilities|[0-9]+ .*vulnerabilit(y|ies)' <<< "$report"; then
  {
    echo
    echo "!!! audit-deps: NOT CHECKED. The registry's audit endpoint gave no answer:"
    head -5 <<< "$report" | sed 's/^/!!! /'
    echo "!!! Nothing is known about the packages now, neither good nor bad. Try again where it can be reached."
    echo
  } >&2
  exit 2
fi
echo "$report"
[ "$known" -eq 0 ] || exit 1
npm audit > /dev/null 2>&1 || echo "audit-deps: something is known against packages that only build or test; see npm audit"
