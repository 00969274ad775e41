# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Real guests that a daemon leaves behind: half-filled, amidst a snapshot, paused. The next daemon has them as they were, and no byte of them is wrong.
. tests/guest/common.bash

sums() { # FORK: it adds up what it has, among it what it never touched before
	local before
	before=$(grep -caE '^sum (ok|BAD)' "$F/$1/console")
	answers() { [ "$(grep -caE '^sum (ok|BAD)' "$F/$1/console")" -gt "$before" ]; }
	is "typing into $1" ok "$(printf 'check\n' | soon "$TOOLS/put" "$F/$1/console")"
	wait_for 60 answers "$1"
	like "memory of $1" '^sum ok' "$(grep -aE '^sum (ok|BAD)' "$F/$1/console" | tail -n 1 | tr -d '\r')"
}

test_half_filled() {
	local before f
	start -o fill=ondemand
	ready sum || return
	child a "$READY"
	mkdir "$F/p"
	command_is ok "$F/p/config/memory_backend" memfd-private
	command_is ok "$F/p/restore" "$READY"
	ok mkdir "$F/p/snapshots/s"
	wait_for 60 shot_in p s complete
	child of-p "$F/p/snapshots/s"
	mkdir "$F/private-of-p"
	command_is ok "$F/private-of-p/config/memory_backend" memfd-private
	command_is ok "$F/private-of-p/restore" "$F/p/snapshots/s"
	child still "$READY"
	command_is ok "$F/still/state" paused
	ok mkdir "$F/still/snapshots/first"
	before=$(ticks p)
	kill_daemon
	until_true 20 eval "tr -d '\r' <$S/forks/*/console.txt | grep -qx 'tick $((before + 2))'" # it runs on
	start
	for f in a p of-p private-of-p; do
		state_is "$f" running
		sums "$f"
		ok mkdir "$F/$f/snapshots/after"
		wait_for 60 shot_in "$f" after complete
	done
	state_is still paused
	ok mkdir "$F/still/snapshots/again"
	child of-still "$F/still/snapshots/again"
	sums of-still
	command_is ok "$F/still/state" running
	sums still
	ok mkdir "$F/still/snapshots/later"
	child of-later "$F/still/snapshots/later"
	sums of-later
	child grandchild "$F/a/snapshots/after"
	sums grandchild
	child old "$F/p/snapshots/s"
	sums old
}

# The daemon is killed at many moments of a snapshot: the guest goes on, and what is left of the snapshot is dropped or whole.
test_amidst_snapshots() {
	local i state
	start -o fill=ondemand
	ready sum || return
	expect_log 'is dropped|was being taken'
	for i in 1 2 3 4 5 6; do
		child "a$i" "$READY"
		soon mkdir "$F/a$i/snapshots/s" &
		sleep "0.0$i"
		kill_daemon
		wait $!
		start -o fill=ondemand
		state_is "a$i" running
		state=$(cat "$F/a$i/snapshots/s/state" 2>/dev/null)
		case $state in
			complete) child "b$i" "$F/a$i/snapshots/s"; sums "b$i"; ok rmdir "$F/b$i" ;;
			'') ;;
			*) bad "the snapshot is $state" ;;
		esac
		sums "a$i"
		ok mkdir "$F/a$i/snapshots/again"
		ok rmdir "$F/a$i"
	done
}

# A path that leads back into the mount is no question to ourselves: it could not be answered while a mkdir holds the directory, and a daemon that is killed meanwhile would never end.
test_own_paths() {
	local mkdir
	start
	ready count || return
	child base "$READY"
	ok mkdir "$F/base/snapshots/s"
	mkdir "$F/a" "$T/elsewhere" "$T/part"
	ln -s "$F/base/snapshots" "$T/elsewhere/link"
	mount --bind "$F/base" "$T/part"
	kill -STOP "$(pid_of base)"
	timeout 60 mkdir "$F/base/snapshots/waits" 2>/dev/null &
	mkdir=$!
	wait_for 10 grep -q waits "$(grep -l '"id":"base"' "$S"/forks/*/record.json)"
	for path in "$F/base/snapshots/s" "$T/elsewhere/link/s" "$F/base/./snapshots//s/" "$T/part/snapshots/s"; do
		command_is ok "$F/a/restore" "$path"
		ok rmdir "$F/a"
		ok mkdir "$F/a"
	done
	command_is EINVAL "$F/a/restore" "$F/base/snapshots"
	command_is EINVAL "$F/a/boot" "$F/base/log"
	command_is ENOENT "$F/a/restore" "$F/base/snapshots/t"
	umount "$T/part"
	kill -KILL "$DAEMON"
	wait "$DAEMON"
	wait "$mkdir"
	DAEMON=
	# shellcheck disable=SC2046
	kill -CONT $(vmms)
	no soon stat "$F"
	expect_log 'the mount of a daemon that died is cleared|is dropped'
	start
	state_is base running
}
