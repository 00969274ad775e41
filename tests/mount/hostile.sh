# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# VMMs that their guests took over: programs that speak as QEMU (tests/tools/standin_qemu.c) or Firecracker (tests/tools/standin.c) do, and misbehave. Whatever one does, it
# costs the daemon bounded memory, its fork says what was wrong, rmdir ends it, and a neighbour goes on.

export FORKFS_NO_LANDLOCK=1 FORKFS_NO_MINIMAL_ROOT=1 # confined they could do less

# qemu MODE: the path of one that does that.
qemu() {
	[ -e "$T/standin_qemu" ] || cp "$TOOLS/standin_qemu" "$T/"
	ln -sf standin_qemu "$T/standin_qemu-$1"
	printf '%s' "$T/standin_qemu-$1"
}

# The daemon's memory in kB: what it has, and the most it had since peak_begins.
memory_of() { sed -n "s/^$1:[[:space:]]*\([0-9]*\) kB/\1/p" "/proc/$DAEMON/status"; }
peak_begins() { echo 5 >"/proc/$DAEMON/clear_refs"; resident=$(memory_of VmRSS); }
MORE=65536 # kB that one of them may cost, AddressSanitizer's part of it included
peak_is_bounded() { [ "$(memory_of VmHWM)" -le $((resident + MORE)) ] || bad "$1: the daemon had $resident kB and came to $(memory_of VmHWM) kB"; }

descriptors() { find "/proc/$DAEMON/fd" -mindepth 1 -printf '%l\n' | sed 's/[0-9]\+/N/g' | grep -v vmstate | sort | uniq -c; }
neighbour_alone() { [ "$(vmms | wc -l)" = 1 ]; }

# The neighbour is there, and does all that a fork does.
neighbour_answers() {
	state_is neighbour running
	command_is ok "$F/neighbour/console" "after $1"
	wait_for 10 grep -q "after $1" "$F/neighbour/console"
	put_at neighbour 3000000 "$1"
	is "$1: the neighbour's memory" "$1" "$(soon dd if="$F/neighbour/mem" bs=1 skip=3000000 count=${#1} status=none)"
	command_is ok "$F/neighbour/state" paused
	command_is ok "$F/neighbour/state" running
	ok soon mkdir "$F/neighbour/snapshots/s"
	ok soon ls "$F" "$F"/*/
	ok soon cat "$F"/*/status "$F"/*/console "$F"/*/log "$F/events" "$F/metrics" >"$T/read"
	ok soon rmdir "$F/neighbour/snapshots/s"
}

# begin: a neighbour of the null driver, and a snapshot of the stand-in's in $T/snap. A small quarantine of the sanitizer's, so that what is kept shows.
begin() {
	expect_log 'QEMU is killed|waited|kept waiting'
	ASAN_OPTIONS=$ASAN_OPTIONS:quarantine_size_mb=4 start -o "mem_write=1,templates_max=0,timeout=${TIMEOUT:-1500},qemu=$(qemu good),console_max=65536,events_max=100"
	booted neighbour
	command_is ok "$F/config/vmm" qemu
	ok mkdir "$F/base"
	command_is ok "$F/base/boot" "$T/vm/base.json"
	ok mkdir "$F/base/snapshots/s"
	wait_for 10 shot_in base s complete
	ok cp -r --sparse=always "$F/base/snapshots/s" "$T/snap"
	ok rmdir "$F/base"
	wait_for 10 neighbour_alone
	neighbour_answers begin # a first snapshot leaves it a pager
	descriptors >"$T/descriptors"
}

# The fork goes, and so does all of it.
hostile_goes() {
	ok soon rmdir "$F/hostile"
	wait_for 10 neighbour_alone
	until_true 10 eval 'descriptors | cmp -s - "$T/descriptors"' || is "$1: the daemon's descriptors" "$(cat "$T/descriptors")" "$(descriptors)"
	[ -z "$(find "$S/forks" -name 'qmp' -o -name 'console')" ] || bad "$1: sockets left: $(find "$S/forks")"
	peak_is_bounded "$1"
}

