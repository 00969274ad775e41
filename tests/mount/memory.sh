# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# mem: guest RAM as a file.

test_mem() {
	MEMORY=64 start
	MEMORY=64 booted a
	is "size" $((64 << 20)) "$(stat -c %s "$F/a/mem")"
	like "MemTotal" '^ *65536( kB)?$' "$(status_of a MemTotal)"
	is "a page" 4096 "$(dd if="$F/a/mem" bs=4096 skip=8192 count=1 status=none | wc -c)"
	is "beyond the end" 0 "$(dd if="$F/a/mem" bs=4096 skip=16384 count=1 status=none 2>/dev/null | wc -c)"
	is "read-only" EPERM "$(poke "$F/a/mem" x | sed 's/^open //; s/EACCES/EPERM/')"
	like "holes" "^size $((64 << 20))" "$("$TOOLS/holes" "$F/a/mem")"
	ok timeout 20 cp --sparse=auto "$F/a/mem" "$T/mem"
	ok cmp "$F/a/mem" "$T/mem"
	is "an empty fork's" 0 "$(mkdir "$F/e"; stat -c %s "$F/e/mem")"
	is "reading that" 0 "$(soon cat "$F/e/mem" 2>/dev/null | wc -c)"
}


# Written at an address, read back, only there; holes around it stay holes; a snapshot and its child have it.
test_mem_holes() {
	start -o mem_write=1
	MEMORY=64 booted a
	printf 'written' | dd of="$F/a/mem" bs=1 seek=$((32 << 20)) conv=notrunc status=none || bad "write"
	is "read back" written "$(dd if="$F/a/mem" bs=1 skip=$((32 << 20)) count=7 status=none)"
	like "data" "^$((32 << 20))-" "$("$TOOLS/holes" "$F/a/mem")"
	[ "$("$TOOLS/holes" "$F/a/mem" | tail -n +2 | awk -F- '{ n += $2 - $1 } END { print n }')" -lt $((8 << 20)) ] || bad "all is data"
	like "beyond the end" 'EFBIG|ENOSPC|EINVAL' "$(truncate -s 1 "$T/one"; dd if=/dev/zero of="$F/a/mem" bs=1 count=1 seek=$((64 << 20)) conv=notrunc 2>&1 | sed 's/.*File too large.*/EFBIG/; s/.*No space.*/ENOSPC/; s/.*Invalid.*/EINVAL/' | head -n 1)"
	ok mkdir "$F/a/snapshots/s"
	mkdir "$F/b"
	command_is ok "$F/b/restore" "$F/a/snapshots/s"
	is "the child has it" written "$(dd if="$F/b/mem" bs=1 skip=$((32 << 20)) count=7 status=none)"
	printf 'another' | dd of="$F/b/mem" bs=1 seek=$((32 << 20)) conv=notrunc status=none
	is "the parent has its own" written "$(dd if="$F/a/mem" bs=1 skip=$((32 << 20)) count=7 status=none)"
	is "the snapshot too" written "$(dd if="$F/a/snapshots/s/memory.bin" bs=1 skip=$((32 << 20)) count=7 status=none)"
	local kb
	kb=$(status_of b MemFilled | tr -cd 0-9)
	[ "${kb:-0}" -lt 8192 ] || bad "MemFilled of a child of holes: $kb kB"
	cp -r --sparse=always "$F/a/snapshots/s" "$T/s"
	[ "$(du -k "$T/s" | cut -f1)" -lt 8192 ] || bad "a copy is dense: $(du -k "$T/s" | cut -f1) KiB"
	mkdir "$F/c"
	command_is ok "$F/c/restore" "$T/s"
	is "a child of the copy" written "$(dd if="$F/c/mem" bs=1 skip=$((32 << 20)) count=7 status=none)"
	is "end" 7 "$(printf 'lastone' | dd of="$F/b/mem" bs=1 seek=$(((64 << 20) - 7)) conv=notrunc status=none; dd if="$F/b/mem" bs=1 skip=$(((64 << 20) - 7)) status=none | wc -c)"
}

# What the file's children write is theirs.
test_file_backend() {
	start -o mem_write=1
	MEMORY=64 booted a
	printf 'written' | dd of="$F/a/mem" bs=1 seek=$((32 << 20)) conv=notrunc status=none
	ok mkdir "$F/a/snapshots/s"
	cp -r --sparse=always "$F/a/snapshots/s" "$T/s"
	mkdir "$F/b"
	command_is ok "$F/b/config/memory_backend" file
	command_is ok "$F/b/restore" "$T/s"
	is "the child has it" written "$(dd if="$F/b/mem" bs=1 skip=$((32 << 20)) count=7 status=none)"
	ok mkdir "$F/b/snapshots/again"
	ok cmp "$F/b/snapshots/again/memory.bin" "$T/s/memory.bin"
}
