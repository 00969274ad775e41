# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# One snapshot, restored once and many times; what is wrong with it is told, and nothing half-made is left.

test_restore() {
	start
	with_snapshot
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	state_is a running
	is "the snapshot in use" "$F/base/snapshots/ready" "$(cat "$F/a/restore")"
	is "Snapshot" "$F/base/snapshots/ready" "$(status_of a Snapshot)"
	like "RestoreTime" '^ *[0-9]+\.[0-9]{3}( ms)?$' "$(status_of a RestoreTime)"
	like "Started" '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|\+00:00)$' "$(status_of a Started)"
	like "Id" '^a$' "$(status_of a Id)"
	like "Vmm" null "$(status_of a Vmm)"
	like "MemoryBackend" memfd-shared "$(status_of a MemoryBackend)"
	like "maps" 'rw-s .*memfd:forkfs:' "$(cat "$F/a/maps")"
	is "lines of another form in status" "" "$(grep -vE '^[A-Z][A-Za-z]+:	' "$F/a/status")"
	ok cmp "$F/a/mem" "$F/base/snapshots/ready/memory.bin"
	[ "$(status_of a Pid)" -gt 1 ] || bad "Pid: $(status_of a Pid)"
	[ "$(status_of a Pid | tr -d ' ')" != "$(status_of base Pid | tr -d ' ')" ] || bad "two forks, one Pid"
}

test_copy() {
	start
	with_snapshot
	ok cp -r "$F/base/snapshots/ready" "$T/copy"
	ok rmdir "$F/base/snapshots/ready"
	ok rmdir "$F/base"
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$T/copy"
	state_is a running
	ok cmp "$F/a/mem" "$T/copy/memory.bin"
	rm -r "$T/copy"
	state_is a running
	# A fork of that fork.
	ok mkdir "$F/a/snapshots/again"
	mkdir "$F/b"
	command_is ok "$F/b/restore" "$F/a/snapshots/again"
	ok rmdir "$F/a"
	state_is b running
}

# broken WHAT ERRNO PATTERN: the snapshot in $T/broken is refused, and the fork is as good as new.
broken() {
	command_is "$2" "$F/a/restore" "$T/broken"
	like "error: $1" "$3" "$(error_of a)"
	like "error: $1" "$T/broken" "$(error_of a)"
	state_is a failed
	is "left by $1" "$before" "$(vmms | wc -l)"
	rm -rf "$T/broken"
	cp -r "$T/copy" "$T/broken"
	chmod -R u+w "$T/broken"
}

test_broken() {
	start
	with_snapshot
	mkdir "$F/a"
	cp -r "$F/base/snapshots/ready" "$T/copy"
	chmod -R u+w "$T/copy"
	cp -r "$T/copy" "$T/broken"
	local before key
	before=$(vmms | wc -l)
	truncate -s -4096 "$T/broken/memory.bin"; broken "a truncated memory.bin" EINVAL memory
	truncate -s 0 "$T/broken/memory.bin"; broken "an empty memory.bin" EINVAL memory
	rm "$T/broken/memory.bin"; broken "no memory.bin" ENOENT memory
	rm "$T/broken/vmstate"; broken "no vmstate" ENOENT vmstate
	printf 'X' | dd of="$T/broken/vmstate" bs=1 conv=notrunc status=none; broken "a corrupt vmstate" EINVAL vmstate
	truncate -s 0 "$T/broken/vmstate"; broken "an empty vmstate" EINVAL vmstate
	: >"$T/broken/snapshot.json"; broken "an empty snapshot.json" EINVAL snapshot.json
	echo '{"format": 1' >"$T/broken/snapshot.json"; broken "half a snapshot.json" EINVAL snapshot.json
	echo '[1]' >"$T/broken/snapshot.json"; broken "a list for a snapshot.json" EINVAL snapshot.json
	head -c 2M /dev/zero | tr '\0' ' ' >"$T/broken/snapshot.json"; broken "a huge snapshot.json" EINVAL snapshot.json
	for key in $(jq -r 'keys[]' "$T/copy/snapshot.json"); do
		# A number, or text for what is a number: the wrong type for each.
		jq --arg k "$key" '.[$k] = (if (.[$k] | type) == "number" then "x" else 7 end)' "$T/copy/snapshot.json" >"$T/broken/snapshot.json"
		broken "the wrong type of $key" EINVAL "$key|snapshot.json"
	done
	jq '.format = 999' "$T/copy/snapshot.json" >"$T/broken/snapshot.json"; broken "a newer format" EOPNOTSUPP format
	rm "$T/broken/memory.bin"; mkfifo "$T/broken/memory.bin"; broken "a FIFO" EINVAL memory
	rm "$T/broken/memory.bin"; ln -s /etc/shadow "$T/broken/memory.bin"; broken "a link that leads out" EINVAL memory
	command_is ok "$F/a/restore" "$T/copy"
	state_is a running
}