# refused MODE ERRNO PATTERN [SETTING...]: a restore that fails.
refused() {
	local mode=$1 errno=$2 pattern=$3 setting; shift 3
	command_is ok "$F/config/qemu" "$(qemu "$mode")"
	ok mkdir "$F/hostile"
	for setting; do command_is ok "$F/hostile/config/${setting%%=*}" "${setting#*=}"; done
	peak_begins
	command_is "$errno" "$F/hostile/restore" "$T/snap"
	like "$mode: error" "$pattern" "$(error_of hostile)"
	state_is hostile failed
	wait_for 10 neighbour_alone
	command_is ok "$F/config/qemu" "$(qemu good)"
	command_is ok "$F/hostile/restore" "$T/snap"
	state_is hostile running
	neighbour_answers "$mode"
	hostile_goes "$mode"
}

test_says_nothing() {
	begin
	refused mute ETIMEDOUT 'did not answer within 1500 ms'
	refused deaf ETIMEDOUT 'did not answer within 1500 ms'
	refused stuck ETIMEDOUT 'did not answer within 1500 ms'
}

# Longer than its process has to end behind its socket.
test_closes() {
	TIMEOUT=5000 begin
	refused nothing EIO 'closed the socket of its memory' memory_backend=memfd-private
	refused shut EIO 'QEMU .*was killed'
	refused leaves EIO 'QEMU .*was killed'
	refused half EIO 'QEMU .*was killed'
	refused dies EIO 'ended with status 3'
}

test_says_nonsense() {
	begin
	refused garbage EIO 'QMP line that is no JSON'
	refused endless EIO 'a line without an end'
	refused deep EIO 'nested deeper than'
	refused deeper EIO 'a line without an end'
	refused twice EIO 'a command that was not given'
	refused ids EIO 'a command that was not given'
	refused greets EIO 'greeting is missing or repeated'
	refused wrong EIO 'no known kind'
	refused refuses EIO "QEMU says: it doesn't please me, .\[31mand I say so"
	no grep -q $'\033' "$F/error" "$F/events"
}

# works MODE [SETTING...]: what it does is of no effect on the restore, and a neighbour lives beside it.
works() {
	local mode=$1 setting before; shift
	command_is ok "$F/config/qemu" "$(qemu "$mode")"
	ok mkdir "$F/hostile"
	for setting; do command_is ok "$F/hostile/config/${setting%%=*}" "${setting#*=}"; done
	peak_begins
	command_is ok "$F/hostile/restore" "$T/snap"
	before=$(count hostile)
	wait_for 10 eval '[ "$(count hostile)" -gt "$before" ]'
	neighbour_answers "$mode"
	neighbour_answers "$mode again"
	like "$mode: its record" '^[0-9]+$' "$(stat -c %s "$F/hostile/console")"
	[ "$(stat -c %s "$F/hostile/console")" -le 65536 ] || bad "$mode: its console has $(stat -c %s "$F/hostile/console") bytes"
	[ "$(stat -c %s "$F/hostile/log")" -le 65536 ] || bad "$mode: its log has $(stat -c %s "$F/hostile/log") bytes"
	hostile_goes "$mode"
}
count() { soon dd if="$F/$1/mem" bs=8 skip=$(((2 << 20) / 8 + 2)) count=1 status=none | od -An -tu8 | tr -d ' '; }

test_slow() {
	begin
	works slow
}

test_floods() {
	begin
	works events
	works console
	works presents
}

# Each turn is told and written down: that takes its time, and nobody else's.
test_turns_over_and_over() {
	begin
	works turns
}

# What its hello says and brings is a userfaultfd that can be used, or none.
test_lies_in_its_hello() {
	begin
	works short
	works nofd
	works errors
	works crowd
	works pty
	works hellos
	works nowhere
}

