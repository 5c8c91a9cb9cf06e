#!/usr/bin/env bash
# Usage: install.sh [packages]
# Installs what the end-to-end tests drive: Debian packages where they are
# missing (as root), and, but for `packages`, clients.txt at its pinned versions
# into the cache. Does nothing, quickly, when all is there.
set -eu -o pipefail
cd "$(dirname "$0")"
cache=${BERTH_CACHE:-$HOME/.cache/berth}/clients

# package:a file that it installs
debian=(
	gcc:/usr/bin/gcc
	libc6-dev:/usr/include/stdlib.h
	file:/usr/bin/file
	bc:/usr/bin/bc
	docker.io:/usr/sbin/dockerd
	docker-compose:/usr/bin/docker-compose
	mmdebstrap:/usr/bin/mmdebstrap
	iptables:/usr/sbin/iptables
	iproute2:/usr/sbin/ip
	containerd:/usr/bin/containerd
	runc:/usr/sbin/runc
	podman:/usr/bin/podman
	buildah:/usr/bin/buildah
	skopeo:/usr/bin/skopeo
	docker-registry:/usr/bin/docker-registry
	nginx:/usr/sbin/nginx
	apache2-utils:/usr/bin/htpasswd
	wrk:/usr/bin/wrk
	jq:/usr/bin/jq
	prometheus:/usr/bin/promtool
	curl:/usr/bin/curl
	openssl:/usr/bin/openssl
	systemd:/usr/bin/systemd-analyze
	postgresql:/usr/bin/pg_ctlcluster
	pgbouncer:/usr/sbin/pgbouncer
	slapd:/usr/sbin/slapd
	ldap-utils:/usr/bin/ldapadd
)
missing=()
for p in "${debian[@]}"; do
	[ -e "${p#*:}" ] || missing+=("${p%%:*}")
done
if [ ${#missing[@]} -gt 0 ]; then
	echo "installing Debian packages: ${missing[*]}"
	log=$(mktemp)
	if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
		tail -n 30 "$log" >&2
		exit 1
	fi
	rm -f "$log"
fi
[ "${1:-}" = packages ] && exit

while read -r name version package; do
	case $name in '' | '#'*) continue ;; esac
	dir=$cache/$name-$version
	[ -x "$dir/$name" ] && continue
	echo "building $name $version"
	mkdir -p "$dir"
	# Into a directory of its own first: a build that is cut short must not look finished.
	export GOWORK=off GOFLAGS=-buildvcs=false CGO_ENABLED=0 GOBIN=$dir.part
	case $package in
	./*) go -C "../../$package" install -trimpath -ldflags '-s -w' tool ;; # pinned by a module of this repository
	*) go install -trimpath -ldflags '-s -w' "$package@$version" ;;
	esac
	mv "$dir.part/$name" "$dir/$name"
	rmdir "$dir.part"
done <clients.txt
