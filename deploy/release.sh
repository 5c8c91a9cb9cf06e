#!/usr/bin/env bash
# Builds the release: every program, static, for each platform, into dist/, with
# a list of checksums. `release.sh verify` builds it once more in another
# directory with an empty build cache, and fails unless all bytes are the same.
# RELEASE_ARCHES and RELEASE_PROGRAMS narrow it down.
set -eu -o pipefail
cd "$(dirname "$0")/.."

arches=${RELEASE_ARCHES:-amd64 arm64 arm riscv64}
version=${VERSION:-$(git describe --tags --always --dirty)}
declare -A package=(
	[berth]=./allinone/cmd/berth
	[berth-edge]=./allinone/cmd/berth-edge
	[berth-gateway]=./services/gateway/cmd/berth-gateway
	[berth-blobstore]=./services/blobstore/cmd/berth-blobstore
	[berth-metadata]=./services/metadata/cmd/berth-metadata
	[berth-syncer]=./services/syncer/cmd/berth-syncer
	[berth-scanner]=./services/scanner/cmd/berth-scanner
)
programs=${RELEASE_PROGRAMS:-berth berth-edge berth-gateway berth-blobstore berth-metadata berth-syncer berth-scanner}

# build DIR: the release into DIR. What a machine has in its environment must not
# show in the bytes.
build() {
	local out=$1 arch p
	rm -rf "$out"
	mkdir -p "$out"
	for arch in $arches; do
		for p in $programs; do
			env -u GOFLAGS CGO_ENABLED=0 GOOS=linux GOARCH="$arch" GOARM=7 GOAMD64=v1 GOARM64=v8.0 \
				go build -buildvcs=false -tags grpcnotrace -trimpath -ldflags "-s -w -buildid= -X main.version=$version" \
				-o "$out/$p-linux-$arch" "${package[$p]}"
		done
	done
	(cd "$out" && sha256sum -- * >SHA256SUMS)
}

case ${1:-} in
"")
	build dist
	ls -l dist | awk 'NR > 1 {printf "%8.2f MB  %s\n", $5 / 1e6, $9}'
	for f in dist/*-linux-*; do
		file -b "$f" | grep -q 'statically linked' || { echo "$f is not static"; exit 1; }
	done
	echo "release $version: dist/SHA256SUMS"
	;;
verify)
	[ -f dist/SHA256SUMS ] || { echo "no dist/: run it without an argument first"; exit 1; }
	scratch=$(mktemp -d)
	trap 'rm -rf "$scratch"' EXIT
	mkdir "$scratch/a-directory-of-another-name"
	git ls-files -z | xargs -0 cp --parents -t "$scratch/a-directory-of-another-name"
	(
		cd "$scratch/a-directory-of-another-name"
		export GOCACHE=$scratch/cache VERSION=$version
		build dist
	)
	diff dist/SHA256SUMS "$scratch/a-directory-of-another-name/dist/SHA256SUMS"
	echo "same bytes twice: $(wc -l <dist/SHA256SUMS) programs"
	;;
*)
	echo "usage: release.sh [verify]"
	exit 2
	;;
esac
