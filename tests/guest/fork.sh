# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Forks of a running guest.
. tests/guest/common.bash

test_three_children() {
	start
	ready count || return
	child base "$READY"
	wait_for 60 ticks_past base 5
	ok mkdir "$F/base/snapshots/now"
	local at c
	at=$(ticks base)
	for c in a b c; do child $c "$F/base/snapshots/now"; done
	echo paused >"$F/b/state"
	for c in a c base; do wait_for 60 ticks_past $c $((at + 10)); done
	# Each goes on from where the parent stood, without a gap.
	for c in a c; do
		is "$c counts on" "" "$(tr -d '\r' <"$F/$c/console" | sed -n 's/^tick \([0-9]\+\)$/\1/p' | awk 'NR > 1 && $1 != last + 1 { print last, $1 } { last = $1 }')"
		local first
		first=$(tr -d '\r' <"$F/$c/console" | sed -n 's/^tick \([0-9]\+\)$/\1/p' | head -n 1)
		[ "$first" -le $((at + 2)) ] && [ "$first" -ge $((at - 30)) ] || bad "$c began with tick $first, its parent was at $at"
	done
	[ "$(ticks b)" -le $((at + 10)) ] || bad "b counted on while it was paused: $(ticks b)"
	typed a 'echo only-$((5 * 5))' '^only-25'
	no grep -q only-25 "$F/c/console"
	is "memfds" 4 "$(cat "$F"/*/maps | grep 'rw-s' | grep -o 'memfd:forkfs:[^ ]*' | sort -u | wc -l)"
	ok rmdir "$F/base"
	wait_for 60 ticks_past c $(($(ticks c) + 3))
	typed c 'echo orphan-$((5 * 5))' '^orphan-25'
	echo running >"$F/b/state"
	wait_for 60 ticks_past b $((at + 10))
}

test_fork_of_a_fork() {
	start
	ready count || return
	child a "$READY"
	typed a 'x=one; echo first-$((1 + 1))' '^first-2'
	ok mkdir "$F/a/snapshots/s"
	child b "$F/a/snapshots/s"
	typed b 'echo got-$x; x=two' '^got-one'
	ok mkdir "$F/b/snapshots/s"
	ok rmdir "$F/a"
	child c "$F/b/snapshots/s"
	typed c 'echo got-$x' '^got-two'
	ok cp -r --sparse=always "$F/c/../b/snapshots/s" "$T/kept"
	ok rmdir "$F/b"
	child d "$T/kept"
	typed d 'echo got-$x' '^got-two'
}

test_file_backend() {
	start -o memory_backend=file
	ready count || return
	child a "$READY"
	child b "$READY"
	like "MemoryBackend" '^file' "$(status_of a MemoryBackend)"
	typed a 'x=one; echo a-$((2 + 2))' '^a-4'
	typed b 'x=two; echo b-$((2 + 2))' '^b-4'
	like "MemPrivate" '[0-9]' "$(status_of a MemPrivate)"
	ok mkdir "$F/a/snapshots/s"
	child c "$F/a/snapshots/s"
	typed c 'echo got-$x' '^got-one'
	# What the guest wrote is seen from outside.
	typed a 'echo needle-$((1000 + 234)) > /run/needle; cat /run/needle' '^needle-1234'
	ok grep -qa needle-1234 "$F/a/mem"
	no grep -qa needle-1234 "$READY/memory.bin"
	command_is ok "$F/b/state" paused
	ok mkdir "$F/b/snapshots/s"
	command_is ok "$F/c/config/memory_backend" memfd-shared
	echo stopped >"$F/c/state"
	wait_for 10 in_state c exited
	command_is ok "$F/c/restore" "$F/b/snapshots/s"
	typed c 'echo got-$x' '^got-two'
}

test_ten_at_once() {
	start
	ready count || return
	is "ids" "$(printf 'w-%s\n' {0..9})" "$(timeout 60 "$TOOLS/ask" "$F/restore" "$READY 10 w-")"
	local i
	for i in {0..9}; do state_is "w-$i" running; done
	for i in {0..9}; do wait_for 90 ticks_past "w-$i" 3; echo paused >"$F/w-$i/state"; done
	typed_one() { echo running >"$F/w-7/state"; typed w-7 'echo seven-$((3 + 4))' '^seven-7'; }
	typed_one
	ok rmdir "$F"/w-*
	wait_for 20 eval '[ "$(vmms | wc -l)" = '"$POOL"' ]'
}

test_pause() {
	start
	ready count || return
	child a "$READY"
	child b "$READY"
	wait_for 60 ticks_past a 3
	command_is ok "$F/a/state" paused
	local at
	at=$(ticks a)
	wait_for 60 ticks_past b $(($(ticks b) + 10))
	[ "$(ticks a)" -le $((at + 1)) ] || bad "the counter went on from $at to $(ticks a)"
	at=$(ticks a)
	ok mkdir "$F/a/snapshots/s"
	state_is a paused
	ok cmp "$F/a/mem" "$F/a/snapshots/s/memory.bin"
	command_is ok "$F/a/state" running
	wait_for 60 ticks_past a $((at + 3))
	child c "$F/a/snapshots/s"
	wait_for 60 ticks_past c $((at + 3))
	is "without a gap" "" "$(tr -d '\r' <"$F/a/console" | sed -n 's/^tick \([0-9]\+\)$/\1/p' | awk 'NR > 1 && $1 != last + 1 { print last, $1 } { last = $1 }')"
}

