# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A daemon that dies leaves its VMs running, and the next one takes them over.

# What belongs to a fork and must be the same afterwards.
portrait() {
	local f
	for f in "$@"; do
		echo "$f $(cat "$F/$f/state") $(stat -c '%u:%g %a %i' "$F/$f")"
		grep -vE '^(MemFilled|Faults|Fill)' "$F/$f/status"
		cat "$F/$f/console"
		ls "$F/$f/snapshots"
	done
}

again() {
	kill_daemon
	start "$@"
}

read_at() { timeout 20 dd if="$F/$1/mem" bs=1 skip="$2" count="$3" status=none | tr '\0' .; }

test_takes_over() {
	local before after pid
	start -o mem_write=1
	with_snapshot
	mkdir "$F/a" "$F/p" "$F/empty"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	put_at a 4096 "written before"
	command_is ok "$F/p/restore" "$F/base/snapshots/ready"
	echo paused >"$F/p/state"
	printf 'typed' >"$F/a/console"
	chmod 0750 "$F/a"
	chgrp 7 "$F/a"
	mkdir "$F/gone"
	command_is ok "$F/gone/restore" "$F/base/snapshots/ready"
	echo stopped >"$F/gone/state"
	before=$(portrait base a p gone empty)
	pid=$(pid_of a)
	again
	after=$(portrait base a p gone empty)
	[ "$before" = "$after" ] || bad "not the same: $(diff <(echo "$before") <(echo "$after"))"
	is "the process" "$pid" "$(pid_of a)"
	is "its memory" "written before" "$(read_at a 4096 14)"
	like "events" '"a".*"adopted"' "$(cat "$F/events")"
	printf ' and after' >"$F/a/console"
	wait_for 5 grep -q 'typed and after' "$F/a/console"
	command_is ok "$F/empty/restore" "$F/base/snapshots/ready"
	ok mkdir "$F/a/snapshots/later"
	mkdir "$F/b"
	command_is ok "$F/b/restore" "$F/a/snapshots/later"
	is "its child's memory" "written before" "$(read_at b 4096 14)"
	echo running >"$F/p/state"
	state_is p running
}

record_of() { grep -l "\"id\":\"$1\"" "$S"/forks/*/record.json; }

# VMs that end while nobody looks, one that is another process by now, a record that nobody can read: each is told as what it is, and the others are taken over.
test_ended_meanwhile() {
	local pid stranger
	start
	booted ended
	booted number
	booted torn
	booted fine
	pid=$(pid_of torn)
	kill_daemon
	kill -KILL "$(sed 's/.*"pid":\([0-9]*\).*/\1/' "$(record_of ended)")"
	sleep 1000 &
	stranger=$!
	kill -KILL "$(sed 's/.*"pid":\([0-9]*\).*/\1/' "$(record_of number)")"
	sed -i "s/\"pid\":[0-9]*/\"pid\":$stranger/" "$(record_of number)"
	truncate -s 40 "$(record_of torn)"
	expect_log 'can.t be read'
	wait_for 10 eval '[ "$(alive)" = 2 ]'
	start
	state_is ended exited
	like "its end" 'ended while no daemon was there, how is unknown' "$(status_of ended Exit)"
	like "its end" '^exited: .*unknown' "$(cat "$F/ended/wait")"
	like "its console" . "$(cat "$F/fine/status")"
	state_is number exited
	kill -0 "$stranger" || bad "a stranger was killed"
	kill "$stranger"
	state_is fine running
	[ ! -e "$F/torn" ] || bad "a fork without a record is there"
	wait_for 10 eval "! kill -0 $pid 2>/dev/null" || kill_vmms "$pid" # the one whose record was torn
	command_is ok "$F/ended/boot" "$T/vm/base.json"
	state_is ended running
}

# What nobody was told of isn't there afterwards: children of a fan-out under way, a fork that was removed.
test_half_made() {
	local i
	FORKFS_NULL_DELAY_MS=300 start
	with_snapshot
	mkdir "$F/one"
	soon "$TOOLS/put" "$F/restore" <<<"$F/base/snapshots/ready 20 w-" >/dev/null 2>&1 &
	wait_for 10 test -e "$F/w-19"
	soon "$TOOLS/put" "$F/one/restore" <<<"$F/base/snapshots/ready" >/dev/null 2>&1 &
	wait_for 10 in_state one restoring
	kill_daemon
	wait_for 20 eval '[ "$(alive)" = 1 ]' # they end with it
	start
	is "forks" "base one" "$(cd "$F" && ls -d */ | tr -d / | grep -v config | tr '\n' ' ' | sed 's/ $//')"
	state_is one empty
	state_is base running
	command_is ok "$F/one/restore" "$F/base/snapshots/ready"
	is "directories" 2 "$(ls "$S/forks" | wc -l)"
}

