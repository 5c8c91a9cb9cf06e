#!/usr/bin/env bash
# Runs the tests three times with the race detector, each time in another order:
# all packages at first, by make test, then twice more those that took less than
# SHUFFLE_FAST (40) seconds; the others, which enumerate faults and crashes, too if SHUFFLE_ALL
# is set. $SHUFFLE_SEED repeats the orders of an earlier run.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
seed=${SHUFFLE_SEED:-$(($(date +%s%N) / 1000))}
fast=${SHUFFLE_FAST:-40}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

race=() cgo=0
if command -v "${CC:-cc}" >/dev/null 2>&1; then
	race=(-race) cgo=1
else
	echo "no C compiler: testing WITHOUT the race detector"
fi

# run SEED PACKAGES...: the output goes to the log as well.
run() {
	local order=$1
	shift
	echo "shuffle seed $order: $# arguments (again: SHUFFLE_SEED=$seed make shuffle)"
	CGO_ENABLED=$cgo go test ${race[@]+"${race[@]}"} -shuffle="$order" -count=1 -timeout 15m "$@" 2>&1 | tee "$log"
}

# below and above print the packages of the log by the time they took.
below() { awk -v max="$fast" '$1 == "ok" && $3 + 0 < max {print $2}' "$log"; }
above() { awk -v max="$fast" '$1 == "ok" && $3 + 0 >= max {print $2}' "$log"; }

began=$SECONDS
echo "make test TESTFLAGS='-shuffle=$seed -count=1' (again: SHUFFLE_SEED=$seed make shuffle)"
make --no-print-directory test TESTFLAGS="-shuffle=$seed -count=1" 2>&1 | tee "$log"
mapfile -t quick < <(below)
mapfile -t slow < <(above)
[ ${#quick[@]} -gt 0 ]
run $((seed + 1)) "${quick[@]}"
run $((seed + 2)) "${quick[@]}"
if [ -n "${SHUFFLE_ALL:-}" ] && [ ${#slow[@]} -gt 0 ]; then
	run $((seed + 3)) "${slow[@]}"
	run $((seed + 4)) "${slow[@]}"
fi
echo "shuffle seed $seed: ${#quick[@]} packages three times, ${#slow[@]} slow ones $([ -n "${SHUFFLE_ALL:-}" ] && echo three times || echo once), in $((SECONDS - began)) s"
