#!/usr/bin/env bash
# Builds all programs into DIR with the times of short-times.patch, from an overlay:
# short-times.sh DIR
set -eu -o pipefail
cd "$(dirname "$0")/../.."
root=$PWD patch=allinone/e2e/short-times.patch
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
files=$(sed -n 's/^+++ b\///p' "$patch")
sep=
{
	echo '{"Replace": {'
	for f in $files; do
		install -D -m 644 "$f" "$work/tree/$f"
		echo "$sep\"$root/$f\": \"$work/tree/$f\""
		sep=,
	done
	echo '}}'
} >"$work/overlay.json"
(cd "$work/tree" && GIT_CEILING_DIRECTORIES="$work" git apply -C1 "$root/$patch")
go build -tags grpcnotrace -trimpath -overlay "$work/overlay.json" -o "$1/" ./allinone/cmd/berth ./allinone/cmd/berth-edge \
	./services/gateway/cmd/berth-gateway ./services/blobstore/cmd/berth-blobstore ./services/metadata/cmd/berth-metadata