# -o keep: the same without a death.
test_keep() {
	local pid
	start -o keep
	with_snapshot
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	pid=$(pid_of a)
	umount "$F"
	wait_for 20 daemon_gone
	wait "$DAEMON" || bad "the daemon's exit status is $?"
	kill -0 "$pid" || bad "the VM is gone"
	start -o keep
	is "the process" "$pid" "$(pid_of a)"
	mkdir "$F/b"
	command_is ok "$F/b/restore" "$F/base/snapshots/ready"
	kill -TERM "$DAEMON"
	wait_for 20 daemon_gone
	wait "$DAEMON" || bad "the daemon's exit status is $?"
	is "VMs" 3 "$(alive)"
	start
	state_is b running
	is "directory of the snapshot" 1 "$(ls "$(find /dev/shm "$S" -maxdepth 1 -name "forkfs-$(basename "$S")*" -o -maxdepth 1 -path "$S/snapshots" | head -n 1)" | wc -l)"
}

# A second daemon on the same state is refused, and disturbs nothing.
test_second_daemon() {
	local r=0
	start
	booted a
	mkdir "$T/other"
	timeout 20 "$FORKFS_BUILD/fs/forkfs" -f -o "state=$S,vmm=null,uids=$UIDS" "$T/other" >"$T/second" 2>&1 || r=$?
	is "its status" 1 "$r"
	like "what it says" 'another daemon uses' "$(cat "$T/second")"
	state_is a running
	ok mkdir "$F/a/snapshots/s"
}

# The dead mount is cleared by the next daemon itself.
test_dead_mount() {
	start
	booted a
	kill -KILL "$DAEMON"
	wait "$DAEMON" 2>/dev/null
	no stat "$F"
	expect_log 'the mount of a daemon that died is cleared'
	start
	state_is a running
}

# A snapshot whose memory is being captured when the daemon dies, and a child of it that lacks most of its pages: the next daemon finishes the one, and the other has them; though the snapshot,
# or its fork, was removed before.
test_capture_under_way() {
	local how state seen=0
	expect_log 'is dropped|can.t be finished'
	with_pattern
	for how in memfd-shared memfd-private; do
		half_captured "$how"
		state=$(cat "$F/parent/snapshots/s/state")
		kill_daemon
		[ "$state" != writing ] || seen=1
		start -o mem_write=1,fill=ondemand
		state_is parent running
		is "$how: the snapshot" complete "$(cat "$F/parent/snapshots/s/state")"
		same_memory "$F/parent/mem" "$F/child/mem" || bad "$how: the child's memory is not its parent's"
		same_memory "$F/parent/mem" "$F/parent/snapshots/s/memory.bin" || bad "$how: the snapshot is not the parent's memory"
		has_pattern "$how"
	done
	is "a capture that was under way" 1 "$seen"
}
with_pattern() { # in $T/pattern, and in $F/base/snapshots/whole
	start -o mem_write=1,fill=ondemand
	MEMORY=512 booted base
	head -c 300M /dev/urandom >"$T/pattern"
	timeout 60 dd if="$T/pattern" of="$F/base/mem" bs=4M conv=notrunc status=none
	ok mkdir "$F/base/snapshots/whole"
	wait_for 60 shot_in base whole complete
}
half_captured() { # BACKEND: "child" of a snapshot "s" of "parent"
	mkdir "$F/parent"
	command_is ok "$F/parent/config/memory_backend" "$1"
	command_is ok "$F/parent/restore" "$F/base/snapshots/whole"
	timeout 60 dd if="$T/pattern" of="$F/parent/mem" bs=4M skip=1 count=60 conv=notrunc status=none # not the same bytes there
	ok mkdir "$F/parent/snapshots/s"
	mkdir "$F/child"
	command_is ok "$F/child/restore" "$F/parent/snapshots/s"
}
has_pattern() { # BACKEND; takes the forks away
	state_is child running
	timeout 60 cmp <(dd if="$T/pattern" bs=4M skip=1 count=60 status=none) <(dd if="$F/child/mem" bs=4M count=60 iflag=fullblock status=none) || bad "$1: not what was written"
	[ ! -d "$F/parent" ] || ok rmdir "$F/parent"
	ok rmdir "$F/child"
}
test_capture_of_what_was_removed() {
	local how what seen=0
	with_pattern
	for how in memfd-shared memfd-private; do
		for what in parent/snapshots/s parent; do
			half_captured "$how"
			ok rmdir "$F/$what"
			kill_daemon
			if grep -q '"dropped":1' "$S"/forks/*/record.json || ls "$S"/forks/*/removed.json >/dev/null 2>&1; then seen=$((seen + 1)); fi
			start -o mem_write=1,fill=ondemand
			[ "$what" != parent ] || [ ! -e "$F/parent" ] || bad "$how: the parent is there again"
			[ ! -e "$F/$what" ] || bad "$how: $what is there again"
			has_pattern "$how, without $what"
			wait_for 10 eval '[ "$(alive)" = 1 ]'
			[ "$what" != parent ] || is "what is told of it" gone "$(tac "$F/events" | sed '/"parent","event":"removed"/q' | sed -n 's/.*"parent","event":"\([a-z]*\)".*/\1/p' | grep -v removed | xargs)"
			wait_for 10 eval '[ "$(ls "$S/forks" | wc -l)" = 1 ]'
		done
	done
	[ "$seen" -gt 0 ] || bad "no capture was under way"
}

