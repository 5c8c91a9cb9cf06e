#!/usr/bin/env bash
# Builds the images of the programs in dist/ (see `make release`) with docker;
# nothing is pulled. For each program PREFIX/PROGRAM:VERSION, and the same with
# -root behind it, whose process is root, for volumes that belong to root. For
# this machine's platform also :latest.
#
#   IMAGE_PROGRAMS  which ones (berth berth-edge berth-gateway berth-blobstore berth-metadata berth-syncer berth-scanner)
#   IMAGE_ARCHES    GOARCH of each, which then stands behind the tag; absent: this machine's
#   IMAGE_PREFIX    berth-registry
#   IMAGE_DIST      directory of the programs (dist)
#   VERSION         what git calls the commit
#   DOCKER          the client (docker)
set -eu -o pipefail
cd "$(dirname "$0")/.."

programs=${IMAGE_PROGRAMS:-berth berth-edge berth-gateway berth-blobstore berth-metadata berth-syncer berth-scanner}
prefix=${IMAGE_PREFIX:-berth-registry}
dist=${IMAGE_DIST:-dist}
version=${VERSION:-$(git describe --tags --always --dirty)}
docker=${DOCKER:-docker}
# The classic builder knows only the platform of its machine.
export DOCKER_BUILDKIT=${DOCKER_BUILDKIT:-1}
case $(uname -m) in
x86_64) here=amd64 ;;
aarch64) here=arm64 ;;
armv7*) here=arm ;;
*) here=$(uname -m) ;;
esac

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# The one directory of the store and the one of its file, and the names that
# they have for those who come from zot: a volume mounted at any of them is
# mounted at the same place.
mkdir -p "$stage/rootfs/etc/berth" "$stage/rootfs/etc/ssl/certs" "$stage/rootfs/var/lib" "$stage/data/berth"
chmod 0700 "$stage/data/berth"
cp deploy/image/config.json "$stage/rootfs/etc/berth/config.json"
ln -s berth "$stage/rootfs/etc/zot"
ln -s berth "$stage/rootfs/var/lib/zot"
ln -s berth "$stage/rootfs/var/lib/registry"
# Authorities of servers that Berth is a client of.
cp "${CA_CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}" "$stage/rootfs/etc/ssl/certs/ca-certificates.crt"
chmod -R u=rwX,go=rX "$stage/rootfs"

# build PROGRAM ARCH TAG USER
build() {
	"$docker" build -q --network none --platform "linux/$2" -f deploy/Dockerfile \
		--build-arg PROGRAM="$1" --build-arg TARGETARCH="$2" --build-arg VERSION="$version" --build-arg USER="$4" \
		-t "$prefix/$1:$3" "$stage" >/dev/null
	echo "$prefix/$1:$3"
}

for program in $programs; do
	for arch in ${IMAGE_ARCHES:-$here}; do
		install -m 0755 "$dist/$program-linux-$arch" "$stage/"
		tag=$version${IMAGE_ARCHES:+-$arch}
		build "$program" "$arch" "$tag" 65532:65532
		build "$program" "$arch" "$tag-root" 0:0
		rm "$stage/$program-linux-$arch"
		[ -n "${IMAGE_ARCHES:-}" ] || "$docker" tag "$prefix/$program:$tag" "$prefix/$program:latest"
	done
done
