#!/usr/bin/env bash
# Usage: size.sh PROGRAM LIMIT PACKAGE [PROGRAM LIMIT PACKAGE ...]
# Prints each program's size and fails when it is over LIMIT bytes, or when a
# ReflectMethod mark is reachable: with one, the linker keeps every exported
# method of every type, which costs several megabytes at once.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
bad=0
while [ $# -ge 3 ]; do
	program=$1 limit=$2 package=$3
	shift 3
	size=$(stat -c %s "$program")
	printf '%-16s %6.2f MB of %d MB' "$(basename "$program")" "$(jq -n "$size / 1e6")" "$((limit / 1000000))"
	if [ "$size" -gt "$limit" ]; then
		printf '  TOO LARGE'
		bad=1
	fi
	deps=$(mktemp)
	CGO_ENABLED=0 go build -tags grpcnotrace -trimpath -ldflags='-s -w -dumpdep' -o /dev/null "$package" >"$deps" 2>&1 || {
		tail -n 20 "$deps"
		exit 1
	}
	marks=$(grep -c '<ReflectMethod>' "$deps" || true)
	edges=$(wc -l <"$deps")
	if [ "$edges" -lt 10000 ]; then
		printf '  the linker told only %d edges: cannot check for ReflectMethod' "$edges"
		bad=1
	elif [ "$marks" -gt 0 ]; then
		printf '  ReflectMethod reachable from %d places:\n' "$marks"
		grep '<ReflectMethod>' "$deps" | head -n 10
		bad=1
	fi
	rm -f "$deps"
	printf '\n'
done
exit $bad
