#!/usr/bin/env bash
# Usage: servers.sh
# Makes a root file system with the servers that the compose test puts into
# images, because nothing is pulled: PostgreSQL, HAProxy, and a shell and wget
# for their checks, of Debian packages that are unpacked and not configured.
# Prints the path of the tar file, which is cached. Runs as root.
set -eu -o pipefail
cache=${BERTH_CACHE:-$HOME/.cache/berth}
packages=postgresql-15,haproxy,bash,coreutils,sed,wget
tar=$cache/servers-bookworm-$(echo "$packages 1" | sha256sum | cut -c1-12).tar
if [ ! -e "$tar" ]; then
	mkdir -p "$cache"
	log=$(mktemp)
	trap 'rm -f "$log" "$tar.part"' EXIT
	if ! mmdebstrap --format=tar --variant=extract --include="$packages" \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$tar.part" >"$log" 2>&1; then
		tail -n 30 "$log" >&2
		exit 1
	fi
	mv "$tar.part" "$tar"
fi
echo "$tar"
