# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# snapshots/: mkdir takes one, rmdir drops it.

test_snapshots() {
	start
	with_snapshot
	local s=$F/base/snapshots/ready f
	state_is base running
	for f in memory.bin vmstate snapshot.json state; do
		[ -r "$s/$f" ] || bad "$f can't be read"
		is "size of $f" "$(stat -c %s "$s/$f")" "$(wc -c <"$s/$f")"
	done
	is "memory.bin" $((8 << 20)) "$(stat -c %s "$s/memory.bin")"
	mkdir_is EEXIST "$s"
	mkdir_is EINVAL "$F/base/snapshots/.x"
	mkdir_is EINVAL "$F/base/snapshots/a b"
	like "writing into one" 'EACCES|EPERM' "$(poke "$s/memory.bin" x)"
	mkdir_is ok "$F/base/snapshots/second"
	is "both" "ready second" "$(ls "$F/base/snapshots" | xargs)"
	ok rmdir "$s"
	is "one left" second "$(ls "$F/base/snapshots")"
	no rmdir "$s"
	# Of a paused VM, which stays paused.
	echo paused >"$F/base/state"
	mkdir_is ok "$F/base/snapshots/paused"
	state_is base paused
	# Of none.
	mkdir "$F/e"
	mkdir_is EBUSY "$F/e/snapshots/x"
	like "error" . "$(error_of e)"
	is "nothing of it" "" "$(ls "$F/e/snapshots")"
	echo stopped >"$F/base/state"
	wait_for 10 in_state base exited
	mkdir_is EBUSY "$F/base/snapshots/late"
	is "those taken stay" "paused second" "$(ls "$F/base/snapshots" | xargs)"
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$F/base/snapshots/second"
}

# A snapshot that is dropped or whose fork is removed: children live on, and who has it open can read on.
test_dropped() {
	start
	with_snapshot
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	exec 5<"$F/base/snapshots/ready/memory.bin"
	cp "$F/base/snapshots/ready/memory.bin" "$T/memory.bin"
	ok rmdir "$F/base/snapshots/ready"
	ok cmp "$T/memory.bin" - <&5
	exec 5<&-
	ok rmdir "$F/base"
	state_is a running
	ok cmp "$F/a/mem" "$T/memory.bin"
	ok mkdir "$F/a/snapshots/x"
	exec 5<"$F/a/snapshots/x/memory.bin"
	ok rmdir "$F/a"
	soon cat <&5 >/dev/null 2>&1; [ $? != 124 ] || bad "reading what is gone hangs"
	exec 5<&-
}

# In a directory that was named, where they survive the daemon.
test_snapshot_dir() {
	mkdir "$T/snaps"
	start -o "snapshot_dir=$T/snaps"
	with_snapshot
	is "config" "$T/snaps" "$(cat "$F/config/snapshot_dir")"
	[ -n "$(find "$T/snaps" -name 'memory*')" ] || bad "nothing in $T/snaps: $(find "$T/snaps")"
	local found
	found=$(dirname "$(find "$T/snaps" -name memory.bin | head -n 1)")
	ok rmdir "$F/base/snapshots/ready"
	wait_for 10 eval '[ -z "$(find "$T/snaps" -name memory.bin)" ]'
	true
	: "$found"
}

# What is in it without a manifest, as Firecracker writes it: the driver decides, and says why not.
test_bare_pair() {
	start
	with_snapshot
	mkdir "$T/pair" "$F/a"
	cp "$F/base/snapshots/ready/memory.bin" "$F/base/snapshots/ready/vmstate" "$T/pair"
	like "a bare pair" '^(ok|EINVAL|EOPNOTSUPP|ENODEV|ENOENT)$' "$(poke "$F/a/restore" "$T/pair\n")"
	[ "$(state_of a)" = running ] || like "error" "$T/pair" "$(error_of a)"
}
