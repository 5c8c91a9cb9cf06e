#!/usr/bin/env bash
# Runs the tests three times with the race detector, each time in another order:
# all packages at first, then twice more those that took less than SHUFFLE_FAST
# (30) seconds; the others, which enumerate faults and crashes, too if SHUFFLE_ALL
# is set. $SHUFFLE_SEED repeats the orders of an earlier run. $SHUFFLE_PKGS names
# the packages instead of all of go.work.
#
# A package that fails is run once more in the same order. If it passes then it is
# called FLAKY, with the output of its failure above, and that is a defect to be
# mended; if not, the script fails in the end.
set -eu -o pipefail
cd "$(dirname "$0")/../.."

# A process for one package, see below: --build WORK PACKAGE, --run WORK SEED PACKAGE.
case ${1:-} in
--build)
	# Built once for all runs: linking takes longer than most of the tests.
	CGO_ENABLED=$CGO go test $RACE -c -vet=off -o "$2/$(tr / _ <<<"$3").test" "$3" >"$2/$$" 2>&1 && exit
	cat "$2/$$"
	exit 1
	;;
--run)
	work=$2 order=$3 package=$4 name=$(tr / _ <<<"$4")
	[ -x "$work/$name.test" ] || exit 0 # no tests
	cd "$(go list -f '{{.Dir}}' "$package")"
	# What tests the disk needs one; for the others syncing thousands of small databases
	# would be most of the time, so they get memory if there is enough.
	[ -z "${MEMORY:-}" ] || [ "$package" != "${package%/blobstore/disk}" ] || export TMPDIR=$MEMORY
	began=$(date +%s%N)
	if "$work/$name.test" -test.paniconexit0 -test.shuffle="$order" -test.timeout=45m >"$work/$name.log" 2>&1 </dev/null; then
		result=ok
	else
		result=FAIL
	fi
	seconds=$((($(date +%s%N) - began) / 1000000000))
	{
		flock 9
		[ $result = ok ] || tail -n 200 "$work/$name.log"
		printf '%s\t%s\t%ds\n' $result "$package" $seconds
		echo "$result $package $seconds" >>"$work/results"
	} 9>>"$work/results"
	exit
	;;
esac

seed=${SHUFFLE_SEED:-$(($(date +%s%N) / 1000))}
fast=${SHUFFLE_FAST:-30}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export RACE=-race CGO=1
if ! command -v "${CC:-cc}" >/dev/null 2>&1; then
	echo "no C compiler: testing WITHOUT the race detector"
	RACE='' CGO=0
fi

failed=0
# run SEED PACKAGES...: as many at once as there are processors.
run() {
	local order=$1 p
	shift
	echo "shuffle seed $order: $# packages (again: SHUFFLE_SEED=$seed make shuffle)"
	: >"$work/results"
	printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 allinone/e2e/shuffle.sh --run "$work" "$order"
	cp "$work/results" "$work/last"
	for p in $(awk '$1 == "FAIL" {print $2}' "$work/last"); do
		: >"$work/results"
		echo "once more: $p"
		allinone/e2e/shuffle.sh --run "$work" "$order" "$p"
		if grep -q '^ok' "$work/results"; then
			echo "FLAKY $p: failed, and passed when it was run again in the same order ($order)"
			cat "$work/results" >>"$work/last"
		else
			failed=1
		fi
	done
}

began=$SECONDS
gigabytes=$(df --output=avail -BG /dev/shm 2>/dev/null | tail -n 1 | tr -dc 0-9)
if [ -z "${TMPDIR:-}" ] && [ "${gigabytes:-0}" -ge 6 ]; then
	MEMORY=$(mktemp -d /dev/shm/berth-tests-XXXXXX)
	export MEMORY
	chmod 755 "$MEMORY" # PostgreSQL runs as another user
	trap 'rm -rf "$work" "$MEMORY"' EXIT
fi
mapfile -t all < <(go list ${SHUFFLE_PKGS:-$(awk '$1 ~ /^\.\// {print $1 "/..."}' go.work)})
CGO_ENABLED=$CGO go build $RACE "${all[@]}" # what the test programs share, once
printf '%s\n' "${all[@]}" | xargs -P "$(nproc)" -n 1 allinone/e2e/shuffle.sh --build "$work"
echo "shuffle: built in $((SECONDS - began)) s"
run "$seed" "${all[@]}"
mapfile -t quick < <(awk -v max="$fast" '$1 == "ok" && $3 < max {print $2}' "$work/last")
mapfile -t slow < <(awk -v max="$fast" '$1 == "ok" && $3 >= max {print $2}' "$work/last")
[ ${#quick[@]} -gt 0 ]
again=("${quick[@]}")
[ -z "${SHUFFLE_ALL:-}" ] || again+=(${slow[@]+"${slow[@]}"})
run $((seed + 1)) "${again[@]}"
run $((seed + 2)) "${again[@]}"
echo "shuffle seed $seed: ${#again[@]} packages three times, the $((${#quick[@]} + ${#slow[@]} - ${#again[@]})) slowest once, in $((SECONDS - began)) s"
exit $failed
