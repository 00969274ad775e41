# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Snapshots of a guest that writes all the while: fifty of each kind, none torn; and what is in them, byte by byte, is what was when it stood still.
. tests/guest/common.bash

AT_ONCE=4 # guests that look at their memory at the same time

# A silent fallback to stop-and-copy has no torn pages either.
is_live() { is "how snapshots of $1 are taken" live "$(status_of "$1" Snapshots)"; }

# fork_of BACKEND FORK SNAPSHOT [KEY=VALUE...]: a child with settings of its own.
fork_of() {
	local backend=$1 fork=$2 snapshot=$3 setting; shift 3
	mkdir "$F/$fork"
	for setting in "memory_backend=$backend" "$@"; do
		command_is ok "$F/$fork/config/${setting%%=*}" "${setting#*=}"
	done
	command_is ok "$F/$fork/restore" "$snapshot"
	in_state "$fork" running || bad "$fork: $(state_of "$fork"): $(error_of "$fork")"
}


# Ten snapshots s0 … s9, each taken while the one before is hardly captured.
ten_of() {
	local i
	for i in {0..9}; do
		ok mkdir "$F/$1/snapshots/s$i"
		is_live "$1"
	done
}

answered() { grep -qaE '^sum (ok|BAD)' "$F/$1/console"; }

# The guest in each of those looks at all that it wrote.
check_ten_of() {
	local i j
	for ((i = 0; i < 10; i += AT_ONCE)); do
		for ((j = i; j < i + AT_ONCE && j < 10; j++)); do
			fork_of memfd-private "c$j" "$F/$1/snapshots/s$j"
			is "typing into c$j" ok "$(printf 'check\n' | soon "$TOOLS/put" "$F/c$j/console")"
		done
		for ((j = i; j < i + AT_ONCE && j < 10; j++)); do
			wait_for 60 answered "c$j" && like "snapshot s$j of $1" '^sum ok' "$(grep -a '^sum [oB]' "$F/c$j/console" | tr -d '\r')"
			checked=$((checked + 1))
			ok rmdir "$F/c$j"
		done
	done
}

# round FORK: ten snapshots of a guest that writes, and what they are worth; the guest stands still meanwhile.
round() {
	local i
	wait_for 60 ticks_past "$1" "$(ticks "$1")"
	ten_of "$1"
	wait_for 60 shot_in "$1" s9 complete
	command_is ok "$F/$1/state" paused
	check_ten_of "$1"
	command_is ok "$F/$1/state" running
}

drop_ten_of() { ok rmdir "$F/$1"/snapshots/s?; }

test_booted() {
	local i checked=0
	start
	ready sum || return
	boot_guest a "$RUN/sum/vm/base.json" || return
	for i in 1 2 3 4 5; do round a; drop_ten_of a; done
	is "snapshots" 50 "$checked"
	typed a check '^sum (ok|BAD)'
	like "the guest itself" '^sum ok' "$(grep -a '^sum [oB]' "$F/a/console" | tr -d '\r')"
}

# Each ten of a fresh child, most of whose pages are not there yet.
test_on_demand() {
	local i checked=0
	start
	ready sum || return
	for i in off use off use off; do
		fork_of memfd-shared a "$READY" fill=ondemand "working_set=$i"
		is "Fill" ondemand "$(status_of a Fill)"
		round a
		ok rmdir "$F/a"
	done
	is "snapshots" 50 "$checked"
}

# Each ten of a child of the last of the ten before: what it keeps is its own pages only, at a depth of five.
test_private() {
	local i checked=0 from
	start
	ready sum || return
	from=$READY
	for i in 1 2 3 4 5; do
		fork_of memfd-private "a$i" "$from"
		round "a$i"
		from=$F/a$i/snapshots/s9
		[ "$i" = 1 ] || ok rmdir "$F/a$((i - 1))"
	done
	is "snapshots" 50 "$checked"
}


# same_bytes FORK: the guest stands still, its RAM is copied, a snapshot taken; it goes on at once, so that it writes while the capture does. Until five have
# been seen with pages still to come.
same_bytes() {
	local fork=$1 now n=0 meanwhile=0
	while [ "$meanwhile" -lt 5 ] && [ "$n" -lt 25 ]; do
		n=$((n + 1))
		wait_for 60 ticks_past "$fork" "$(ticks "$fork")"
		command_is ok "$F/$fork/state" paused
		ok dd if="$F/$fork/mem" of="$T/mem" bs=1M conv=sparse status=none
		ok mkdir "$F/$fork/snapshots/s"
		printf 'running\n' >"$F/$fork/state" || bad "$fork does not go on"
		read -r now <"$F/$fork/snapshots/s/state"
		[ "$now" != writing ] || meanwhile=$((meanwhile + 1))
		ok same_memory "$F/$fork/snapshots/s/memory.bin" "$T/mem"
		wait_for 60 shot_in "$fork" s complete
		ok same_memory "$F/$fork/snapshots/s/memory.bin" "$T/mem"
		is_live "$fork"
		no same_memory "$F/$fork/mem" "$T/mem"
		ok rmdir "$F/$fork/snapshots/s"
	done
	echo "    $fork: $meanwhile of $n while pages were still to come"
	[ "$meanwhile" = 5 ] || bad "$fork: the guest wrote while its memory was captured in $meanwhile of $n snapshots"
}

test_same_bytes() {
	start
	ready sum || return
	boot_guest a "$RUN/sum/vm/base.json" || return
	same_bytes a
	ok rmdir "$F/a"
	fork_of memfd-shared b "$READY" fill=ondemand working_set=off
	same_bytes b
	ok rmdir "$F/b"
	fork_of memfd-private c "$READY"
	same_bytes c
	typed c check '^sum (ok|BAD)'
	like "the guest itself" '^sum ok' "$(grep -a '^sum [oB]' "$F/c/console" | tr -d '\r')"
}
