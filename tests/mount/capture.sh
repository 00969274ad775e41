# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Snapshots that are written while the guest runs. The null VMM writes nothing by itself: what is written to mem goes the way of the VMM's own writes.

MIB=$((1 << 20))
shot_state() { cat "$F/$1/snapshots/$2/state"; }
kb() { status_of "$1" "$2" | tr -cd 0-9; }
get_at() { dd if="${3:-$F/$1/mem}" bs=1 skip="$2" count=5 status=none; }

# A guest with so much data that its capture takes a while.
large() {
	MEMORY=${SIZE:-320} booted "$1" || return
	dd if=/dev/urandom of="$T/data" bs=1M count=64 iflag=fullblock status=none
	local i
	for ((i = 0; i < ${DATA:-256}; i += 64)); do dd if="$T/data" of="$F/$1/mem" bs=1M seek=$((8 + i)) conv=notrunc status=none; done
}

# While one is being written: it can be restored, copied and read, and what the guest writes meanwhile isn't in it.
test_writing() {
	start -o mem_write=1
	large base || return
	put_at base $((250 * MIB)) befor
	ok mkdir "$F/base/snapshots/s"
	put_at base $((250 * MIB)) after
	mkdir "$F/a" "$F/p"
	command_is ok "$F/a/restore" "$F/base/snapshots/s"
	local seen
	seen=$(shot_state base s)
	is "the child has what was" befor "$(get_at a $((250 * MIB)))"
	is "so has the snapshot" befor "$(get_at - $((250 * MIB)) "$F/base/snapshots/s/memory.bin")"
	is "the parent has gone on" after "$(get_at base $((250 * MIB)))"
	[ "$seen" = writing ] || echo "    it was $seen already"
	command_is ok "$F/p/config/memory_backend" memfd-private
	command_is ok "$F/p/restore" "$F/base/snapshots/s"
	is "the private child too" befor "$(get_at p $((250 * MIB)))"
	like "manifest" '"memory"' "$(cat "$F/base/snapshots/s/snapshot.json")"
	wait_for 60 shot_in base s complete
	put_at base $((250 * MIB)) befor
	ok same_memory "$F/base/mem" "$F/base/snapshots/s/memory.bin"
	ok same_memory "$F/a/mem" "$F/base/snapshots/s/memory.bin"
	ok rmdir "$F/base"
	ok same_memory "$F/a/mem" "$F/p/mem"
	like "events" '"snapshot-complete","snapshot":"s"' "$(cat "$F/events")"
}

# A copy made meanwhile is the snapshot.
test_copied_meanwhile() {
	start -o mem_write=1
	large base || return
	ok mkdir "$F/base/snapshots/s"
	ok timeout 100 cp -r --sparse=always "$F/base/snapshots/s" "$T/copy"
	put_at base $((100 * MIB)) after
	wait_for 60 shot_in base s complete
	ok same_memory "$T/copy/memory.bin" "$F/base/snapshots/s/memory.bin"
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$T/copy"
}

# A second one waits for the first; one that is dropped is given up; neither is torn.
test_second() {
	start -o mem_write=1
	large base || return
	ok mkdir "$F/base/snapshots/a"
	put_at base $((100 * MIB)) after
	ok timeout 60 mkdir "$F/base/snapshots/b"
	is "the first is complete" complete "$(shot_state base a)"
	wait_for 60 shot_in base b complete
	is "the second has what came between" after "$(get_at - $((100 * MIB)) "$F/base/snapshots/b/memory.bin")"
	is "they differ in" 5 "$(cmp -l "$F/base/snapshots/a/memory.bin" "$F/base/snapshots/b/memory.bin" | wc -l)"
	ok mkdir "$F/base/snapshots/c"
	ok rmdir "$F/base/snapshots/c"
	ok timeout 60 mkdir "$F/base/snapshots/d"
	wait_for 60 shot_in base d complete
	ok same_memory "$F/base/snapshots/b/memory.bin" "$F/base/snapshots/d/memory.bin"
	state_is base running
	# ^C while it waits for the first.
	ok mkdir "$F/base/snapshots/e"
	timeout 0.05 mkdir "$F/base/snapshots/f"
	wait_for 60 shot_in base e complete
	ok rmdir "$F/base/snapshots/a" "$F/base/snapshots/b" "$F/base/snapshots/e"
}