# What was being filled in the background goes on being filled.
test_filling() {
	start -o mem_write=1,fill=background,working_set=off
	MEMORY=512 booted base
	head -c 300M /dev/urandom | timeout 60 dd of="$F/base/mem" bs=4M iflag=fullblock conv=notrunc status=none
	ok mkdir "$F/base/snapshots/whole"
	wait_for 60 shot_in base whole complete
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$F/base/snapshots/whole"
	kill_daemon
	filled() { status_of "$1" MemFilled | tr -cd 0-9; }
	start -o mem_write=1
	is "how" background "$(status_of a Fill)"
	wait_for 60 eval '[ "$(filled a)" = "$(filled base)" ]'
	same_memory "$F/base/mem" "$F/a/mem" || bad "not the same memory"
}

# Many at once are recorded at once: with some of their records written and the launch not, there are none; with the launch written all are there.
test_launch_recorded() {
	local dir n
	start
	with_snapshot
	command_is ok "$F/restore" "$F/base/snapshots/ready 3 w-"
	kill_daemon
	n=0
	for dir in $(grep -l '"id":"w-' "$S"/forks/*/record.json | xargs -n 1 dirname); do # as it is in the midst of a launch
		sed 's/"id":/"launch":77,"id":/' "$dir/record.json" >"$dir/launch.json"
		rm "$dir/record.json"
		n=$((n + 1))
	done
	is "forks" 3 "$n"
	touch "$S/forks/launch-77"
	start
	for n in 0 1 2; do state_is "w-$n" running; done
	is "names of records" "" "$(find "$S/forks" -name 'launch*')"
	kill_daemon
	for dir in $(grep -l '"id":"w-' "$S"/forks/*/record.json | xargs -n 1 dirname); do mv "$dir/record.json" "$dir/launch.json"; done
	sed -i 's/"id":/"launch":78,"id":/' "$S"/forks/*/launch.json
	start
	is "forks of a launch that was never recorded" "" "$(ls -d "$F"/w-* 2>/dev/null)"
	wait_for 10 eval '[ "$(alive)" = 1 ]'
}

# What the daemon looks at the machine with is gone with it: a guest of its own that only runs, until somebody kills it.
probing() { # sets probe: a child of the daemon's that has become nothing else
	local p
	for p in $(cat "/proc/$DAEMON/task"/*/children 2>/dev/null); do
		[ "$(cat "/proc/$p/comm" 2>/dev/null)" != forkfs ] || { probe=$p; return; }
	done
	return 1
}
test_killed_while_it_probes() {
	local round probe=
	[ -w /dev/kvm ] || skip "no /dev/kvm"
	mkdir -p "$F"
	for ((round = 0; round < 10; round++)); do
		"$FORKFS_BUILD/fs/forkfs" -f -o "state=$S,vmm=null,uids=$UIDS,pool=0,pool_loaded=0" "$F" >>"$LOG" 2>&1 </dev/null &
		DAEMON=$!
		until_true 2 eval 'probing || daemon_gone' # it looks when the mount stands
		kill_daemon
		[ -z "$probe" ] || break
	done
	start # and clears up
	[ -n "$probe" ] || skip "it was never met at it"
	wait_for 10 eval '! kill -0 $probe 2>/dev/null' || kill -KILL "$probe"
}

