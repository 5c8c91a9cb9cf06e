#!/usr/bin/env bash
# Usage: fuzz.sh TIME MODULE...
# Runs every fuzz target of the modules for TIME, as many at once as there are
# processors, and fails when one fails or when there is none. $FUZZ, a regular
# expression, chooses targets by name.
set -eu -o pipefail
cd "$(dirname "$0")/../.."

# A process for one target, see below: --one TIME FILE:NAME.
if [ "$1" = --one ]; then
	time=$2 dir=./$(dirname "${3%:*}") name=${3##*:}
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	run() {
		CGO_ENABLED=0 go test -run '^$' -fuzz "^$name\$" -parallel 1 -fuzztime "$time" -fuzzminimizetime 1s "$dir" >"$log" 2>&1
	}
	# The Go fuzzer now and then reports its own end of time as a failure of the
	# target ("context deadline exceeded" and no failing input, golang/go#75804).
	# Only that is tried again; a failing input never is.
	ran_out() {
		grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input written' "$log"
	}
	for try in 1 2 3; do
		if run; then
			echo "fuzzing $name in $dir for $time: $(tail -n 1 "$log") $(grep -o 'execs: [0-9]*' "$log" | tail -n 1)"
			exit
		fi
		ran_out || break
	done
	echo "fuzzing $name in $dir for $time FAILED in attempt $try"
	cat "$log"
	exit 1
fi

time=$1
shift
mapfile -t targets < <(grep -rn --include='*_test.go' -o -E '^func Fuzz[A-Za-z0-9_]+' "$@" | sed -E 's/:[0-9]+:func /:/; s/^\.\///' | grep -E ":.*${FUZZ:-}" | sort)
[ ${#targets[@]} -gt 0 ]
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -n 1 allinone/e2e/fuzz.sh --one "$time"
echo "${#targets[@]} fuzz targets"