# The end of everything while one is being written.
test_ends_meanwhile() {
	start -o mem_write=1
	large base || return
	mkdir "$F/a"
	# The fork is removed: who was restored from it lives on.
	ok mkdir "$F/base/snapshots/s"
	command_is ok "$F/a/restore" "$F/base/snapshots/s"
	ok rmdir "$F/base"
	wait_for 60 eval '[ "$(vmms | wc -l)" = 1 ]'
	is "sum" "$(head -c $((64 * MIB)) "$T/data" | sha256sum)" "$(dd if="$F/a/mem" bs=1M skip=8 count=64 status=none | sha256sum)"
	is "the end of it" "$(head -c $((64 * MIB)) "$T/data" | sha256sum)" "$(dd if="$F/a/mem" bs=1M skip=200 count=64 status=none | sha256sum)"
	# The snapshot is dropped: likewise.
	ok mkdir "$F/a/snapshots/s"
	mkdir "$F/b"
	command_is ok "$F/b/restore" "$F/a/snapshots/s"
	ok rmdir "$F/a/snapshots/s"
	is "the child's" "$(head -c $((64 * MIB)) "$T/data" | sha256sum)" "$(dd if="$F/b/mem" bs=1M skip=200 count=64 status=none | sha256sum)"
	state_is b running
	# The VMM is killed.
	ok mkdir "$F/a/snapshots/k"
	kill -KILL "$(status_of a Pid | tr -cd 0-9)"
	wait_for 20 in_state a failed
	wait_for 20 eval '! shot_in a k writing'
	like "its end" 'failed|complete' "$(shot_state a k)"
	ok mkdir "$F/b/snapshots/u"
	stop
}

# No room for it: the guest goes on, the snapshot has failed, and its room is given back.
test_no_room() {
	mkdir "$T/small"
	mount -t tmpfs -o size=32m none "$T/small" || skip "no tmpfs can be mounted"
	start -o "mem_write=1,snapshot_dir=$T/small"
	SIZE=256 DATA=64 large base || { umount "$T/small"; return; }
	timeout 20 mkdir "$F/base/snapshots/s" 2>/dev/null
	wait_for 20 eval '! shot_in base s writing 2>/dev/null'
	state_is base running
	like "error" 'No space left' "$(error_of base)"
	mkdir "$F/a"
	like "a restore" 'EINVAL|ENOENT' "$(poke "$F/a/restore" "$F/base/snapshots/s\n")"
	put_at base $((100 * MIB)) after || bad "the guest's page"
	[ ! -d "$F/base/snapshots/s" ] || ok rmdir "$F/base/snapshots/s"
	wait_for 10 eval '[ "$(df --output=used -k "$T/small" | tail -n 1)" -lt 1024 ]'
	stop
	umount "$T/small"
}

