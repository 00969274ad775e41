# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# VMMs that wait for a guest, and templates that children share.

waiting() { [ "$(metric pool_waiting)" = "$1" ]; }

# The first restore finds nobody; behind it the pool fills, and the next ones take from it.
test_fills() {
	POOL=3 start
	with_snapshot
	is "nobody asked for one yet" 0 "$(metric pool_waiting)"
	mkdir "$F/a" "$F/b"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	is "misses" 1 "$(metric pool_misses_total)"
	wait_for 20 waiting 3
	is "processes" 5 "$(vmms | wc -l)"
	command_is ok "$F/b/restore" "$F/base/snapshots/ready"
	is "hits" 1 "$(metric pool_hits_total)"
	is "uids" "$(($(vmms | wc -l)))" "$(ps -o uid= -p "$(vmms | xargs | tr ' ' ,)" | sort -u | wc -l)"
	wait_for 20 waiting 3
	echo typed >"$F/b/console"
	wait_for 10 grep -q typed "$F/b/console"
	is "its own console only" "" "$(cat "$F/a/console")"
	rmdir "$F/a" "$F/b"
	wait_for 20 eval '[ "$(vmms | wc -l)" = 4 ]'
	is "directories that nobody needs" 3 "$(find "$S/pool" -mindepth 1 -maxdepth 1 | wc -l)"
}

# More at once than wait.
test_many() {
	POOL=4 start
	with_snapshot
	command_is ok "$F/restore" "$F/base/snapshots/ready 10 w-"
	wait_for 20 waiting 4
	command_is ok "$F/restore" "$F/base/snapshots/ready 10 v-"
	is "forks" 20 "$(grep -lx running "$F"/[vw]-*/state | wc -l)"
	[ "$(metric pool_hits_total)" -ge 4 ] || bad "hits: $(metric pool_hits_total)"
}

# A guest with another size of RAM needs other VMMs: those that wait make room.
test_shapes() {
	POOL=2 start
	with_snapshot
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	wait_for 20 waiting 2
	MEMORY=16 description "$T/large"
	mkdir "$F/large" "$F/b"
	command_is ok "$F/large/boot" "$T/large/base.json"
	ok mkdir "$F/large/snapshots/s"
	command_is ok "$F/b/restore" "$F/large/snapshots/s"
	like "MemTotal" '^ *16384 kB$' "$(status_of b MemTotal)"
	wait_for 20 waiting 2
	wait_for 20 eval '[ "$(vmms | wc -l)" = 6 ]'
	mkdir "$F/c"
	command_is ok "$F/c/restore" "$F/large/snapshots/s"
	is "hits" 1 "$(metric pool_hits_total)"
}

