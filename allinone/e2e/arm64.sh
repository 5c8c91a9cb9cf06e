#!/usr/bin/env bash
# Makes bin/arm64 from the release's arm64 programs: scripts that run them under
# qemu, so that BERTH_BIN=bin/arm64 runs the end-to-end tests on another processor.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
command -v qemu-aarch64-static >/dev/null || { apt-get update && apt-get install -y -qq --no-install-recommends qemu-user-static; } >/dev/null
mkdir -p bin/arm64
for p in berth berth-gateway berth-blobstore berth-metadata; do
	printf '#!/bin/sh\nexec qemu-aarch64-static %s "$@"\n' "$PWD/dist/$p-linux-arm64" >"bin/arm64/$p"
	chmod +x "bin/arm64/$p"
done
