#!/usr/bin/env bash
# Usage: fuzz.sh TIME MODULE...
# Runs every fuzz target of the modules for TIME, one after the other, and
# fails when there is none.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
time=$1
shift
targets=0
while IFS=: read -r file name; do
	targets=$((targets + 1))
	echo "fuzzing $name in $(dirname "$file") for $time"
	CGO_ENABLED=0 go test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "./$(dirname "${file#./}")" | tail -n 2
done < <(grep -rn --include='*_test.go' -o -E '^func Fuzz[A-Za-z0-9_]+' "$@" | sed -E 's/:[0-9]+:func /:/' | sort)
echo "$targets fuzz targets"
[ "$targets" -gt 0 ]
