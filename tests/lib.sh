# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the mount and guest tests stand on. tests/run starts a bash for each test, which sources this, then the test's file, then calls the test.
#
# A test has a directory of its own ($T), mounts by `start`, and need not clean up: `finish` does, and fails the test when the daemon logged a warning
# or left a process, a mount or a file.
#
#   $T temporary directory   $F mount point   $S state directory   $LOG the daemon's log   $DAEMON its pid

. "$(dirname "${BASH_SOURCE[0]}")/../examples/lib.sh"

TOOLS=$FORKFS_BUILD/tests/tools
F=$T/forks S=$T/state-$$ LOG=$T/log DAEMON=
# VMMs of this test run as these users, and nobody else does.
UID_FIRST=$((1500000000 + ($$ % 100000) * 1000))
UIDS=$UID_FIRST-$((UID_FIRST + 999))
allowed= failures=0

export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:halt_on_error=1:exitcode=99
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:exitcode=99
export TSAN_OPTIONS=history_size=4:exitcode=99
export LSAN_OPTIONS=exitcode=99:print_suppressions=0:${LSAN_OPTIONS-}

# Says what went wrong and where; the test goes on, and has failed.
bad() {
	failures=$((failures + 1))
	printf '    %s:%s: %s\n' "$(basename "${BASH_SOURCE[2]:-${BASH_SOURCE[1]}}")" "${BASH_LINENO[1]:-${BASH_LINENO[0]}}" "$*"
}

skip() { printf '%s\n' "$*" >"$T/skip"; exit 77; }

# is WHAT EXPECTED ACTUAL
is() { [ "$2" = "$3" ] || bad "$1: \"$3\" instead of \"$2\""; }

# like WHAT PATTERN ACTUAL: an extended regular expression that has to be in it.
like() { grep -qE -- "$2" <<<"$3" || bad "$1: \"$3\" has nothing like \"$2\""; }

# ok COMMAND...: it has to succeed; what it says is shown when it doesn't.
ok() {
	local said
	said=$("$@" 2>&1) || bad "$*: failed: $said"
}

# no COMMAND...: it has to fail, by itself, in time.
no() {
	local r=0
	("$@") >/dev/null 2>&1 || r=$?
	[ "$r" != 0 ] || bad "$*: succeeded"
	[ "$r" != 124 ] || bad "$*: took too long"
}

# Runs something in 20 s at most, 10 s later it is killed.
soon() { timeout -k 10 20 "$@"; }

# poke FILE TEXT: one write(2) of exactly that; prints "ok" or the errno's name. The text is printf's format: \n, \0.
# shellcheck disable=SC2059
poke() { printf "$2" | soon "$TOOLS/put" "$1"; }

# command FILE TEXT: one write of a line.
command_is() { # EXPECTED FILE TEXT
	is "echo '$3' > ${2#"$F"/}" "$1" "$(printf '%s\n' "$3" | soon "$TOOLS/put" "$2")"
}

# The errno's name that mkdir fails with, or "ok".
mkdir_is() { # EXPECTED DIRECTORY
	local said
	said=$(LC_ALL=C soon mkdir "$2" 2>&1) && said=ok
	case $said in
		*"File exists"*) said=EEXIST ;;
		*"Invalid argument"*) said=EINVAL ;;
		*"No space left"*) said=ENOSPC ;;
		*"Permission denied"*) said=EACCES ;;
		*"not permitted"*) said=EPERM ;;
		*"resource busy"*) said=EBUSY ;;
		*"Cannot allocate"*) said=ENOMEM ;;
		*"No such file"*) said=ENOENT ;;
		*"not supported"*) said=EOPNOTSUPP ;;
		*"Input/output"*) said=EIO ;;
	esac
	is "mkdir ${2#"$F"/}" "$1" "$said"
}

# wait_for SECONDS COMMAND...: looks every 50 ms.
wait_for() {
	local seconds=$1; shift
	until_true "$seconds" "$@" || { bad "not within $seconds s: $*"; return 1; }
}