# One that dies while it waits isn't handed out.
test_killed() {
	POOL=2 start
	expect_log 'a VMM that waited'
	with_snapshot
	mkdir "$F/a" "$F/b"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	wait_for 20 waiting 2
	local forks pids
	forks=$(cat "$F"/*/status | awk '/^Pid/ { print $2 }')
	pids=$(vmms | grep -vxF "$forks")
	# shellcheck disable=SC2086
	kill_vmms $pids
	command_is ok "$F/b/restore" "$F/base/snapshots/ready"
	state_is b running
	wait_for 20 waiting 2
}

# A restore that takes one and fails leaves nothing of it.
test_failing() {
	POOL=2 start
	with_snapshot
	mkdir "$F/a" "$F/b"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	wait_for 20 waiting 2
	cp -r "$F/base/snapshots/ready" "$T/broken"
	chmod -R u+w "$T/broken"
	jq 'del(.vmstate.crc64)' "$F/base/snapshots/ready/snapshot.json" >"$T/broken/snapshot.json"
	tr a-z A-Z <"$F/base/snapshots/ready/vmstate" >"$T/broken/vmstate"
	command_is EIO "$F/b/restore" "$T/broken"
	state_is b failed
	wait_for 20 eval '[ "$(vmms | wc -l)" -le 4 ]'
	command_is ok "$F/b/restore" "$F/base/snapshots/ready"
}

# 0 switches it off, and what is set later counts from then on.
test_size() {
	start
	with_snapshot
	mkdir "$F/a" "$F/b"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	is "processes" 2 "$(vmms | wc -l)"
	command_is EINVAL "$F/config/pool" many
	command_is ok "$F/config/pool" 1
	command_is ok "$F/b/restore" "$F/base/snapshots/ready"
	wait_for 20 waiting 1
	# What is too many now is given up, without anybody restoring anything.
	command_is ok "$F/config/pool" 3
	command_is ok "$F/config/pool_loaded" 2
	ok rmdir "$F/b"
	mkdir "$F/b"
	command_is ok "$F/b/restore" "$F/base/snapshots/ready"
	wait_for 20 eval 'waiting 3 && [ "$(metric pool_loaded)" = 2 ]'
	command_is ok "$F/config/pool" 1
	command_is ok "$F/config/pool_loaded" 1
	wait_for 20 eval 'waiting 1 && [ "$(metric pool_loaded)" = 1 ]'
	command_is ok "$F/config/pool" 0
	command_is ok "$F/config/pool_loaded" 0
	wait_for 20 eval '[ "$(vmms | wc -l)" = 3 ]'
}

# They live for a guest, or not at all.
test_kill_9() {
	POOL=2 start
	with_snapshot
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	wait_for 20 waiting 2
	kill_daemon
	wait_for 20 eval '[ "$(alive)" = 2 ]'
	start # takes over what is left
	state_is a running
	is "VMMs" 2 "$(alive)"
}

# Children that map one template: nothing is copied, each has its own pages only.
test_private() {
	start -o mem_write=1
	MEMORY=64 booted base
	printf 'of the parent' | dd of="$F/base/mem" bs=1 seek=$((32 << 20)) conv=notrunc status=none
	ok mkdir "$F/base/snapshots/ready"
	cp -r "$F/base/snapshots/ready" "$T/copy"
	command_is ok "$F/config/memory_backend" memfd-private
	mkdir "$F/a" "$F/b" "$F/c"
	command_is ok "$F/a/restore" "$T/copy"
	command_is ok "$F/b/restore" "$T/copy"
	is "MemoryBackend" memfd-private "$(status_of a MemoryBackend)"
	like "maps" 'rw-p .*/memfd:forkfs:template' "$(cat "$F/a/maps")"
	is "templates" 1 "$(metric templates)"
	is "one for both" "$(grep -h memfd:forkfs:template "$F/a/maps" | awk '{ print $5 }')" "$(grep -h memfd:forkfs:template "$F/b/maps" | awk '{ print $5 }')"
	is "what it reads" "of the parent" "$(dd if="$F/a/mem" bs=1 skip=$((32 << 20)) count=13 status=none)"
	printf 'of its own   ' | dd of="$F/a/mem" bs=1 seek=$((32 << 20)) conv=notrunc status=none
	is "what it wrote" "of its own   " "$(dd if="$F/a/mem" bs=1 skip=$((32 << 20)) count=13 status=none)"
	is "what its sibling reads" "of the parent" "$(dd if="$F/b/mem" bs=1 skip=$((32 << 20)) count=13 status=none)"
	is "MemPrivate" "4 kB" "$(status_of a MemPrivate | sed 's/^ *//')"
	is "the copy" "of the parent" "$(dd if="$T/copy/memory.bin" bs=1 skip=$((32 << 20)) count=13 status=none)"
	ok mkdir "$F/a/snapshots/s"
	command_is ok "$F/c/restore" "$F/a/snapshots/s"
	is "its child" "of its own   " "$(dd if="$F/c/mem" bs=1 skip=$((32 << 20)) count=13 status=none)"
	rmdir "$F/a" "$F/b"
	is "its grandchild's too" 1 "$(metric templates_used)"
	rmdir "$F/c"
	wait_for 10 eval '[ "$(metric templates_used)" = 0 ]'
	is "kept for the next" 1 "$(metric templates)"
}

# Unused templates are kept within a limit.
test_templates_max() {
	start -o memory_backend=memfd-private,templates_max=0
	with_snapshot
	cp -r "$F/base/snapshots/ready" "$T/copy"
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$T/copy"
	is "used" 1 "$(metric templates_used)"
	rmdir "$F/a"
	wait_for 10 eval '[ "$(metric templates)" = 0 ] || [ "$(metric template_bytes)" = 0 ]'
}

# When memory gets scarce those that wait go first, and come again when there is plenty.
test_scarce() {
	[ -e "$T/meminfo" ] || {
		cp /proc/meminfo "$T/meminfo"
		exec unshare -m --propagation private bash -c 'mount --bind "$T/meminfo" /proc/meminfo && . tests/lib.sh && . tests/mount/pool.sh && run_test test_scarce'
	}
	host_has() { printf 'MemTotal: 10000000 kB\nMemAvailable: %s kB\n' "$1" >"$T/meminfo"; }
	host_has 5000000
	POOL=3 LOADED=2 start -o templates_max=100
	with_snapshot
	cp -r "$F/base/snapshots/ready" "$T/copy"
	mkdir "$F/a" "$F/b" "$F/p"
	command_is ok "$F/p/config/memory_backend" memfd-private
	command_is ok "$F/p/restore" "$T/copy"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	wait_for 20 waiting 3
	wait_for 20 eval '[ "$(metric pool_loaded)" -ge 2 ]'
	ok rmdir "$F/p"
	host_has 900000
	wait_for 20 waiting 0
	wait_for 20 eval '[ "$(metric pool_loaded)" = 0 ] && [ "$(vmms | wc -l)" = 2 ] && [ "$(metric templates)" = 0 ]'
	state_is a running
	# A little more is not plenty.
	host_has 1100000
	command_is ok "$F/b/restore" "$F/base/snapshots/ready"
	is "waiting" 0 "$(metric pool_waiting)"
	host_has 5000000
	ok rmdir "$F/b"
	mkdir "$F/b"
	command_is ok "$F/b/restore" "$F/base/snapshots/ready"
	wait_for 20 waiting 3
}

# What waits is bounded in memory, too.
test_memory_bound() {
	POOL=5 LOADED=2 start -o pool_memory=70
	with_snapshot
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	wait_for 20 eval '[ $(($(metric pool_waiting) + $(metric pool_loaded))) = 3 ]'
	[ "$(metric pool_bytes)" -le $((70 << 20)) ] || bad "pool_bytes $(metric pool_bytes)"
	command_is ok "$F/config/pool_memory" 0
	ok rmdir "$F/a"
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	wait_for 20 eval '[ "$(metric pool_waiting)" = 5 ]'
}
