# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The states of a fork, and waiting for them.

test_states() {
	start
	mkdir "$F/a"
	state_is a empty
	command_is EBUSY "$F/a/state" paused
	like "error" . "$(error_of a)"
	description
	command_is ok "$F/a/boot" "$T/vm/base.json"
	state_is a running
	command_is ok "$F/a/state" running
	command_is ok "$F/a/state" paused
	command_is ok "$F/a/state" paused
	state_is a paused
	is "State" paused "$(status_of a State)"
	command_is ok "$F/a/state" running
	local word pid
	for word in empty restoring exited failed RUNNING run "paused now"; do command_is EINVAL "$F/a/state" "$word"; done
	state_is a running
	pid=$(status_of a Pid)
	command_is ok "$F/a/state" stopped
	wait_for 10 in_state a exited
	wait_for 10 eval "! kill -0 $pid"
	like "Exit" . "$(status_of a Exit)"
	is "Pid when there is none" "" "$(status_of a Pid)"
	command_is EBUSY "$F/a/state" running
	command_is ok "$F/a/boot" "$T/vm/base.json"
	state_is a running
}

test_killed() {
	start
	booted a
	expect_log .
	kill -KILL "$(status_of a Pid)"
	wait_for 10 eval 'case "$(state_of a)" in failed|exited) true ;; *) false ;; esac'
	like "Exit" 'signal 9|[Kk]illed' "$(status_of a Exit)"
	like "error" . "$(error_of a)"
	like "typing" '^(EBUSY|EIO|EPIPE)$' "$(poke "$F/a/console" 'hello\n')"
	command_is ok "$F/a/boot" "$T/vm/base.json"
	state_is a running
	ok rmdir "$F/a"
}

# A stopped process that doesn't answer delays nobody.
test_stuck() {
	start
	booted a
	booted b
	local pid
	pid=$(status_of a Pid)
	kill -STOP "$pid"
	ok ls -lR "$F"
	ok cat "$F/a/status" "$F/a/maps"
	command_is ok "$F/b/state" paused
	ok soon rmdir "$F/a"
	no stat "$F/a"
	wait_for 10 eval "! kill -0 $pid"
}

# In the background: what the wait answered is in $T/NAME.
waiting() { # NAME FORK WORD [OPTION OF put]
	printf '%s\n' "$3" | "$TOOLS/put" ${4-} "$F/$2/wait" >"$T/$1" &
	waiter=$!
	wait_for 10 blocked "$waiter"
}
# The process sleeps in a write(2).
blocked() { grep -q '^1 ' "/proc/$1/syscall"; }
answered() { # NAME EXPECTED
	wait_for 10 test -s "$T/$1" && is "the wait" "$2" "$(cat "$T/$1")"
}

test_wait() {
	start
	booted a
	local waiter
	is "is already" ok "$(poke "$F/a/wait" 'running\n')"
	command_is EINVAL "$F/a/wait" "nonsense"
	waiting w1 a paused
	waiting w2 a paused
	waiting w3 a exited
	ok ls -lR "$F"
	command_is ok "$F/a/state" paused
	answered w1 ok
	answered w2 ok
	is "the other still waits" "" "$(cat "$T/w3")"
	command_is ok "$F/a/state" running
	waiting w4 a paused
	command_is ok "$F/a/state" stopped
	answered w3 ok
	answered w4 EIO
	like "error" . "$(error_of a)"
}

test_wait_removed() {
	start
	booted a
	local waiter
	waiting w1 a paused
	waiting w2 a exited
	ok rmdir "$F/a"
	answered w1 EIO
	wait_for 10 test -s "$T/w2"
	like "waiting for the end of what is removed" '^(ok|EIO)$' "$(cat "$T/w2")"
}

# ^C ends a wait, the end of a child doesn't, a killed writer is gone at once.
test_wait_signals() {
	start
	booted a
	local waiter
	waiting int a paused -i
	kill -INT "$waiter"
	answered int EINTR
	waiting child a paused -c
	waiting term a paused
	kill -TERM "$waiter"
	wait_for 10 eval "! kill -0 $waiter"
	waiting kill a paused
	kill -KILL "$waiter"
	wait_for 10 eval "! kill -0 $waiter"
	is "has had a SIGCHLD, waits" "" "$(cat "$T/child")"
	command_is ok "$F/a/state" paused
	answered child ok
	ok timeout 1 true
	# As a shell sees it.
	command_is ok "$F/a/state" running
	timeout -s INT 1 bash -c 'echo paused > "$1/a/wait"' bash "$F" 2>/dev/null
	is "timeout's status" 124 "$?"
	state_is a running
}

# A conversation: the state now, then each change.
test_state_conversation() {
	start
	booted a
	"$TOOLS/ask" -m 15000 "$F/a/state" >"$T/seen" &
	local pid=$!
	wait_for 10 grep -q running "$T/seen"
	command_is ok "$F/a/state" paused
	wait_for 10 grep -q paused "$T/seen"
	command_is ok "$F/a/state" running
	command_is ok "$F/a/state" stopped
	wait_for 10 grep -q exited "$T/seen"
	is "all of it" "running paused running exited" "$(xargs <"$T/seen")"
	kill "$pid" 2>/dev/null
	is "nothing new" "running
read EAGAIN" "$(booted b; soon "$TOOLS/ask" -n "$F/b/state")"
}

test_wait_conversation() {
	start
	booted a
	booted b
	"$TOOLS/ask" "$F/a/wait" >"$T/end" &
	"$TOOLS/ask" "$F/b/wait" paused >"$T/paused" &
	local reader
	exec 5<>"$F/a/wait"
	command_is ok "$F/b/state" paused
	wait_for 10 grep -q paused "$T/paused"
	command_is ok "$F/a/state" stopped
	wait_for 10 test -s "$T/end"
	like "how it ended" . "$(cat "$T/end")"
	ok soon head -n 1 <&5
	exec 5<&-
	is "reading it read-only doesn't wait" 0 "$(soon cat "$F/b/wait" >/dev/null; echo $?)"
}