state_of() { cat "$F/$1/state"; }
state_is() { is "state of $1" "$2" "$(state_of "$1")"; }
in_state() { [ "$(state_of "$1")" = "$2" ]; }
status_of() { sed -n "s/^$2:[[:space:]]*//p" "$F/$1/status"; }
error_of() { cat "$F/$1/error"; }
root_error() { cat "$F/error"; }

# What `metrics` says of forkfs_NAME.
metric() { awk -v m="forkfs_$1" '$1 == m { print $2 }' "$F/metrics"; }
pid_of() { status_of "$1" Pid | tr -cd 0-9; }

# shot_in FORK SNAPSHOT STATE
shot_in() { [ "$(cat "$F/$1/snapshots/$2/state" 2>/dev/null)" = "$3" ]; }

# put_at FORK OFFSET TEXT: into its RAM.
put_at() { printf '%s' "$3" | timeout 20 dd of="$F/$1/mem" bs=1 seek="$2" conv=notrunc status=none; }

# same_memory A B: cmp by itself asks for 4 KiB at a time.
same_memory() { [ -s "$1" ] && [ -s "$2" ] && timeout 60 cmp <(dd if="$1" bs=1M status=none) <(dd if="$2" bs=1M status=none); }

# A VM description that the null driver is content with.
description() {
	local dir=${1:-$T/vm}
	mkdir -p "$dir"
	printf kernel >"$dir/kernel"
	printf initrd >"$dir/initrd"
	cat >"$dir/base.json" <<END
{ "boot-source": { "kernel_image_path": "$dir/kernel", "initrd_path": "$dir/initrd", "boot_args": "console=ttyS0" },
  "machine-config": { "vcpu_count": 1, "mem_size_mib": ${MEMORY:-8} } }
END
}

daemon_gone() { ! kill -0 "$DAEMON" 2>/dev/null; }

# start [-o OPTIONS]...: mounts on $F with the null driver and waits until it answers. No VMM waits in a pool, so that those there are can be counted, unless
# POOL says how many.
start() {
	mkdir -p "$F"
	"$FORKFS_BUILD/fs/forkfs" -f -o "state=$S,vmm=${VMM:-null},uids=$UIDS,pool=${POOL:-0},pool_loaded=${LOADED:-0}" "$@" "$F" >>"$LOG" 2>&1 </dev/null &
	DAEMON=$!
	until_true 30 eval 'test -e "$F/help" || daemon_gone'
	mounted || { bad "no mount: $(tail -n 5 "$LOG")"; kill "$DAEMON" 2>/dev/null; DAEMON=; exit 1; }
}

# Boots the null driver in a fork of that name.
booted() {
	[ -e "$T/vm/base.json" ] || description
	soon mkdir "$F/$1" && soon "$TOOLS/put" "$F/$1/boot" <<<"$T/vm/base.json" >"$T/booted"
	grep -qx ok "$T/booted" || { bad "boot of $1: $(cat "$T/booted"): $(error_of "$1")"; return 1; }
}

# A snapshot of a fresh fork "base": $F/base/snapshots/ready
with_snapshot() {
	booted base && soon mkdir "$F/base/snapshots/ready" || { bad "no snapshot: $(error_of base)"; return 1; }
}

# What a daemon that hangs is doing.
stuck() {
	local t
	for t in /proc/"$DAEMON"/task/*; do
		printf '      %s: %s in %s\n' "${t##*/}" "$(cat "$t/comm")" "$(cat "$t/wchan")"
	done 2>/dev/null
	! command -v gdb >/dev/null || timeout 30 gdb -p "$DAEMON" -batch -ex 'thread apply all bt 20' 2>/dev/null | grep -E '^(#|Thread)' | sed 's/^/      /'
}

