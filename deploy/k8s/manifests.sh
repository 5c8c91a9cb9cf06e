#!/usr/bin/env bash
# Usage: manifests.sh DIR
# Renders the chart with the helm of allinone/e2e/install.sh into DIR, for those
# who have no Helm: one file for each values-*.yaml. Secrets are left for users to
# make (see docs/deploy.md), because they would be the same for everybody.
set -eu -o pipefail
out=$(realpath "$1")
cd "$(dirname "$0")"
version=$(awk '$1 == "helm" {print $2}' ../../allinone/e2e/clients.txt)
helm=${BERTH_CACHE:-$HOME/.cache/berth}/clients/helm-$version/helm
for size in small medium large; do
	extra=()
	[ $size != medium ] || extra=(--set internalTLS.mode=existing)
	"$helm" template berth berth --namespace registry --kube-version 1.31 -f "berth/values-$size.yaml" "${extra[@]}" \
		2> >(grep -v 'found symbolic link' >&2) |
		sed '/^# Source: /d' >"$out/$size.yaml"
done
