# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Whatever ends, all is given back. `stop` and `finish` of lib.sh look for processes, mounts and files.

busy_world() {
	start
	with_snapshot
	command_is ok "$F/restore" "$F/base/snapshots/ready 5 w-"
	echo paused >"$F/w-0/state"
	kill -STOP "$(status_of w-1 Pid)"
	expect_log w-1
	is "VMs" 6 "$(vmms | wc -l)"
}

# Nothing of this test's processes is left in anyone's maps.
no_memfd() {
	local left
	left=$(for p in $(vmms); do grep -l 'memfd:forkfs' "/proc/$p/maps" 2>/dev/null; done)
	is "memfds" "" "$left"
}

test_umount() { busy_world; stop; no_memfd; }
test_sigterm() { busy_world; stop TERM; no_memfd; }
test_sigint() { busy_world; stop INT; no_memfd; }

test_idle() { start; stop; start; stop TERM; }

# Descriptors and memory of the daemon after a hundred forks are what they were.
test_descriptors() {
	start
	with_snapshot
	local before after i
	one_round() {
		"$TOOLS/put" "$F/restore" <<<"$F/base/snapshots/ready 10 w-" >/dev/null
		mkdir "$F/w-1/snapshots/x"
		cat "$F"/w-*/status >/dev/null
		"$TOOLS/put" "$F/restore" <<<"$F/base/snapshots/ready 10 w-" >/dev/null # fails
		rmdir "$F"/w-*
		wait_for 20 eval '[ "$(vmms | wc -l)" = 1 ]'
	}
	one_round
	before=$(find "/proc/$DAEMON/fd" | wc -l)
	for i in {1..9}; do one_round; done
	settled() { after=$(find "/proc/$DAEMON/fd" | wc -l); [ "$after" -le "$before" ]; }
	until_true 10 settled || bad "descriptors: $before before, $after after"
	is "children" 1 "$(pgrep -c -P "$DAEMON")"
	is "state directory" "" "$(find "$S" -name '*w-*')"
}

# Failures in a row leave nothing.
test_failures() {
	start
	with_snapshot
	local before after i
	mkdir "$F/a"
	cp -r "$F/base/snapshots/ready" "$T/broken"
	chmod -R u+w "$T/broken"
	printf X | dd of="$T/broken/vmstate" bs=1 conv=notrunc status=none
	poke "$F/a/restore" "$T/broken\n" >/dev/null
	before=$(find "/proc/$DAEMON/fd" | wc -l)
	for i in {1..30}; do
		poke "$F/a/restore" "$T/broken\n" >/dev/null
		poke "$F/restore" "$T/broken 3 m-\n" >/dev/null
		poke "$F/a/boot" "$T/broken\n" >/dev/null
	done
	settled() { after=$(find "/proc/$DAEMON/fd" | wc -l); [ "$after" -le "$before" ]; }
	until_true 10 settled || bad "descriptors: $before before, $after after"
	is "processes" 1 "$(vmms | wc -l)"
}

# A writer that is killed while its restore is under way: either it is done or nothing of it is there.
test_killed_writers() {
	start
	with_snapshot
	local i pid
	for i in {1..20}; do
		"$TOOLS/put" "$F/restore" <<<"$F/base/snapshots/ready 5 w$i-" >/dev/null &
		pid=$!
		kill -KILL "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	all_or_nothing() {
		local n
		for i in {1..20}; do
			n=$(ls "$F" | grep -c "^w$i-")
			[ "$n" = 0 ] || [ "$n" = 5 ] || return 1
		done
		[ "$(ls "$F" | grep -c '^w')" = "$(($(vmms | wc -l) - 1))" ]
	}
	wait_for 20 all_or_nothing
}

# kill -9 of the daemon: the next one on the same state directory leaves nothing behind.
test_kill_9() {
	start
	booted a
	booted b
	kill_daemon
	expect_log .
	start
	is "what is there" "" "$(ls -d "$F"/*/ 2>/dev/null | grep -v -e config | while read -r d; do case "$(cat "$d/state")" in running|empty|failed|exited|paused) ;; *) echo "$d" ;; esac; done)"
	wait_for 20 eval '[ "$(vmms | wc -l)" = "$(grep -l "^running" "$F"/*/state 2>/dev/null | wc -l)" ]'
	booted c
	state_is c running
}

test_busy_mount() {
	start
	booted a
	exec 5<"$F/help"
	no umount "$F" # somebody has a file open
	state_is a running
	exec 5<&-
	stop
}

# Two daemons whose state directories have the same name, elsewhere: they know nothing of each other.
test_two_daemons() {
	S=$T/one/state
	start
	with_snapshot
	mkdir "$T/other"
	"$FORKFS_BUILD/fs/forkfs" -f -o "state=$T/two/state,vmm=null,uids=$UIDS" "$T/other" >>"$T/log2" 2>&1 &
	local second=$!
	wait_for 20 test -e "$T/other/help"
	ok cmp "$F/base/snapshots/ready/memory.bin" "$F/base/mem"
	umount "$T/other"
	wait_for 20 eval "! kill -0 $second"
	ok cmp "$F/base/snapshots/ready/memory.bin" "$F/base/mem"
	state_is base running
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
}

# Who has a file of a fork or a snapshot open while its directory goes makes the kernel keep that in view, long after he closed it.
test_open_files() {
	start
	with_snapshot
	local file before i fd
	held() { find "/proc/$DAEMON/fd" -mindepth 1 -printf '%l\n' | grep -vc memfd:vmstate; }
	before=$(held)
	for file in console state mem config/fill snapshots/s/memory.bin snapshots/s/state; do
		mkdir "$F/x"
		command_is ok "$F/x/restore" "$F/base/snapshots/ready"
		printf hello >"$F/x/console"
		ok mkdir "$F/x/snapshots/s"
		exec {fd}<"$F/x/$file"
		ok rmdir "$F/x"
		wait_for 10 eval '[ "$(vmms | wc -l)" = 1 ]'
		[ "$file" != console ] || is "what the console had" hello "$(cat <&$fd)"
		exec {fd}<&-
	done
	wait_for 10 eval '[ "$(held)" -le '"$before"' ]'
	# The fork goes while its snapshot is being made.
	for i in {1..25}; do
		mkdir "$F/x"
		command_is ok "$F/x/restore" "$F/base/snapshots/ready"
		mkdir "$F/x/snapshots/s" 2>/dev/null & local shot=$!
		ok rmdir "$F/x"
		wait "$shot"
	done
	wait_for 10 eval '[ "$(vmms | wc -l)" = 1 ]'
	ok rmdir "$F/base"
	wait_for 10 eval '[ -z "$(find /dev/shm -path "/dev/shm/forkfs-$(basename "$S")*" -mindepth 2)" ]' ||
		find /dev/shm -path "/dev/shm/forkfs-$(basename "$S")*" -mindepth 2 | head
}
