# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the benchmarks share. Figures are printed, never asserted; what is compared alternates within one run.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
. examples/lib.sh
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }

FORKFS=${FORKFS:-$BUILD/fs/forkfs}
W=$(mktemp -d "${TMPDIR:-/tmp}/forkfs-bench.XXXXXX")
F=$W/forks
pids=()

end() {
	umount "$F" 2>/dev/null || umount -l "$F" 2>/dev/null
	kill "${pids[@]}" 2>/dev/null
	wait
	rm -rf --one-file-system "$W"
}
trap end EXIT
trap 'exit 1' INT TERM

# mount_forkfs -o OPTIONS
mount_forkfs() {
	mkdir -p "$F"
	"$FORKFS" -f -o "state=$W/state,log=error" "$@" "$F" & pids+=($!)
	until_true 30 test -e "$F/help" || die "no mount"
}

# Of numbers, one a line: percentile P
percentile() { sort -n | awk -v p="$1" '{ a[NR] = $1 } END { i = int((NR - 1) * p / 100 + 0.5) + 1; printf "%.2f", a[i] }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", b ? a / b : 0 }'; }
now_ms() { awk '{ printf "%.0f", $1 * 1000 }' /proc/uptime; }
