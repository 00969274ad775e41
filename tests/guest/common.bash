# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the guest tests share: real QEMU, Debian's kernel. See examples/make-guest for what the guests do.

VMM=qemu POOL=2

# The last number that a fork's guest counted, 0 before the first.
ticks() { tr -d '\r' <"$F/$1/console" | sed -n 's/^tick \([0-9]\+\)$/\1/p' | tail -n 1 | grep . || echo 0; }
ticks_past() { [ "$(ticks "$1")" -gt "$2" ]; }

# ready KIND: $READY is a snapshot of a guest ("count" or "sum") that has booted. The first test of a run that asks boots it, the others find it.
ready() {
	local vm=$RUN/$1/vm
	READY=$RUN/$1/ready
	exec 9>"$RUN/$1.lock"
	flock -w 200 9 || { bad "no guest"; return 1; }
	if [ ! -d "$READY" ]; then
		mkdir -p "$RUN/$1"
		"$ROOT/examples/make-guest" $([ "$1" = count ] || echo --sum) "$vm" >"$T/make-guest" 2>&1 || { bad "make-guest: $(cat "$T/make-guest")"; return 1; }
		boot_guest first "$vm/base.json" && ok mkdir "$F/first/snapshots/ready" &&
			ok cp -r --sparse=always "$F/first/snapshots/ready" "$READY.part" && mv "$READY.part" "$READY"
		rmdir "$F/first"
	fi
	exec 9>&-
	[ -d "$READY" ]
}

# boot_guest FORK DESCRIPTION: until it counts.
boot_guest() {
	mkdir "$F/$1"
	command_is ok "$F/$1/boot" "$2"
	wait_for 120 grep -q '^tick 3' "$F/$1/console" || { bad "console: $(tail -n 3 "$F/$1/console"), log: $(tail -n 3 "$F/$1/log")"; return 1; }
}

# child FORK SNAPSHOT
child() {
	mkdir "$F/$1"
	command_is ok "$F/$1/restore" "$2"
	in_state "$1" running || bad "$1: $(state_of "$1"): $(error_of "$1")"
}

# typed FORK COMMAND PATTERN: the answer comes.
typed() {
	is "typing into $1" ok "$(printf '%s\n' "$2" | soon "$TOOLS/put" "$F/$1/console")"
	wait_for 60 grep -qE -- "$3" "$F/$1/console" || bad "console of $1: $(tail -n 5 "$F/$1/console")"
}
