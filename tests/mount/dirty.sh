# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# dirty: what changed of RAM since the restore.

test_dirty() {
	start -o mem_write=1
	MEMORY=64 booted base
	mkdir "$F/e"
	is "an empty fork's" "" "$(cat "$F/e/dirty")"
	dd if=/dev/urandom of="$F/base/mem" bs=1M seek=8 count=8 conv=notrunc iflag=fullblock status=none
	is "of one that was booted" "8388608 8388608" "$(cat "$F/base/dirty")"
	ok mkdir "$F/base/snapshots/s"
	cp -r --sparse=always "$F/base/snapshots/s" "$T/snap"
	local how f=0
	for how in memfd-shared:auto memfd-shared:eager memfd-shared:background memfd-private:auto file:auto; do
		f=$((f + 1))
		mkdir "$F/$f"
		command_is ok "$F/$f/config/memory_backend" "${how%:*}"
		command_is ok "$F/$f/config/fill" "${how#*:}"
		command_is ok "$F/$f/restore" "$T/snap"
		is "$how: at first" "" "$(cat "$F/$f/dirty")"
		printf x | dd of="$F/$f/mem" bs=1 seek=$(((9 << 20) + 5000)) conv=notrunc status=none
		dd if=/dev/urandom of="$F/$f/mem" bs=4096 seek=10000 count=3 conv=notrunc status=none
		dd if=/dev/zero of="$F/$f/mem" bs=4096 seek=2050 count=1 conv=notrunc status=none
		is "$how" "$(printf '%s\n' "8396800 4096" "9441280 4096" "40960000 12288")" "$(cat "$F/$f/dirty")"
		is "$how: size" "$(stat -c %s "$F/$f/dirty")" "$(wc -c <"$F/$f/dirty")"
		ok mkdir "$F/$f/snapshots/s"
		is "$how: after a snapshot" 3 "$(wc -l <"$F/$f/dirty")"
	done
	like "what is no command" 'EACCES|EPERM' "$(poke "$F/base/dirty" x)"
}

# A fork of a fork begins with pages of its own: they are no change.
test_of_a_fork() {
	start -o mem_write=1,memory_backend=memfd-private
	MEMORY=64 booted base
	dd if=/dev/urandom of="$F/base/mem" bs=1M seek=8 count=8 conv=notrunc iflag=fullblock status=none
	ok mkdir "$F/base/snapshots/s"
	mkdir "$F/a" "$F/b"
	wait_for 20 grep -q complete "$F/base/snapshots/s/state"
	command_is ok "$F/a/restore" "$F/base/snapshots/s"
	dd if=/dev/urandom of="$F/a/mem" bs=4096 seek=2100 count=3 conv=notrunc status=none
	ok mkdir "$F/a/snapshots/s"
	wait_for 20 grep -q complete "$F/a/snapshots/s/state"
	command_is ok "$F/b/restore" "$F/a/snapshots/s"
	is "MemPrivate" 12 "$(status_of b MemPrivate | tr -cd 0-9)"
	is "at first" "" "$(cat "$F/b/dirty")"
	is "MemDirty" "" "$(status_of b MemDirty)"
	printf x | dd of="$F/b/mem" bs=1 seek=$((2101 * 4096 + 7)) conv=notrunc status=none
	printf x | dd of="$F/b/mem" bs=1 seek=$((2099 * 4096 + 7)) conv=notrunc status=none
	printf x | dd of="$F/b/mem" bs=1 seek=$((9000 * 4096)) conv=notrunc status=none
	is "then" "$(printf '%s 4096\n' $((2099 * 4096)) $((2101 * 4096)) $((9000 * 4096)))" "$(cat "$F/b/dirty")"
}

# A write to the memfd that is not by way of the VMM: comparing finds it, the kernel's notes have nothing of it.
write_past() { # FORK SEEK
	local fd
	for fd in "/proc/$(pid_of "$1")"/fd/*; do
		case $(readlink "$fd") in /memfd:forkfs*) break ;; esac
	done
	dd if=/dev/urandom of="$fd" bs=4096 seek="$2" count=1 conv=notrunc status=none
}

# Of one whose pages were all there before it ran the kernel notes what is written, until a snapshot needs the memory for itself.
test_noted_by_the_kernel() {
	start -o mem_write=1,memory_backend=memfd-shared,fill=eager
	MEMORY=64 booted base
	ok mkdir "$F/base/snapshots/s"
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$F/base/snapshots/s"
	is "at first" "" "$(cat "$F/a/dirty")"
	write_past a 9000
	[ -z "$(cat "$F/a/dirty")" ] || skip "the kernel can't note writes"
	dd if=/dev/zero of="$F/a/mem" bs=4096 seek=300 count=2 conv=notrunc status=none
	is "what was written with what it had" "" "$(cat "$F/a/dirty")"
	dd if=/dev/urandom of="$F/a/mem" bs=4096 seek=301 count=2 conv=notrunc status=none
	is "what was changed" "1232896 8192" "$(cat "$F/a/dirty")"
	exec {opened}<"$F/a/dirty"
	command_is ok "$F/a/config/snapshot" stop
	ok mkdir "$F/a/snapshots/stopped"
	is "after a snapshot of the stopped guest" "1232896 8192" "$(cat "$F/a/dirty")"
	command_is ok "$F/a/config/snapshot" auto
	ok mkdir "$F/a/snapshots/live"
	wait_for 20 grep -q complete "$F/a/snapshots/live/state"
	is "after a live snapshot" "$(printf '%s\n' "1232896 8192" "36864000 4096")" "$(cat "$F/a/dirty")"
	is "opened before it" "$(cat "$F/a/dirty")" "$(cat <&"$opened")"
	exec {opened}<&-
	is "how" live "$(status_of a Snapshots)"
	like "the guest runs" running "$(cat "$F/a/state")"
	ok mkdir "$F/a/snapshots/again"
}
