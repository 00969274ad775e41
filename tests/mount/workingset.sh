# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Working sets: what a child asked for, the next one has before it asks.

kb() { status_of "$1" "$2" | tr -cd 0-9; }
filled() { [ "$(kb "$1" MemFilled)" = "$2" ]; }

with_data() {
	MEMORY=64 booted base || return
	dd if=/dev/urandom of="$F/base/mem" bs=1M seek=8 count=16 conv=notrunc iflag=fullblock status=none
	ok mkdir "$F/base/snapshots/ready"
	ok cp -r --sparse=always "$F/base/snapshots/ready" "$T/snap"
	chmod -R u+w "$T/snap"
	rm -f "$T/snap/workingset"
}

test_workingset() {
	start -o mem_write=1
	with_data || return
	local snap file
	for snap in "$T/snap" "$F/base/snapshots/ready"; do
		file=$snap/workingset
		mkdir "$F/a" "$F/b" "$F/c"
		command_is ok "$F/a/restore" "$snap"
		put_at a $((9 << 20)) one
		put_at a $((20 << 20)) two
		ok rmdir "$F/a"
		wait_for 10 test -s "$file"
		is "the file" "$(printf '%s\n' "forkfs working set 1" "memory $(jq -r .memory.identity "$snap/snapshot.json") 67108864" "9437184 65536" "20971520 65536" end)" "$(cat "$file")"
		# Its next child has them; what it asks for besides is not learned.
		command_is ok "$F/b/restore" "$snap"
		wait_for 10 filled b 128
		put_at b $((9 << 20)) one
		is "faults" 0 "$(kb b Faults)"
		put_at b $((22 << 20)) three
		is "a fault" 1 "$(kb b Faults)"
		ok rmdir "$F/b"
		command_is ok "$F/c/config/working_set" off
		command_is ok "$F/c/restore" "$snap"
		is "off" 0 "$(kb c MemFilled)"
		ok rmdir "$F/c"
		is "as it was" 5 "$(wc -l <"$file")"
		# Learned on.
		mkdir "$F/a"
		command_is ok "$F/a/config/working_set" record
		command_is ok "$F/a/restore" "$snap"
		is "nothing is placed" 0 "$(kb a MemFilled)"
		put_at a $((22 << 20)) three
		ok rmdir "$F/a"
		wait_for 10 grep -q 23068672 "$file"
		is "with what was known" 6 "$(wc -l <"$file")"
	done
	is "nothing beside it" "memory.bin snapshot.json state vmstate workingset" "$(ls -A "$T/snap" | xargs)"
	ok cp -r "$F/base/snapshots/ready" "$T/with"
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$T/with"
	wait_for 10 filled a 192
}

# One of another memory, one that is malformed, one that can't be written.
test_bad_ones() {
	expect_log 'workingset'
	start -o mem_write=1
	with_data || return
	local bad id
	id=$(jq -r .memory.identity "$T/snap/snapshot.json")
	for bad in "" "forkfs working set 2\n" "forkfs working set 1\nmemory 00000000-0000-0000-0000-000000000000 67108864\n8388608 4096\nend\n" \
		"forkfs working set 1\nmemory $id 67108864\n8388608 4096\n" "forkfs working set 1\nmemory $id 67108864\n67108864 4096\nend\n" \
		"forkfs working set 1\nmemory $id 67108864\n8388608 4097\nend\n" "forkfs working set 1\nmemory $id 67108864\n8388608 -4096\nend\n" \
		"forkfs working set 1\nmemory $id 67108864\n8392704 4096\n8388608 4096\nend\n" "forkfs working set 1\nmemory $id 67108864\nend\n8388608 4096\n"; do
		# shellcheck disable=SC2059
		printf "$bad" >"$T/snap/workingset"
		mkdir "$F/a"
		command_is ok "$F/a/config/working_set" use
		command_is ok "$F/a/restore" "$T/snap"
		is "placed of \"$bad\"" 0 "$(kb a MemFilled)"
		ok rmdir "$F/a"
	done
	rm "$T/snap/workingset"
	mkfifo "$T/snap/workingset"
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$T/snap"
	put_at a $((9 << 20)) one
	ok rmdir "$F/a"
	wait_for 10 test -s "$T/snap/workingset"
	# A directory where its user may not write.
	cp -r "$T/snap" "$T/theirs"
	rm "$T/theirs/workingset"
	chmod 755 "$T" "$T/theirs"
	chmod 644 "$T/theirs"/*
	stop
	start -o allow_other,mem_write=1
	one() { setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$@"; }
	ok one mkdir "$F/n"
	is "restore" ok "$(one "$TOOLS/put" "$F/n/restore" <<<"$T/theirs")"
	printf x | one dd of="$F/n/mem" bs=1 seek=$((9 << 20)) conv=notrunc status=none
	ok one rmdir "$F/n"
	wait_for 10 eval '[ -z "$(vmms)" ]'
	[ ! -e "$T/theirs/workingset" ] || bad "written where its user may not"
}
