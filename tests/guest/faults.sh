# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Blows at bad moments, dealt to real guests: see tests/mount/faults.sh. A guest that writes all the while asks for its pages by itself.
. tests/guest/common.bash

vmms_are() { [ "$(vmms | wc -l)" = "$1" ]; }
# asking FORK SNAPSHOT: a guest most of whose pages are not there yet.
asking() {
	mkdir "$F/$1"
	command_is ok "$F/$1/config/fill" ondemand
	command_is ok "$F/$1/config/working_set" off
	command_is ok "$F/$1/restore" "$2"
}
sums() { typed "$1" check '^sum (ok|BAD)'; like "$1" '^sum ok' "$(grep -a '^sum [oB]' "$F/$1/console" | tail -n 1 | tr -d '\r')"; }

test_served() {
	POOL=0 start
	ready sum || return
	cp -r --sparse=always "$READY" "$T/src"
	chmod -R u+w "$T/src"
	# The end of what its pages come from: no guest reads zeros.
	asking a "$T/src"
	truncate -s 4096 "$T/src/memory.bin"
	wait_for 30 in_state a failed
	like "error" 'truncated|written to' "$(error_of a)"
	wait_for 10 vmms_are 0
	command_is ok "$F/a/restore" "$READY"
	sums a
	ok rmdir "$F/a"
	# Killed, removed, restored once more.
	asking a "$READY"
	kill -KILL "$(pid_of a)"
	wait_for 10 in_state a failed
	like "error" killed "$(error_of a)"
	command_is ok "$F/a/restore" "$READY"
	command_is EBUSY "$F/a/restore" "$READY"
	ok rmdir "$F/a"
	wait_for 10 vmms_are 0
	# The mount ends.
	asking a "$READY"
	asking b "$READY"
	stop
}

test_captured() {
	mkdir "$T/small"
	mount -t tmpfs -o size=8m none "$T/small" || skip "no tmpfs can be mounted"
	POOL=0 start
	ready sum || { umount -l "$T/small"; return; }
	# No room: the guest goes on.
	asking a "$READY"
	command_is ok "$F/config/snapshot_dir" "$T/small"
	timeout 20 mkdir "$F/a/snapshots/s" 2>/dev/null
	wait_for 30 eval '! shot_in a s writing'
	no shot_in a s complete
	like "error" 'No space left' "$(error_of a)"
	[ ! -d "$F/a/snapshots/s" ] || ok rmdir "$F/a/snapshots/s"
	wait_for 10 eval '[ "$(df --output=used -k "$T/small" | tail -n 1)" -lt 512 ]'
	command_is ok "$F/config/snapshot_dir" memory
	sums a
	# Dropped; and the next one is whole.
	ok mkdir "$F/a/snapshots/s"
	ok rmdir "$F/a/snapshots/s"
	ok mkdir "$F/a/snapshots/t"
	child b "$F/a/snapshots/t"
	sums b
	# Killed.
	ok mkdir "$F/a/snapshots/u"
	kill -KILL "$(pid_of a)"
	wait_for 10 in_state a failed
	wait_for 20 eval '! shot_in a u writing'
	like "error" killed "$(error_of a)"
	# The parent goes while its child still needs it.
	ok mkdir "$F/b/snapshots/s"
	asking c "$F/b/snapshots/s"
	ok rmdir "$F/b"
	sums c
	ok mkdir "$F/c/snapshots/s"
	stop
	umount "$T/small"
}

# What waits is killed, and goes with a daemon that is.
test_pooled() {
	local how pids
	expect_log 'waited|kept waiting'
	for how in memfd-shared memfd-private; do
		POOL=2 LOADED=2 start -o "memory_backend=$how"
		ready sum || return
		mkdir "$F/a" "$F/b"
		command_is ok "$F/a/restore" "$READY"
		wait_for 30 eval '[ "$(metric pool_loaded)" = 2 ] && [ "$(metric pool_waiting)" = 2 ]'
		pids=$(vmms | grep -vxF "$(pid_of a)")
		# shellcheck disable=SC2086
		kill_vmms $pids
		command_is ok "$F/b/restore" "$READY"
		sums b
		wait_for 30 eval '[ "$(metric pool_loaded)" = 2 ] && [ "$(metric pool_waiting)" = 2 ]'
		kill_daemon
		wait_for 20 eval '[ "$(alive)" -le 2 ]' || return
		is "$how: guests that ran" 2 "$(alive)"
		start # takes over what is left
		is "$how: guests taken over" 2 "$(alive)"
		sums a
		sums b
		stop
	done
}
