# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# RAM that comes page by page. The null VMM touches nothing by itself: what is written to mem goes the way of the VMM's own writes, and is the fault.

MIB=$((1 << 20))

# A snapshot of a guest of 64 MiB with 16 MiB of data at 8 MiB: $F/base/snapshots/ready, and its copy $T/snap.
with_data() {
	MEMORY=${SIZE:-64} booted base || return
	dd if=/dev/urandom of="$F/base/mem" bs=1M seek=8 count="${DATA:-16}" conv=notrunc iflag=fullblock status=none || bad "no data"
	ok mkdir "$F/base/snapshots/ready"
	wait_for 20 complete base ready
	ok cp -r --sparse=always "$F/base/snapshots/ready" "$T/snap"
}
complete() { [ "$(cat "$F/$1/snapshots/$2/state")" = complete ]; }
kb() { status_of "$1" "$2" | tr -cd 0-9; }
filled() { [ "$(kb "$1" MemFilled)" = "$2" ]; }
get_at() { dd if="$F/$1/mem" bs=1 skip="$2" count="$3" status=none; }

# Looking makes no page; touching makes its neighbours too, and they are right.
test_on_demand() {
	start -o mem_write=1
	with_data || return
	local source written
	for source in "$T/snap" "$F/base/snapshots/ready"; do
		mkdir "$F/a"
		command_is ok "$F/a/restore" "$source"
		is "Fill" ondemand "$(status_of a Fill)"
		is "MemFilled" 0 "$(kb a MemFilled)"
		ok timeout 60 cmp "$F/a/mem" "$T/snap/memory.bin"
		is "seen from outside" "$("$TOOLS/holes" "$T/snap/memory.bin")" "$("$TOOLS/holes" "$F/a/mem")"
		is "MemFilled after looking" 0 "$(kb a MemFilled)"
		put_at a $((9 * MIB + 5)) hello || bad "write"
		is "what was written" hello "$(get_at a $((9 * MIB + 5)) 5)"
		is "a cluster came" 64 "$(kb a MemFilled)"
		written=$(cmp -l <(printf hello) <(dd if="$T/snap/memory.bin" bs=1 skip=$((9 * MIB + 5)) count=5 status=none) | wc -l) # random bytes may be the same
		is "differences" "$written" "$(cmp -l "$F/a/mem" "$T/snap/memory.bin" | awk -v at=$((9 * MIB + 6)) '$1 >= at && $1 < at + 5' | wc -l)"
		[ "$(cmp -l "$F/a/mem" "$T/snap/memory.bin" | wc -l)" -le 5 ] || bad "more than was written"
		like "Faults" '[1-9]' "$(status_of a Faults)"
		ok rmdir "$F/a"
	done
	is "the source" 0 "$(cmp -s "$T/snap/memory.bin" "$F/base/snapshots/ready/memory.bin"; echo $?)"
}

test_fills() {
	start -o mem_write=1
	with_data || return
	mkdir "$F/a" "$F/b" "$F/c"
	command_is ok "$F/a/config/fill" background
	command_is ok "$F/a/restore" "$T/snap"
	wait_for 20 filled a 16384
	ok cmp "$F/a/mem" "$T/snap/memory.bin"
	command_is ok "$F/b/config/fill" eager
	command_is ok "$F/b/restore" "$T/snap"
	is "Fill" eager "$(status_of b Fill)"
	is "MemFilled" 16384 "$(kb b MemFilled)"
	is "no pager" "" "$(status_of b Faults)"
	command_is ok "$F/c/config/memory_backend" userfault
	command_is ok "$F/c/config/fill" eager
	command_is ok "$F/c/restore" "$T/snap"
	is "MemoryBackend" userfault "$(status_of c MemoryBackend)"
	is "Fill" ondemand "$(status_of c Fill)"
	is "nothing copied" 0 "$(kb c MemFilled)"
	like "maps" 'rw-s .*memfd:forkfs' "$(cat "$F/c/maps")"
	# A snapshot of one that is mostly not there yet is whole.
	put_at c $((10 * MIB)) other
	ok mkdir "$F/c/snapshots/s"
	ok cmp "$F/c/snapshots/s/memory.bin" "$F/c/mem"
	wait_for 20 complete c s
	ok cmp "$F/c/snapshots/s/memory.bin" "$F/c/mem"
	mkdir "$F/d"
	command_is ok "$F/d/restore" "$F/c/snapshots/s"
	ok rmdir "$F/c"
	ok cmp "$F/d/mem" "$F/d/mem"
	is "the grandchild" other "$(get_at d $((10 * MIB)) 5)"
}

