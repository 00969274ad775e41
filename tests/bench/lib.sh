# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the benchmarks share. Figures are printed, never asserted; what is compared alternates within one run.
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
. examples/lib.sh
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }

FORKFS=${FORKFS:-$BUILD/fs/forkfs}
TOOLS=$BUILD/tests/bench
W=$(mktemp -d "${TMPDIR:-/tmp}/forkfs-bench.XXXXXX")
chmod 0711 "$W"
# The daemon's own files on a tmpfs, as in its default place on most machines.
STATE=$(mktemp -d /dev/shm/forkfs-bench.XXXXXX)
F=$W/forks
pids=() mounts=()

end() {
	local m
	for m in "${mounts[@]}"; do umount "$m" 2>/dev/null || umount -l "$m" 2>/dev/null; done
	[ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null
	wait
	rm -rf --one-file-system "$W" "$STATE"
}
trap end EXIT
trap 'exit 1' INT TERM

# mount_forkfs -o OPTIONS: on $F. Several, with an F each, go side by side.
mount_forkfs() {
	mkdir -p "$F"
	mounts+=("$F")
	"$FORKFS" -f -o "state=$STATE/${F##*/},log=error,uids=$((2000000000 + ${#mounts[@]} * 2000))-$((2000001999 + ${#mounts[@]} * 2000))" "$@" "$F" & pids+=($!)
	until_true 30 test -e "$F/help" || die "no mount"
}

# --- figures ---------------------------------------------------------------------------------------------------------------------------

# Of numbers, one a line: percentile P [DECIMALS]
percentile() {
	sort -n | awk -v p="$1" -v d="${2:-2}" '{ a[NR] = $1 } END { if (!NR) { print "-"; exit } i = int((NR - 1) * p / 100 + 0.5) + 1; printf "%.*f", d, a[i] }'
}
median() { percentile 50 "$@"; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", b ? a / b : 0 }'; }
now_ms() { awk '{ printf "%.0f", $1 * 1000 }' /proc/uptime; }

# Column N of standard input
column() { awk -v n="$1" '{ print $n }'; }

# Milliseconds between two values of EPOCHREALTIME
between() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", (b - a) * 1000 }'; }

mib() { awk -v b="$1" 'BEGIN { printf "%.1f", b / 1048576 }'; }
available() { awk '/^MemAvailable/ { printf "%.0f", $2 * 1024 }' /proc/meminfo; }

# On a machine that others use the figures are theirs, too.
say_load() { printf 'load average %s, %s processors, %s MiB available\n\n' "$(cut -d' ' -f1-3 /proc/loadavg)" "$(nproc)" "$(($(available) >> 20))"; }

# --- guests ----------------------------------------------------------------------------------------------------------------------------

needs_guest() {
	command -v qemu-system-x86_64 >/dev/null && [ -e /bin/busybox ] || { echo "needs qemu-system-x86 and busybox-static"; exit 77; }
}

# boot FORK MAKE-GUEST'S OPTION...: a new fork with a guest that counts. ARGS goes on its kernel's command line.
boot() {
	local fork=$1; shift
	examples/make-guest "$@" "$W/vm-$fork" >/dev/null || die "no guest"
	[ -z "${ARGS-}" ] || sed -i "s/\"boot_args\": \"/&$ARGS /" "$W/vm-$fork/base.json"
	mkdir "$F/$fork" && echo "$W/vm-$fork/base.json" >"$F/$fork/boot" || die "$(cat "$F/$fork/error")"
	until_true 120 grep -q '^tick 3' "$F/$fork/console" || die "the guest doesn't boot: $(tail -n 3 "$F/$fork/console")"
}

# guest NAME MAKE-GUEST'S OPTION...: the snapshot of such a one, in $W/NAME, outside the mount
guest() {
	local name=$1; shift
	boot parent "$@"
	mkdir "$F/parent/snapshots/s" && cp -r --sparse=always "$F/parent/snapshots/s" "$W/$name" || die "no snapshot of it"
	remove parent
}

# restore FORK SNAPSHOT: in a new fork
restore() {
	mkdir "$F/$1" && echo "$2" >"$F/$1/restore" || die "$(cat "$F/$1/error")"
}

# Removes forks and waits for their VMMs' ends: they would take time from what is measured next.
remove() {
	local f p=()
	for f; do p+=("$(field "$f" Pid)"); done
	for f; do rmdir "$F/$f"; done
	until_true 60 gone "${p[@]}"
}
gone() { local p; for p; do [ ! -e "/proc/$p" ] || return 1; done; }

# field FORK KEY: a value of its status, without its unit
field() { awk -v k="$2:" '$1 == k { print $2 }' "$F/$1/status"; }
blocks() { stat -c %b "$1" | awk '{ printf "%.0f", $1 * 512 }'; }
metric() { awk -v m="forkfs_$1" '$1 == m { printf "%.0f", $2 }' "$F/metrics"; }
setting() { echo "$2" >"$F/config/$1" || die "$(cat "$F/error")"; }

# The last event of a kind that a fork had: event FORK KIND
event() { grep -F "\"fork\":\"$1\",\"event\":\"$2\"" "$F/events" | tail -n 1; }
# A number of an event, read from standard input: member NAME
member() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p"; }

pool_full() { [ "$(metric pool_waiting)" -ge "$(cat "$F/config/pool")" ] && [ "$(metric pool_loaded)" -ge "$(cat "$F/config/pool_loaded")" ]; }
# Waits until the pool is as it should be.
pool_ready() { until_true 60 pool_full || die "the pool doesn't fill"; }