# A descriptor whose every call waits: neither the daemon nor a neighbour does.
test_sends_a_file_that_waits() {
	local server
	begin
	qemu fuse >"$T/path"
	mkdir "$T/standin_qemu-fuse.fs"
	"$TOOLS/stuckfs" "$T/standin_qemu-fuse.fs" & server=$!
	wait_for 10 mountpoint -q "$T/standin_qemu-fuse.fs"
	command_is ok "$F/config/qemu" "$(qemu fuse)"
	ok mkdir "$F/hostile"
	command_is ok "$F/hostile/restore" "$T/snap"
	like "what it has to send" 'standin_qemu-fuse.fs/file' "$(find "/proc/$(pid_of hostile)/fd" -printf '%l\n')"
	neighbour_answers fuse
	ok soon rmdir "$F/hostile"
	neighbour_answers "fuse is gone"
	kill -KILL "$server"
	wait "$server"
	umount -l "$T/standin_qemu-fuse.fs"
	wait_for 10 neighbour_alone
	wait_for 10 eval 'descriptors | cmp -s - "$T/descriptors"'
}

# What it does when it is asked to save, and a migration that nobody began.
test_fails_to_save() {
	begin
	command_is ok "$F/config/qemu" "$(qemu unsaved)"
	ok mkdir "$F/hostile"
	command_is ok "$F/hostile/restore" "$T/snap"
	peak_begins
	mkdir_is EIO "$F/hostile/snapshots/s"
	like "error" 'could not save the state' "$(error_of hostile)"
	state_is hostile running
	is "snapshots" "" "$(ls "$F/hostile/snapshots")"
	neighbour_answers unsaved
	hostile_goes unsaved
	works lies
}

# --- Firecracker --------------------------------------------------------------------------------------------------------------------------

firecracker() {
	[ -e "$T/standin" ] || cp "$TOOLS/standin" "$T/"
	ln -sf standin "$T/standin-$1"
	printf '%s' "$T/standin-$1"
}

begin_firecracker() {
	export FORKFS_KVM_MIPS=1000
	firecracker patched >/dev/null
	mkdir "$T/snap"
	"$T/standin" --state 8 >"$T/snap/vmstate"
	truncate -s 8M "$T/snap/memory.bin"
	ASAN_OPTIONS=$ASAN_OPTIONS:quarantine_size_mb=4 start -o "mem_write=1,templates_max=0,timeout=1500,console_max=65536,events_max=100"
	booted neighbour
	command_is ok "$F/config/vmm" auto
	neighbour_answers begin
	descriptors >"$T/descriptors"
}

# With firecracker in the place of qemu.
fire() { # refused | works, and its arguments
	command_is ok "$F/config/firecracker" "$(firecracker "$2")"
	mkdir "$F/hostile"
	peak_begins
	if [ "$1" = works ]; then
		command_is ok "$F/hostile/restore" "$T/snap"
		neighbour_answers "$2"
		wait_for 10 eval '[ "$(stat -c %s "$F/hostile/console")" -gt 0 ]'
		[ "$(stat -c %s "$F/hostile/console")" -le 65536 ] || bad "$2: its console has $(stat -c %s "$F/hostile/console") bytes"
	else
		command_is "$3" "$F/hostile/restore" "$T/snap"
		like "$2: error" "$4" "$(error_of hostile)"
		state_is hostile failed
		wait_for 10 neighbour_alone
		command_is ok "$F/config/firecracker" "$(firecracker patched)"
		command_is ok "$F/hostile/restore" "$T/snap"
		neighbour_answers "$2"
	fi
	hostile_goes "$2"
}

test_firecracker() {
	begin_firecracker
	fire refused endless EIO 'answer is longer than 65536 bytes'
	fire refused headers ETIMEDOUT 'did not answer'
	fire refused continues ETIMEDOUT 'did not answer'
	fire works twice
	fire works shouts
	fire works crowd
}