# What the pages come from is cut off, or written to: no guest reads zeros, or a mixture.
test_source_breaks() {
	start -o mem_write=1,working_set=off
	with_data || return
	local how
	for how in shrinks is_written_to; do
		rm -rf "$T/$how"
		cp -r --sparse=always "$T/snap" "$T/$how"
		chmod u+w "$T/$how/memory.bin"
		mkdir "$F/$how" "$F/other-$how"
		command_is ok "$F/$how/restore" "$T/$how"
		command_is ok "$F/other-$how/restore" "$T/snap"
		put_at "$how" $((9 * MIB)) x || bad "the first page"
		if [ "$how" = shrinks ]; then
			truncate -s $((12 * MIB)) "$T/$how/memory.bin"
		else
			printf y | dd of="$T/$how/memory.bin" bs=1 seek=$((20 * MIB)) conv=notrunc status=none
		fi
		put_at "$how" $((20 * MIB)) x 2>/dev/null
		wait_for 20 in_state "$how" failed
		like "error" 'truncated|written to' "$(error_of "$how")"
		is "no VMM" "" "$(status_of "$how" Pid)"
		state_is "other-$how" running
		put_at "other-$how" $((20 * MIB)) x || bad "the other one's page"
		# A second try, with a good one.
		command_is ok "$F/$how/restore" "$T/snap"
		ok rmdir "$F/$how" "$F/other-$how"
	done
}

# The VMM is killed while its pages come; so is a whole fan-out.
test_killed() {
	start -o mem_write=1,fill=background
	SIZE=512 DATA=256 with_data || return
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$T/snap"
	kill -KILL "$(status_of a Pid | tr -cd 0-9)"
	wait_for 20 in_state a failed
	like "error" 'killed' "$(error_of a)"
	command_is ok "$F/a/restore" "$T/snap"
	command_is EBUSY "$F/a/restore" "$T/snap"
	ok rmdir "$F/a"
	command_is ok "$F/restore" "$T/snap 4 w-"
	ok rmdir "$F/w-0" "$F/w-1"
	stop # the others go with the mount
}

# A user without the right to a userfaultfd that notices the kernel's accesses gets the same, by a copy; and is told.
test_without_userfaultfd() {
	[ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 0 ] || skip "any user may have a userfaultfd here"
	[ -u "$(command -v fusermount3)" ] || skip "fusermount3 is not setuid here"
	[ -e "$T/fuse" ] || {
		mknod -m 666 "$T/fuse" c 10 229 || skip "no device can be made"
		exec unshare -m --propagation private bash -c 'mount --bind "$T/fuse" /dev/fuse; chmod 600 /dev/userfaultfd 2>/dev/null; . tests/lib.sh; . tests/mount/paging.sh; run_test test_without_userfaultfd'
	}
	one() { setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$@"; }
	mkdir "$F" "$T/runtime"
	chown nobody:nogroup "$F" "$T/runtime"
	description
	XDG_RUNTIME_DIR=$T/runtime setpriv --reuid=nobody --regid=nogroup --clear-groups "$FORKFS_BUILD/fs/forkfs" -f -o vmm=null,pool=0 "$F" >>"$LOG" 2>&1 </dev/null &
	DAEMON=$!
	until_true 30 eval 'daemon_gone || one test -e "$F/help"'
	mounted || { bad "no mount: $(tail -n 3 "$LOG")"; DAEMON=; return; }
	ok one mkdir "$F/a" "$F/b" "$F/c"
	is "boot" ok "$(one "$TOOLS/put" "$F/a/boot" <<<"$T/vm/base.json")"
	ok one mkdir "$F/a/snapshots/s"
	is "it is complete at once" complete "$(one cat "$F/a/snapshots/s/state")"
	like "Snapshots" '^stop-and-copy: .' "$(one sed -n 's/^Snapshots:[[:space:]]*//p' "$F/a/status")"
	is "live by name" ok "$(one "$TOOLS/put" "$F/a/config/snapshot" <<<live)"
	like "a live one" 'not supported' "$(LC_ALL=C one mkdir "$F/a/snapshots/l" 2>&1)"
	like "error" 'config/snapshot.*userfaultfd' "$(one cat "$F/a/error")"
	is "nothing of it" s "$(one ls "$F/a/snapshots")"
	is "its state" running "$(one cat "$F/a/state")"
	is "restore" ok "$(one "$TOOLS/put" "$F/b/restore" <<<"$F/a/snapshots/s")"
	is "Fill" eager "$(one sed -n 's/^Fill:[[:space:]]*//p' "$F/b/status")"
	is "fill" ok "$(one "$TOOLS/put" "$F/c/config/fill" <<<ondemand)"
	is "restore on demand" EOPNOTSUPP "$(one "$TOOLS/put" "$F/c/restore" <<<"$F/a/snapshots/s")"
	like "error" userfaultfd "$(one cat "$F/c/error")"
	kill "$DAEMON"
	wait_for 20 daemon_gone
	wait "$DAEMON"; is "exit status" 0 $?
	DAEMON=
}