# Ends the daemon by umount, or by a signal, and looks whether all is given back.
stop() {
	local how=${1:-umount} r=0
	[ -n "$DAEMON" ] || return 0
	case $how in
		umount) soon umount "$F" || bad "umount failed" ;;
		*) kill -s "$how" "$DAEMON" ;;
	esac
	if ! until_true 20 daemon_gone; then
		bad "the daemon did not end"
		stuck
		kill -ABRT "$DAEMON"
		until_true 5 daemon_gone || kill -KILL "$DAEMON"
	fi
	wait "$DAEMON" || r=$?
	[ "$r" = 0 ] || bad "the daemon's exit status is $r"
	DAEMON=
	until_true 5 eval '[ -z "$(vmms)" ]' || bad "left running: $(vmms | tr '\n' ' ')"
	! mounted || bad "still mounted"
}

mounted() { cut -d' ' -f5 /proc/self/mountinfo | grep -qxF "$F"; }

# Processes that run as a user of this test's range.
vmms() { ps -eo uid=,pid= | awk -v first="$UID_FIRST" '$1 >= first && $1 <= first + 999 { print $2 }'; }

# How many of them are no zombies.
alive() {
	local p n=0
	for p in $(vmms); do
		! grep -q '^State:.[^Z]' "/proc/$p/status" 2>/dev/null || n=$((n + 1))
	done
	echo "$n"
}

# kill_vmms PID...: until they are gone, for one that is only about to die can't be told from a live one.
kill_vmms() {
	kill -KILL "$@" 2>/dev/null
	wait_for 10 eval "! kill -0 $* 2>/dev/null"
}

# The daemon as the kernel's OOM killer leaves it.
kill_daemon() {
	kill -KILL "$DAEMON"
	wait "$DAEMON" 2>/dev/null
	DAEMON=
	umount -l "$F" 2>/dev/null
}

# Log lines of level warn and error that match are expected.
expect_log() { allowed="$allowed${allowed:+|}$1"; }

check_log() {
	[ -e "$LOG" ] || return 0
	local lines
	lines=$(grep -aE '^forkfs: (warn|error):|Sanitizer|runtime error:|^SUMMARY|Assertion|core dumped' "$LOG" |
		if [ -n "$allowed" ]; then grep -avE -- "$allowed"; else cat; fi | head -n 20)
	[ -z "$lines" ] || bad "the daemon's log: $lines"
	grep -aE -A 25 'ERROR: .*Sanitizer|runtime error:' "$LOG" | head -n 60 | sed 's/^/      /' 
}

# A mount that doesn't answer any more: its requests are aborted.
abort_mount() {
	local dev
	dev=$(awk -v p="$F" '$5 == p { split($3, d, ":"); print d[2] }' /proc/self/mountinfo | tail -n 1)
	[ -z "$dev" ] || echo 1 >"/sys/fs/fuse/connections/$dev/abort" 2>/dev/null
	umount -l "$F" 2>/dev/null
}

# At the end of every test, however it ends.
finish() {
	local r=$? pid
	trap - EXIT TERM INT
	# shellcheck disable=SC2046
	kill $(jobs -p | grep -vx "${DAEMON:-0}") 2>/dev/null
	stop
	for pid in $(vmms); do kill -KILL "$pid" 2>/dev/null; done
	mounted && { abort_mount; bad "the mount had to be torn down"; }
	check_log
	if [ -d "$S" ] && [ -z "${KEEPS_STATE-}" ] && [ -n "$(find "$S" -mindepth 1 ! -name lock ! -type d 2>/dev/null)" ]; then
		bad "left in the state directory: $(cd "$S" && find . -mindepth 1 | head -n 5 | tr '\n' ' ')"
	fi
	[ "$r" = 0 ] || [ "$r" = 77 ] || [ "$failures" != 0 ] || bad "ended with status $r"
	[ "$failures" = 0 ] || exit 1
	exit "$r"
}

# run_test FUNCTION: what tests/run calls.
run_test() {
	trap finish EXIT
	trap 'bad "took too long"; exit 1' TERM
	trap 'exit 1' INT
	"$1"
	exit 0
}
