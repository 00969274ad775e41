# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A cold boot, and what can be seen of a guest.
. tests/guest/common.bash

test_boot() {
	start
	"$ROOT/examples/make-guest" "$T/vm" >/dev/null || { bad make-guest; return; }
	boot_guest a "$T/vm/base.json" || return
	state_is a running
	ok grep -q 'guest ready' "$F/a/console"
	like "maps" 'rw-s .*memfd:forkfs:' "$(cat "$F/a/maps")"
	like "MemTotal" 262144 "$(status_of a MemTotal)"
	like "Vmm" qemu "$(status_of a Vmm)"
	like "Accel" 'kvm|tcg' "$(status_of a Accel)"
	like "Machine" microvm "$(status_of a Machine)"
	like "Memfd" . "$(status_of a Memfd)"
	typed a 'echo $((6 * 7))' '^42'
	# RAM is seen from outside, and what the guest does not use is holes.
	typed a 'echo needle-$((1000 + 234)) > /run/needle; cat /run/needle' '^needle-1234'
	ok grep -qa needle-1234 "$F/a/mem"
	[ "$("$TOOLS/holes" "$F/a/mem" | tail -n +2 | awk -F- '{ n += $2 - $1 } END { print n }')" -lt $((200 << 20)) ] || bad "all of RAM is data"
	like "MemFilled" '[0-9]' "$(status_of a MemFilled)"
	# The end, by the guest's own doing.
	local pid
	pid=$(status_of a Pid)
	"$TOOLS/ask" "$F/a/wait" >"$T/end" &
	echo poweroff >"$F/a/console"
	wait_for 60 in_state a exited
	wait_for 10 eval "! kill -0 $pid"
	like "Exit" . "$(status_of a Exit)"
	wait_for 10 test -s "$T/end"
	ok grep -q 'guest ready' "$F/a/console"
	is "mem of what has ended" 0 "$(soon head -c 4096 "$F/a/mem" 2>/dev/null | tr -d '\0' | wc -c)"
}

test_pc() {
	local n
	start -o machine=pc
	"$ROOT/examples/make-guest" "$T/vm" >/dev/null || { bad make-guest; return; }
	boot_guest a "$T/vm/base.json" || return
	like "Machine" pc "$(status_of a Machine)"
	ok mkdir "$F/a/snapshots/s"
	child b "$F/a/snapshots/s"
	child c "$F/a/snapshots/s"
	typed b 'echo $((6 * 7))' '^42'
	is "three generations" 3 "$(for n in a b c; do status_of $n Generation; done | grep -cxE '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')"
	is "all of them others" 3 "$(for n in a b c; do status_of $n Generation; done | sort -u | wc -l)"
	for n in a b c; do
		holds_generation $n "$(status_of $n Generation)" || bad "$n: its guest has not got $(status_of $n Generation)"
	done
	if holds_generation b "$(status_of c Generation)"; then bad "b has c's generation"; fi
}

# holds_generation FORK UUID: whether its RAM has that, in the byte order of ACPI's buffer. grep's lines won't do: a UUID may have their end in it
holds_generation() {
	local u=${2//-/}
	u=${u:6:2}${u:4:2}${u:2:2}${u:0:2}${u:10:2}${u:8:2}${u:14:2}${u:12:2}${u:16}
	timeout 60 perl -e '$u = pack "H*", shift; $at = ""; while (sysread STDIN, $more, 1 << 20) { $at .= $more; exit 0 if index($at, $u) >= 0; $at = substr $at, -15 } exit 1' "$u" <"$F/$1/mem"
}

test_killed() {
	start
	ready count || return
	child a "$READY"
	expect_log .
	kill -KILL "$(status_of a Pid)"
	wait_for 10 eval 'case "$(state_of a)" in failed|exited) true ;; *) false ;; esac'
	like "Exit" '9|[Kk]illed' "$(status_of a Exit)"
	like "error" . "$(error_of a)"
	command_is ok "$F/a/restore" "$READY"
	wait_for 60 ticks_past a 3
}

# A kernel that is none: told, not waited for.
test_no_kernel() {
	start
	description
	mkdir "$F/a"
	expect_log .
	like "boot" '^(EIO|EINVAL|ok)$' "$(poke "$F/a/boot" "$T/vm/base.json\n")"
	[ "$(state_of a)" = running ] || like "error" . "$(error_of a)"
	ok rmdir "$F/a"
}

