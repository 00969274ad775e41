# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# No descriptors, no processes, no room: what is asked for fails with an errno that says so and a sentence, what runs goes on, and all works again when the want has ended. No room in
# the state directory is restore.sh's, none for snapshots faults.sh's, memory_max restore.sh's.

descriptors() { find "/proc/$DAEMON/fd" -mindepth 1 | wc -l; }
vmms_are() { [ "$(vmms | wc -l)" = "$1" ]; }

# What runs goes on.
runs_on() {
	state_is base running
	command_is ok "$F/base/console" "$1"
	wait_for 10 grep -q "$1" "$F/base/console"
	ok soon ls "$F" "$F/base"
	ok soon cat "$F/base/status" "$F/events" "$F/metrics"
}

# All is as before.
works_again() {
	local f
	for f in again-shared again-private; do
		mkdir_is ok "$F/$f"
		[ "$f" = again-shared ] || command_is ok "$F/$f/config/memory_backend" memfd-private
		command_is ok "$F/$f/restore" "$F/base/snapshots/ready"
		state_is $f running
	done
	ok mkdir "$F/again-shared/snapshots/s"
	wait_for 10 shot_in again-shared s complete
	ok rmdir "$F/again-shared" "$F/again-private"
	wait_for 10 vmms_are 1
	wait_for 10 none_left
}
# Of what was removed.
none_left() { [ "$(ls "$S/forks" | wc -l)" = "$(find "$F" -mindepth 1 -maxdepth 1 -type d ! -name config | wc -l)" ]; }

# refused PATTERN: a restore, that is
refused() {
	local said
	said=$(poke "$F/a/restore" "$F/base/snapshots/ready\n")
	[[ $said =~ ^(EMFILE|EAGAIN|ok)$ ]] || bad "restore: $said: $(error_of a)"
	[ "$said" = ok ] || like "error" . "$(error_of a)"
	[ "$said" = ok ] || like "state of a" '^(failed|empty)$' "$(state_of a)"
	[ "$said" = ok ] && { command_is ok "$F/a/state" stopped; wait_for 10 in_state a exited; }
	wait_for 10 vmms_are 1
}

# With ever more of them free, so that each of those that a restore needs is once the one that is missing.
test_no_descriptors() {
	local most before free
	expect_log 'Too many open files|EMFILE|waited|no memory|can.t'
	start
	with_snapshot
	mkdir_is ok "$F/a"
	works_again
	before=$(descriptors)
	most=$(awk '/^Max open files/ { print $4 ":" $5 }' "/proc/$DAEMON/limits")
	for free in $(seq 0 24); do
		prlimit --pid "$DAEMON" --nofile="$((before + free)):${most#*:}"
		refused '^(EMFILE|ok)$'
		like "mkdir" '^(ok|.*Too many open files)$' "$(LC_ALL=C soon mkdir "$F/b" 2>&1 && echo ok)"
		[ ! -d "$F/b" ] || ok rmdir "$F/b"
		runs_on "with $free"
	done
	prlimit --pid "$DAEMON" --nofile="$most"
	wait_for 10 none_left
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	ok rmdir "$F/a"
	works_again
	wait_for 10 eval "[ \"\$(descriptors)\" -le $((before + 2)) ]"
}

# A control group that limits something: limited_group WHAT "ROOT LIMIT USED"..., the first of these that is there. Sets group, and limit and used, which are files.
limited_group() {
	local what=$1 v; shift
	for v; do
		read -r group limit used <<<"$v"
		[ -e "$group/cgroup.procs" ] || continue
		group=$group/forkfs-test-$$
		limit=$group/$limit used=$group/$used
		mkdir "$group" 2>/dev/null && [ -e "$limit" ] && return
		rmdir "$group" 2>/dev/null
	done
	skip "no control group limits $what here"
}

test_no_processes() {
	local group limit used free now
	limited_group processes "/sys/fs/cgroup/pids pids.max pids.current" "/sys/fs/cgroup pids.max pids.current"
	expect_log 'Resource temporarily unavailable|waited'
	start
	echo "$DAEMON" >"$group/cgroup.procs"
	with_snapshot
	mkdir_is ok "$F/a"
	works_again
	mkdir "$F/own"
	command_is ok "$F/own/config/memory_backend" memfd-private
	command_is ok "$F/own/restore" "$F/base/snapshots/ready"
	for free in 0 1 2 3; do
		now=$(cat "$used")
		echo $((now + free)) >"$limit"
		like "a snapshot that takes a process" '^(ok|.*Resource temporarily unavailable)$' "$(LC_ALL=C soon mkdir "$F/own/snapshots/s$free" 2>&1 && echo ok)"
		state_is own running
		echo max >"$limit"
	done
	ok mkdir "$F/own/snapshots/after"
	wait_for 10 shot_in own after complete
	ok rmdir "$F/own"
	wait_for 10 vmms_are 1
	for free in 0 1 2 3; do
		now=$(cat "$used")
		echo $((now + free)) >"$limit"
		refused '^(EAGAIN|ok)$'
		runs_on "with $free"
		echo max >"$limit"
	done
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	ok rmdir "$F/a"
	works_again
	stop
	wait_for 10 rmdir "$group"
}

# What the daemon's group leaves is what there is: nothing is begun that the kernel would have to kill somebody for.
test_no_memory() {
	local group limit used was i
	limited_group memory "/sys/fs/cgroup/memory memory.limit_in_bytes memory.usage_in_bytes" "/sys/fs/cgroup memory.max memory.current"
	start -o mem_write=1,fill=eager
	echo "$DAEMON" >"$group/cgroup.procs"
	MEMORY=64 with_snapshot
	timeout 20 dd if=/dev/urandom of="$F/base/mem" bs=1M seek=8 count=48 iflag=fullblock conv=notrunc status=none
	ok mkdir "$F/base/snapshots/full"
	wait_for 20 shot_in base full complete
	ok timeout 20 cp -r "$F/base/snapshots/full" "$T/copy"
	mkdir "$F/a" "$F/p"
	command_is ok "$F/p/config/memory_backend" memfd-private
	was=$(cat "$limit")
	for ((i = 0; i < 3; i++)); do
		echo $(($(cat "$used") + (40 << 20))) >"$limit"
		command_is ENOMEM "$F/a/restore" "$F/base/snapshots/full"
		like "error" '48 MiB of memory are needed, [0-9]+ MiB are left' "$(error_of a)"
		command_is ENOMEM "$F/p/restore" "$T/copy"
		like "error" '[0-9]+ MiB of memory are needed for a template, [0-9]+ MiB are left' "$(error_of p)"
		[ "$(df -m --output=avail "$F" | tail -n 1)" -le 41 ] || bad "df: $(df -m "$F")"
		runs_on "with little $i"
		state_is a failed
		state_is p failed
		is "VMMs" 1 "$(vmms | wc -l)"
		echo "$was" >"$limit"
	done
	command_is ok "$F/a/restore" "$F/base/snapshots/full"
	command_is ok "$F/p/restore" "$T/copy"
	same_memory "$F/a/mem" "$F/p/mem" || bad "not the same memory"
	ok rmdir "$F/a" "$F/p"
	works_again
	stop
	wait_for 10 rmdir "$group"
}