test_busy() {
	start
	with_snapshot
	local pid
	pid=$(status_of base Pid)
	command_is EBUSY "$F/base/restore" "$F/base/snapshots/ready"
	like "error" . "$(error_of base)"
	state_is base running
	is "Pid" "$pid" "$(status_of base Pid)"
	echo paused >"$F/base/state"
	command_is EBUSY "$F/base/restore" "$F/base/snapshots/ready"
	state_is base paused
	# One that has ended may be restored.
	echo stopped >"$F/base/state"
	wait_for 10 in_state base exited
	command_is ok "$F/base/restore" "$F/base/snapshots/ready"
	state_is base running
}

test_many() {
	start
	with_snapshot
	command_is ok "$F/restore" "$F/base/snapshots/ready 10 w-"
	local i
	for i in {0..9}; do state_is "w-$i" running; done
	is "how many" 10 "$(ls "$F" | grep -c '^w-')"
	is "their memfds" 10 "$(cat "$F"/w-*/maps | sed -n 's/.* rw-s .*\(memfd:forkfs:[^ ]*\).*/\1/p' | sort -u | wc -l)"
	ok rmdir "$F"/w-*
	is "afterwards" 0 "$(ls "$F" | grep -c '^w-')"
	wait_for 10 eval '[ "$(vmms | wc -l)" = 1 ]'
	# As a conversation it answers with the ids.
	is "ids" "$(printf 'c-%s\n' 0 1 2)" "$(soon "$TOOLS/ask" "$F/restore" "$F/base/snapshots/ready 3 c-")"
	local ids
	ids=$(soon "$TOOLS/ask" "$F/restore" "$F/base/snapshots/ready 2")
	is "ids without a prefix" 2 "$(wc -w <<<"$ids")"
	for i in $ids; do state_is "$i" running; done
	is "a refusal" "write EINVAL" "$(soon "$TOOLS/ask" "$F/restore" "$F/base/snapshots/ready 0")"
}

test_many_refused() {
	start
	with_snapshot
	cp -r "$F/base/snapshots/ready" "$T/copy"
	local words
	for words in 0 1001 -1 x 1.5 +1 0x1 99999999999999999999 "1 .x" "1 a/b" "2 $(printf 'x%.0s' {1..64})" "" "1 p- q"; do
		command_is EINVAL "$F/restore" "$F/base/snapshots/ready $words"
		like "error after '$words'" . "$(root_error)"
	done
	mkdir "$F/w-5"
	command_is EEXIST "$F/restore" "$F/base/snapshots/ready 10 w-"
	like "error" w-5 "$(root_error)"
	is "w-5 is as it was" empty "$(state_of w-5)"
	is "nothing else" "base w-5" "$(ls -d "$F"/base "$F"/w-* | xargs -n 1 basename | xargs)"
	command_is ENOENT "$F/restore" "$T/missing 3 m-"
	like "error" "$T/missing" "$(root_error)"
	chmod u+w "$T/copy/vmstate"; printf X | dd of="$T/copy/vmstate" bs=1 conv=notrunc status=none
	command_is EINVAL "$F/restore" "$T/copy 3 m-"
	is "all or nothing" 0 "$(ls "$F" | grep -c '^m-')"
	is "processes" 1 "$(vmms | wc -l)"
}

test_clone() {
	start
	local id other
	read -r id <>"$F/clone"
	[ -d "$F/$id" ] || bad "clone gave \"$id\""
	state_is "$id" empty
	other=$(soon "$TOOLS/ask" "$F/clone")
	[ -d "$F/$other" ] || bad "clone gave \"$other\""
	[ "$id" != "$other" ] || bad "twice the same id"
	is "reading it" 0 "$(soon cat "$F/clone" | wc -l)"
	is "forks" 2 "$(find "$F" -mindepth 1 -maxdepth 1 -type d ! -name config | wc -l)"
}

test_forks_max() {
	start -o forks_max=5
	with_snapshot
	local i
	for i in 1 2 3 4; do mkdir_is ok "$F/f$i"; done
	mkdir_is ENOSPC "$F/f5"
	like "error" . "$(root_error)"
	ok rmdir "$F"/f1 "$F"/f2
	command_is ENOSPC "$F/restore" "$F/base/snapshots/ready 3 w-"
	is "nothing of it" 0 "$(ls "$F" | grep -c '^w-')"
	command_is ok "$F/restore" "$F/base/snapshots/ready 2 w-"
	is "clone" "ENOSPC" "$(soon "$TOOLS/ask" "$F/clone" | grep -o ENOSPC)"
}

