#!/usr/bin/env bash
# Usage: fuzz.sh TIME MODULE...
# Runs every fuzz target of the modules for TIME, one after the other, and
# fails when there is none.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
time=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT

run() {
	CGO_ENABLED=0 go test -run '^$' -fuzz "^$1\$" -fuzztime "$time" -fuzzminimizetime 1s "$2" >"$log" 2>&1
}

# The Go fuzzer now and then reports its own end of time as a failure of the
# target ("context deadline exceeded" and no failing input, golang/go#75804).
# Only that is tried again; a failing input never is.
ran_out() {
	grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input written' "$log"
}

targets=0
while IFS=: read -r file name; do
	targets=$((targets + 1))
	dir=./$(dirname "${file#./}")
	echo "fuzzing $name in $dir for $time"
	for try in 1 2 3; do
		run "$name" "$dir" && break
		if ! ran_out || [ "$try" = 3 ]; then
			cat "$log"
			exit 1
		fi
	done
	tail -n 2 "$log"
done < <(grep -rn --include='*_test.go' -o -E '^func Fuzz[A-Za-z0-9_]+' "$@" | sed -E 's/:[0-9]+:func /:/' | sort)
echo "$targets fuzz targets"
[ "$targets" -gt 0 ]
