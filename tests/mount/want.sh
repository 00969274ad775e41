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

# A control group that counts processes: pids_group NAME
pids_group() {
	local root
	for root in /sys/fs/cgroup/pids /sys/fs/cgroup; do
		[ -e "$root/cgroup.procs" ] || continue
		group=$root/$1
		mkdir "$group" 2>/dev/null && [ -e "$group/pids.max" ] && return
		rmdir "$group" 2>/dev/null
	done
	skip "no control group counts processes here"
}

test_no_processes() {
	local group free now
	pids_group "forkfs-test-$$"
	expect_log 'Resource temporarily unavailable|waited'
	start
	echo "$DAEMON" >"$group/cgroup.procs"
	with_snapshot
	mkdir_is ok "$F/a"
	works_again
	for free in 0 1 2 3; do
		now=$(cat "$group/pids.current")
		echo $((now + free)) >"$group/pids.max"
		refused '^(EAGAIN|ok)$'
		runs_on "with $free"
		echo max >"$group/pids.max"
	done
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	ok rmdir "$F/a"
	works_again
	stop
	wait_for 10 rmdir "$group"
}