test_memory_max() {
	start -o memory_max=20
	with_snapshot
	mkdir "$F/a" "$F/b"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	like "no room" '^(ENOMEM|ENOSPC)$' "$(poke "$F/b/restore" "$F/base/snapshots/ready\n")"
	like "error" 'memory' "$(error_of b)"
	like "no room for many" '^(ENOMEM|ENOSPC)$' "$(poke "$F/restore" "$F/base/snapshots/ready 2 w-\n")"
	is "nothing of it" 0 "$(ls "$F" | grep -c '^w-')"
	ok rmdir "$F/a"
	again() { [ "$(poke "$F/b/restore" "$F/base/snapshots/ready\n")" = ok ]; }
	wait_for 10 again
}

# Two at once count each other's, though neither has its memory yet.
test_memory_max_at_once() {
	start -o memory_max=20
	with_snapshot
	local i fd fds pids went=0
	mkdir "$F/a" "$F/b" "$F/c" "$F/d"
	printf '%s\n' "$F/base/snapshots/ready" >"$T/line"
	for i in a b c d; do
		exec {fd}>"$F/$i/restore" # opened before the daemon stands still
		fds="${fds-} $fd"
	done
	kill -STOP "$DAEMON"
	for fd in $fds; do
		cat "$T/line" >&"$fd" 2>"$T/said.$fd" & pids="${pids-} $!"
		eval "exec $fd>&-"
	done
	for i in $pids; do wait_for 10 grep -q request_wait "/proc/$i/wchan"; done
	kill -CONT "$DAEMON"
	for i in $pids; do wait "$i" && went=$((went + 1)); done
	is "those that went through" 1 "$went"
	is "the others" 3 "$(cat "$T"/said.* | grep -c 'Cannot allocate')"
}

test_backends() {
	start
	with_snapshot
	mkdir "$F/a"
	command_is EINVAL "$F/a/config/memory_backend" nonsense
	command_is ok "$F/a/config/memory_backend" file
	cp -r "$F/base/snapshots/ready" "$T/copy"
	command_is ok "$F/a/restore" "$T/copy"
	state_is a running
	like "MemoryBackend" '^file' "$(status_of a MemoryBackend)"
	ok cmp "$F/a/mem" "$T/copy/memory.bin"
}

# QEMU isn't there, or dies at once.
test_no_vmm() {
	VMM=qemu start -o qemu=/nonexistent
	description
	mkdir "$F/a"
	command_is ENODEV "$F/a/boot" "$T/vm/base.json"
	like "error" /nonexistent "$(error_of a)"
	state_is a failed
	like "doctor" nonexistent "$(cat "$F/doctor")"
	cat >"$T/liar" <<-'END'
		#!/bin/sh
		case "$*" in
			*version*) echo "QEMU emulator version 7.2.22 (Debian 1:7.2)" ;;
			*) echo "no luck today" >&2; exit 1 ;;
		esac
	END
	chmod 0755 "$T/liar"
	command_is ok "$F/config/qemu" "$T/liar"
	like "one that dies" '^(EIO|ENODEV)$' "$(poke "$F/a/boot" "$T/vm/base.json\n")"
	like "its last line" "no luck today" "$(error_of a)"
	state_is a failed
	printf '#!/bin/sh\necho mumble >&2\nexit 3\n' >"$T/broken"
	chmod 0755 "$T/broken"
	command_is ok "$F/config/qemu" "$T/broken"
	like "one that says nothing of use" '^(EIO|ENODEV)$' "$(poke "$F/a/boot" "$T/vm/base.json\n")"
	is "processes" 0 "$(vmms | wc -l)"
}

# The state directory is full: told, undone, and forgotten when there is room again.
test_full() {
	mkdir "$S"
	mount -t tmpfs -o size=256k,mode=0700 full "$S"
	start
	description
	booted a
	head -c 300k /dev/zero >"$S/filler" 2>/dev/null
	mkdir_is ENOSPC "$F/b"
	like "error" . "$(root_error)"
	no stat "$F/b"
	like "snapshot" . "$(mkdir "$F/a/snapshots/x" 2>&1; echo done)"
	state_is a running
	expect_log 'No space left'
	rm "$S/filler"
	mkdir_is ok "$F/c"
	command_is ok "$F/c/boot" "$T/vm/base.json"
	stop
	umount "$S"
}