# No page of another moment than the rest: the guest knows what each word has to be.
torn() { # BACKEND
	start -o "memory_backend=$1"
	ready sum || return
	child a "$READY"
	local i
	for i in 1 2 3 4; do
		wait_for 60 ticks_past a $(($(ticks a) + 1))
		ok mkdir "$F/a/snapshots/s$i"
		# A copy made while the guest writes on is of the same moment.
		ok cp -r --sparse=always "$F/a/snapshots/s$i" "$T/s$i"
		ok cmp "$T/s$i/memory.bin" "$F/a/snapshots/s$i/memory.bin"
	done
	typed a check '^sum (ok|BAD)'
	like "the parent" '^sum ok' "$(grep -a '^sum [oB]' "$F/a/console" | tr -d '\r')"
	for i in 1 2 3 4; do
		child "c$i" "$F/a/snapshots/s$i"
		typed "c$i" check '^sum (ok|BAD)'
		is "torn pages in snapshot $i" 0 "$(grep -ac BAD "$F/c$i/console")"
		rmdir "$F/c$i"
	done
	child d "$T/s2"
	typed d check '^sum (ok|BAD)'
	is "torn pages in the copy" 0 "$(grep -ac BAD "$F/d/console")"
}
test_torn_pages() { torn memfd-shared; }
test_torn_pages_file() { torn file; }

# A device state of garbage: QEMU gets it and gives up.
test_garbage() {
	start
	ready count || return
	cp -r --sparse=always "$READY" "$T/bad"
	chmod -R u+w "$T/bad"
	head -c "$(stat -c %s "$T/bad/vmstate")" /dev/urandom >"$T/bad/vmstate.new"
	mv "$T/bad/vmstate.new" "$T/bad/vmstate"
	jq 'del(.. | .crc64?)' "$T/bad/snapshot.json" >"$T/j" && cp "$T/j" "$T/bad/snapshot.json"
	no grep -q crc64 "$T/bad/snapshot.json"
	mkdir "$F/a"
	like "restore" '^(EIO|EINVAL)$' "$(poke "$F/a/restore" "$T/bad\n")"
	state_is a failed
	like "error" "$T/bad|vmstate|qemu" "$(error_of a)"
	wait_for 10 eval '[ -z "$(vmms)" ]'
	like "restore of many" '^(EIO|EINVAL)$' "$(poke "$F/restore" "$T/bad 3 w-\n")"
	is "nothing of it" 0 "$(ls "$F" | grep -c '^w-')"
	wait_for 10 eval '[ -z "$(vmms)" ]'
	# Half of a good one.
	cp "$READY/vmstate" "$T/bad/vmstate"
	truncate -s 1000 "$T/bad/vmstate"
	like "restore of a half" '^(EIO|EINVAL)$' "$(poke "$F/a/restore" "$T/bad\n")"
	command_is ok "$F/a/restore" "$READY"
	wait_for 60 ticks_past a 3
	expect_log .
}

# The standard tools over a real guest.
test_readers() {
	start
	ready count || return
	child a "$READY"
	command_is ok "$F/a/state" paused
	is "tar's warnings" "" "$(timeout 60 tar -C "$F" -cf - a 2>&1 >/dev/null)"
	command_is ok "$F/a/state" running
	timeout 100 grep -r 'no such word anywhere' "$F/a" >/dev/null 2>&1
	is "grep -r" 1 $?
	ok timeout 60 ls -lR "$F"
	timeout 60 dd if="$F/a/status" of=/dev/null bs=1 status=none || bad dd
	state_is a running
	wait_for 60 ticks_past a $(($(ticks a) + 2))
}

test_private_backend() {
	start -o memory_backend=memfd-private
	ready count || return
	child a "$READY"
	child b "$READY"
	is "MemoryBackend" memfd-private "$(status_of a MemoryBackend)"
	like "maps" 'rw-p .*/memfd:forkfs:template' "$(cat "$F/a/maps")"
	typed a 'x=one; echo a-$((2 + 2))' '^a-4'
	typed b 'echo b-${x:-none}' '^b-none'
	local kb
	kb=$(status_of a MemPrivate | tr -cd 0-9)
	[ "$kb" -gt 0 ] && [ "$kb" -lt 65536 ] || bad "MemPrivate: $kb kB"
	ok mkdir "$F/a/snapshots/s"
	child c "$F/a/snapshots/s"
	typed c 'echo c-$x' '^c-one'
}

test_torn_pages_private() {
	torn memfd-private
}