# Of a private child only its own pages are kept; on a disk all of it.
test_delta() {
	start -o mem_write=1
	SIZE=256 DATA=192 large base || return
	ok mkdir "$F/base/snapshots/s"
	wait_for 60 shot_in base s complete
	command_is ok "$F/config/memory_backend" memfd-private
	mkdir "$F/a" "$F/b" "$F/c" "$F/d"
	command_is ok "$F/a/restore" "$F/base/snapshots/s"
	put_at a $((100 * MIB)) first
	ok mkdir "$F/a/snapshots/s"
	wait_for 60 shot_in a s complete
	[ "$(du -k "$F/a/snapshots/s/memory.bin" | cut -f1)" -le 64 ] || bad "its memory takes $(du -k "$F/a/snapshots/s/memory.bin")"
	is "its size all the same" $((256 * MIB)) "$(stat -c %s "$F/a/snapshots/s/memory.bin")"
	ok same_memory "$F/a/mem" "$F/a/snapshots/s/memory.bin"
	put_at a $((100 * MIB)) later
	# A page of zeros over one of data, at a depth of two.
	command_is ok "$F/b/restore" "$F/a/snapshots/s"
	is "MemPrivate" 4 "$(kb b MemPrivate)"
	is "the first change" first "$(get_at b $((100 * MIB)))"
	dd if=/dev/zero of="$F/b/mem" bs=4096 seek=$((200 * 256)) count=1 conv=notrunc status=none
	ok mkdir "$F/b/snapshots/s"
	ok rmdir "$F/a"
	ok rmdir "$F/base"
	command_is ok "$F/c/restore" "$F/b/snapshots/s"
	is "MemPrivate" 8 "$(kb c MemPrivate)"
	is "zeros" 0 "$(dd if="$F/c/mem" bs=4096 skip=$((200 * 256)) count=1 status=none | tr -d '\0' | wc -c)"
	is "holes" "$("$TOOLS/holes" "$F/b/mem")" "$("$TOOLS/holes" "$F/b/snapshots/s/memory.bin")"
	ok same_memory "$F/c/mem" "$F/b/mem"
	# What is copied out is whole.
	ok timeout 100 cp -r --sparse=always "$F/b/snapshots/s" "$T/copy"
	ok same_memory "$T/copy/memory.bin" "$F/b/mem"
	ok rmdir "$F/b"
	command_is ok "$F/d/config/memory_backend" memfd-shared
	command_is ok "$F/d/restore" "$T/copy"
	ok same_memory "$F/d/mem" "$F/c/mem"
	is "shared, of the delta" ok "$(ok mkdir "$F/c/snapshots/s"; echo stopped >"$F/d/state"; poke "$F/d/restore" "$F/c/snapshots/s\n")"
	ok same_memory "$F/d/mem" "$F/c/mem"
	stop
	mkdir "$T/snaps"
	start -o "mem_write=1,memory_backend=memfd-private,snapshot_dir=$T/snaps"
	mkdir "$F/e"
	command_is ok "$F/e/restore" "$T/copy"
	put_at e $((100 * MIB)) again
	ok mkdir "$F/e/snapshots/s"
	wait_for 60 shot_in e s complete
	ok same_memory "$(find "$T/snaps" -name memory.bin)" "$F/e/mem"
}

# By config/snapshot: the guest stands until all is copied, what it hasn't asked for yet included; or it is live and says so.
test_setting() {
	start -o mem_write=1,working_set=off
	SIZE=128 DATA=64 large base || return
	like "status" '^live' "$(status_of base Snapshots)"
	command_is EINVAL "$F/base/config/snapshot" never
	command_is ok "$F/base/config/snapshot" stop
	ok mkdir "$F/base/snapshots/s"
	is "complete with the mkdir" complete "$(shot_state base s)"
	like "status" '^stop-and-copy: config/snapshot' "$(status_of base Snapshots)"
	ok same_memory "$F/base/mem" "$F/base/snapshots/s/memory.bin"
	local backend
	for backend in memfd-shared memfd-private; do
		mkdir "$F/a"
		command_is ok "$F/a/config/memory_backend" $backend
		command_is ok "$F/a/config/snapshot" stop
		command_is ok "$F/a/restore" "$F/base/snapshots/s"
		put_at a $((20 * MIB)) hello
		ok mkdir "$F/a/snapshots/t"
		ok same_memory "$F/a/mem" "$F/a/snapshots/t/memory.bin"
		is "$backend: differs in" 5 "$(cmp -l "$F/base/snapshots/s/memory.bin" "$F/a/snapshots/t/memory.bin" | wc -l)"
		command_is ok "$F/a/config/snapshot" live
		ok mkdir "$F/a/snapshots/u"
		wait_for 60 shot_in a u complete
		like "$backend: status" '^live' "$(status_of a Snapshots)"
		ok same_memory "$F/a/snapshots/t/memory.bin" "$F/a/snapshots/u/memory.bin"
		ok rmdir "$F/a"
	done
}