# A snapshot of a few pages over a memory that no VM has any more: when the daemon dies, is told to keep, dies once more.
test_only_snapshots_left() {
	local before
	start -o mem_write=1
	with_snapshot
	command_is ok "$F/config/memory_backend" memfd-private
	mkdir "$F/a" "$F/b"
	put_at base 8192 "under it"
	ok mkdir "$F/base/snapshots/later"
	command_is ok "$F/a/restore" "$F/base/snapshots/later"
	put_at a 4096 "its own"
	ok mkdir "$F/a/snapshots/s"
	ok mkdir "$F/a/snapshots/t"
	wait_for 20 shot_in a s complete
	wait_for 20 shot_in a t complete
	before=$(cksum <"$F/a/mem")
	ok rmdir "$F/base"
	echo stopped >"$F/a/state"
	is "keepers" 1 "$(keepers)"
	again
	is "the snapshot" "$before" "$(cksum <"$F/a/snapshots/s/memory.bin")"
	again -o keep
	umount "$F"
	wait_for 20 daemon_gone
	start -o memory_backend=memfd-private
	is "keepers after a keep" 1 "$(keepers)"
	command_is ok "$F/b/restore" "$F/a/snapshots/s"
	is "what is under it" "under it" "$(read_at b 8192 8)"
	is "its own" "its own" "$(read_at b 4096 7)"
	ok rmdir "$F/a/snapshots/s"
	ok rmdir "$F/a"
	is "for its child" 1 "$(keepers)"
	ok rmdir "$F/b"
	wait_for 10 eval '[ "$(keepers)" = 0 ]'
}
keepers() { ls "$S/kept" | wc -l; }

# What was written into config/ is as it was; what the next daemon is told itself is the later word.
test_settings() {
	start -o forks_max=7,timeout=9000
	command_is ok "$F/config/memory_backend" memfd-private
	command_is ok "$F/config/forks_max" 9
	command_is ok "$F/config/timeout" 9500
	command_is EINVAL "$F/config/fill" never
	kill_daemon
	start -o forks_max=7,timeout=8000
	is "one that was written" memfd-private "$(cat "$F/config/memory_backend")"
	is "over an option that is the same" 9 "$(cat "$F/config/forks_max")"
	is "an option that is another one" 8000 "$(cat "$F/config/timeout")"
	is "one that was refused" auto "$(cat "$F/config/fill")"
	kill_daemon
	start -o forks_max=7,timeout=9000
	is "what was overruled once" 9000 "$(cat "$F/config/timeout")"
	kill_daemon
	printf 'nonsense' >"$S/config.json"
	expect_log 'settings of the former daemon are lost'
	start
	is "of settings that can't be read" memfd-shared "$(cat "$F/config/memory_backend")"
	stop
	start
	is "after an end that was one" memfd-shared "$(cat "$F/config/memory_backend")"
}

# What happened stays known, to whom it was; and it goes on.
test_events() {
	local before i
	start -o allow_other,events_max=40
	booted a
	another() { setpriv --reuid 12345 --regid 12345 --clear-groups "$@"; }
	chmod 0755 "$T"
	ok another mkdir "$F/of-another"
	ok mkdir "$F/removed"
	before=$(cat "$F/events")
	kill_daemon
	printf 'cut sho' >>"$S/events"
	for i in "$S"/forks/*/record.json; do ! grep -q '"id":"removed"' "$i" || mv "$i" "${i%record.json}removed.json"; done # as it is when the daemon dies on the way
	start -o allow_other,events_max=40
	is "events of before" "$before" "$(head -n "$(wc -l <<<"$before")" "$F/events")"
	like "the adoption" '"a","event":"adopted"' "$(tail -n +"$(($(wc -l <<<"$before") + 1))" "$F/events")"
	like "a removal under way" '"removed","event":"gone"' "$(cat "$F/events")"
	is "what another one sees" 1 "$(another cat "$F/events" | wc -l)"
	again -o allow_other,events_max=40
	like "what followed the line that was cut short" '"removed","event":"gone"' "$(cat "$F/events")"
	for ((i = 0; i < 60; i++)); do ok mkdir "$F/x"; ok rmdir "$F/x"; done
	wait_for 10 eval '! grep -q "\"x\"" <(ls "$F")'
	before=$(tail -n 10 "$F/events")
	again -o allow_other,events_max=40
	like "the last ones" . "$before"
	grep -qF -- "$(tail -n 1 <<<"$before")" "$F/events" || bad "the last events are not there any more"
	[ "$(wc -l <"$F/events")" -le 40 ] || bad "$(wc -l <"$F/events") are kept"
	[ "$(cat "$S"/events* | wc -l)" -le 80 ] || bad "$(cat "$S"/events* | wc -l) lines are kept"
}
