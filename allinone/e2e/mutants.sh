#!/usr/bin/env bash
# Makes one known mistake after the other (mutants/*.patch) and runs the test that
# has to find it: a test that passes with the mistake proves nothing. The tree is
# not changed: the compiler gets the patched files in an overlay. As many are run at
# once as there are processors; with arguments only the mutants of these names.
# Exit code 1 if a mistake was not found, or a patch no longer fits.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# overlay PATCH: copies the files that the patch names, applies it, and writes the
# overlay for the compiler.
overlay() {
	local files f sep=
	rm -rf "$work/tree"
	files=$(sed -n 's/^+++ b\///p' "$1")
	for f in $files; do
		install -D -m 644 "$root/$f" "$work/tree/$f"
	done
	(cd "$work/tree" && GIT_CEILING_DIRECTORIES="$work" git apply -C1 --recount "$root/$1") || return 1
	{
		echo '{"Replace": {'
		for f in $files; do
			echo "$sep\"$root/$f\": \"$work/tree/$f\""
			sep=,
		done
		echo '}}'
	} >"$work/overlay.json"
}

# one PATCH: prints what became of it, and fails if it was not found.
one() {
	local patch=$1 log=$work/log name mistake module with by args
	name=$(basename "$patch" .patch)
	mistake=$(sed -n 's/^# Mistake: //p' "$patch")
	read -r -a args <<<"$(sed -n 's/^# Found by: go test //p' "$patch")"
	module=$(sed -n 's/^# In module: //p' "$patch") # one that is not in go.work
	with=$(sed -n 's/^# With: //p' "$patch")        # a variable
	if ! overlay "$patch" 2>"$log"; then
		printf 'NO LONGER FITS  %-30s %s\n%s\n' "$name" "$mistake" "$(cat "$log")"
	elif env ${module:+GOWORK=off} ${with:+"$with"} go ${module:+-C "$module"} test -vet=off -count=1 -timeout 5m -overlay "$work/overlay.json" "${args[@]}" >"$log" 2>&1; then
		printf 'NOT FOUND       %-30s %s\n' "$name" "$mistake"
	elif by=$(sed -nE 's/^--- FAIL: ([A-Za-z0-9_]+).*/\1/p' "$log" | sort -u | tr '\n' ' ') && [ -n "$by" ]; then
		printf 'found           %-30s %s By %s\n' "$name" "$mistake" "$by"
		return 0
	elif grep -q -e '^panic: ' "$log" && by=$(grep -oE 'Test[A-Za-z0-9_]+' "$log" | head -n 1); then
		printf 'found           %-30s %s By %s (it does not end)\n' "$name" "$mistake" "$by"
		return 0
	else
		printf 'DOES NOT BUILD  %-30s %s\n%s\n' "$name" "$mistake" "$(tail -n 20 "$log")"
	fi
	return 1
}

if [ "${1:-}" = --one ]; then
	one "$2"
	exit
fi
patches=()
for patch in allinone/e2e/mutants/*.patch; do
	[ $# = 0 ] || [[ " $* " == *" $(basename "$patch" .patch) "* ]] || continue
	patches+=("$patch")
done
[ ${#patches[@]} -gt 0 ]
printf '%s\n' "${patches[@]}" | xargs -P "$(nproc)" -n 1 allinone/e2e/mutants.sh --one
echo "${#patches[@]} mistakes found"
