# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Guests that wait, loaded and stopped, for whoever restores their snapshot next.

metric_is() { [ "$(metric "$1")" = "$2" ]; }

test_loaded() {
	POOL=2 LOADED=2 start -o mem_write=1
	MEMORY=64 booted base
	put_at base $((32 << 20)) hello
	ok mkdir "$F/base/snapshots/s"
	local how n=0
	for how in memfd-shared:auto memfd-shared:eager memfd-private:auto; do
		command_is ok "$F/config/memory_backend" "${how%:*}"
		command_is ok "$F/config/fill" "${how#*:}"
		mkdir "$F/a" "$F/b" "$F/c"
		command_is ok "$F/a/restore" "$F/base/snapshots/s"
		wait_for 20 eval '[ "$(metric pool_loaded)" -ge 2 ]'
		local before
		before=$(metric pool_loaded_hits_total)
		command_is ok "$F/b/restore" "$F/base/snapshots/s"
		command_is ok "$F/c/restore" "$F/base/snapshots/s"
		is "$how: taken" $((before + 2)) "$(metric pool_loaded_hits_total)"
		is "$how: MemoryBackend" "${how%:*}" "$(status_of b MemoryBackend)"
		is "$how: what it has" hello "$(dd if="$F/b/mem" bs=1 skip=$((32 << 20)) count=5 status=none)"
		put_at b $((32 << 20)) other
		is "$how: its sibling" hello "$(dd if="$F/c/mem" bs=1 skip=$((32 << 20)) count=5 status=none)"
		echo typed-$n >"$F/b/console"
		wait_for 10 grep -q typed-$n "$F/b/console"
		is "$how: its own console only" "" "$(cat "$F/c/console")"
		ok mkdir "$F/b/snapshots/t"
		is "$how: its snapshot" other "$(dd if="$F/b/snapshots/t/memory.bin" bs=1 skip=$((32 << 20)) count=5 status=none)"
		ok rmdir "$F/a" "$F/b" "$F/c"
		n=$((n + 1))
	done
	# Gone with the snapshot.
	ok rmdir "$F/base/snapshots/s"
	wait_for 20 metric_is pool_loaded 0
	wait_for 20 metric_is templates_used 0
}

# Other bytes under the same name: nobody gets the old guest.
test_replaced() {
	POOL=2 LOADED=2 start -o mem_write=1
	MEMORY=64 booted base
	put_at base $((32 << 20)) first
	ok mkdir "$F/base/snapshots/s"
	cp -r --sparse=always "$F/base/snapshots/s" "$T/snap"
	mkdir "$F/a" "$F/b" "$F/c"
	command_is ok "$F/a/restore" "$T/snap"
	wait_for 20 eval '[ "$(metric pool_loaded)" -ge 1 ]'
	put_at base $((32 << 20)) other
	ok mkdir "$F/base/snapshots/t"
	rm -rf "$T/snap"
	cp -r --sparse=always "$F/base/snapshots/t" "$T/snap"
	command_is ok "$F/b/restore" "$T/snap"
	is "what it has" other "$(dd if="$F/b/mem" bs=1 skip=$((32 << 20)) count=5 status=none)"
	# Who may not read it gets no guest that waits either.
	chmod 700 "$T/snap"
	setpriv --reuid=nobody --regid=nogroup --clear-groups test -r "$T/snap/memory.bin" && bad "anybody may read it"
	stop
	POOL=2 LOADED=2 start -o allow_other
	ok mkdir "$F/r"
	command_is ok "$F/r/restore" "$T/snap"
	wait_for 20 eval '[ "$(metric pool_loaded)" -ge 1 ]'
	ok setpriv --reuid=nobody --regid=nogroup --clear-groups mkdir "$F/n"
	is "restore" EACCES "$(setpriv --reuid=nobody --regid=nogroup --clear-groups "$TOOLS/put" "$F/n/restore" <<<"$T/snap")"
}

# Killed while it waits, while it is being loaded, and by a daemon that is killed itself.
test_killed() {
	expect_log 'waited|kept waiting'
	POOL=3 LOADED=2 start
	with_snapshot
	local i pids
	for i in 1 2 3 4 5 6; do
		mkdir "$F/a$i"
		command_is ok "$F/a$i/restore" "$F/base/snapshots/ready"
		pids=$(vmms | grep -vxF "$(cat "$F"/*/status | sed -n 's/^Pid:[[:space:]]*//p')")
		# shellcheck disable=SC2086
		kill_vmms $pids
	done
	for i in 1 2 3 4 5 6; do state_is "a$i" running; done
	ok rmdir "$F"/a?
	mkdir "$F/b"
	command_is ok "$F/b/restore" "$F/base/snapshots/ready"
	wait_for 20 eval '[ "$(metric pool_loaded)" = 2 ]'
	ok rmdir "$F/b"
	stop
}

# Guests that wait to run have nobody who would miss them: a daemon that is killed takes them along, as it does what is idle.
test_kill_9_loaded() {
	local how
	for how in memfd-shared:auto memfd-shared:eager memfd-private:auto; do
		POOL=2 LOADED=2 start -o "memory_backend=${how%:*},fill=${how#*:}"
		with_snapshot
		mkdir "$F/a"
		command_is ok "$F/a/restore" "$F/base/snapshots/ready"
		wait_for 20 metric_is pool_loaded 2
		wait_for 20 metric_is pool_waiting 2
		is "$how: before" 6 "$(alive)"
		kill_daemon
		wait_for 20 eval '[ "$(alive)" -le 2 ]' || return
		is "$how: guests that ran" 2 "$(alive)"
		start # takes over what is left
		is "$how: guests taken over" 2 "$(alive)"
		state_is a running
		stop
	done
}
