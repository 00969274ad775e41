# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A file opened for reading and writing waits for what comes; opened for reading it shows what is there. poll(2) sees both grow.

test_console() {
	start
	booted a
	echo before >"$F/a/console"
	wait_for 10 grep -q before "$F/a/console"
	"$TOOLS/ask" -m 15000 "$F/a/console" >"$T/follow" &
	local pid=$!
	wait_for 10 in_a_read "$pid"
	echo after >"$F/a/console"
	wait_for 10 grep -q after "$T/follow"
	is "what was before the open" 0 "$(grep -c before "$T/follow")"
	kill "$pid"
	is "the record" "before after" "$(tr -d '\r' <"$F/a/console" | xargs)"
	is "without waiting" "read EAGAIN" "$(soon "$TOOLS/ask" -n "$F/a/console")"
	# Typing into the console of what isn't running.
	mkdir "$F/b"
	command_is EBUSY "$F/b/console" hello
	is "an empty record" 0 "$(soon cat "$F/b/console" | wc -c)"
}
in_a_read() { grep -q '^0 ' /proc/"$1"/syscall; }

# Bytes that are no command: the console takes them all, in any number, as they are.
test_console_bytes() {
	start -o console_max=1048576
	booted a
	is "no newline" ok "$(poke "$F/a/console" 'abc')"
	is "two lines" ok "$(poke "$F/a/console" 'd\ne\n')"
	is "a long one" ok "$(head -c 100000 /dev/zero | tr '\0' x | soon "$TOOLS/put" "$F/a/console")"
	wait_for 10 eval '[ "$(tr -cd x <"$F/a/console" | wc -c)" = 100000 ]'
	like "the beginning" '^abcd' "$(head -c 4 "$F/a/console")"
}

test_console_max() {
	start -o console_max=4096
	booted a
	local i
	for i in {1..40}; do printf 'line %s %0400d\n' "$i" 0 >"$F/a/console" 2>/dev/null || bad "typing"; done
	wait_for 10 grep -q 'line 40' "$F/a/console"
	[ "$(wc -c <"$F/a/console")" -le 4096 ] || bad "$(wc -c <"$F/a/console") bytes are kept"
	[ "$(wc -c <"$F/a/console")" -ge 1024 ] || bad "only $(wc -c <"$F/a/console") bytes are kept"
	no grep -q 'line 1 ' "$F/a/console"
	# Without trouble for one who follows.
	timeout 20 tail -n +1 -f "$F/a/console" >"$T/tail" 2>/dev/null &
	local pid=$!
	wait_for 10 grep -q 'line 40' "$T/tail"
	for i in {41..80}; do printf 'line %s %0400d\n' "$i" 0 >"$F/a/console"; done
	wait_for 10 grep -q 'line 80' "$T/tail"
	kill "$pid"
}

test_beside() {
	start
	booted a
	is "a write beside a waiting read" "hello
write ok" "$(soon "$TOOLS/beside" "$F/a/console" hello | tr -d '\r' | sort)"
}

# One byte at a time, as a shell's read does.
test_shell() {
	start
	booted a
	local line
	exec 5<>"$F/a/console"
	echo first >&5
	read -r -t 10 line <&5 || bad "nothing came"
	is "a line" first "${line%$'\r'}"
	printf 'second\nthird\n' >&5
	read -r -t 10 line <&5; is "a line" second "${line%$'\r'}"
	read -r -t 10 line <&5; is "a line" third "${line%$'\r'}"
	exec 5<&-
	exec 6<>"$F/events"
	mkdir "$F/c"
	read -r -t 10 line <&6 || bad "no event came"
	like "an event" '"c"' "$line"
	exec 6<&-
	echo socat | soon socat -t 2 -T 2 - "OPEN:$F/a/console,rdwr" >"$T/socat"
	like "socat" socat "$(cat "$T/socat")"
}

test_poll() {
	start
	booted a
	local what
	watched() { # NAME WATCH'S ARGUMENTS...
		local name=$1; shift
		"$TOOLS/watch" "$@" 15000 >"$T/$name" &
		wait_for 10 grep -q watching "$T/$name"
	}
	watched console "$F/a/console"
	watched talk -w "$F/a/console"
	watched events "$F/events"
	watched events_talk -w "$F/events"
	watched state_talk -w "$F/a/state"
	echo ping >"$F/a/console"
	for what in console talk; do
		wait_for 10 grep -q grew "$T/$what"
		like "$what" ping "$(cat "$T/$what")"
	done
	echo paused >"$F/a/state"
	for what in events events_talk state_talk; do
		wait_for 10 grep -q grew "$T/$what"
		like "$what" paused "$(cat "$T/$what")"
	done
	is "nothing happens" "nothing" "$("$TOOLS/watch" "$F/a/console" 500 | tail -n 1)"
	is "nothing happens" "nothing" "$("$TOOLS/watch" -w "$F/events" 500 | tail -n 1)"
}

test_tail() {
	start
	booted a
	timeout 20 tail -f "$F/a/console" >"$T/tail" 2>"$T/tail.err" &
	local pid=$!
	echo one >"$F/a/console"
	wait_for 10 grep -q one "$T/tail"
	echo two >"$F/a/console"
	wait_for 10 grep -q two "$T/tail"
	kill "$pid"
	is "tail's complaints" "" "$(cat "$T/tail.err")"
}

# The rest answers beside any number of waiting readers.
test_crowd() {
	start
	booted a
	soon "$TOOLS/crowd" "$F/events" 500 "$F" >"$T/crowd" 2>"$T/crowd.ms"
	like "all wait" '^500 waiting, 0 failed' "$(cat "$T/crowd")"
	like "a listing beside them" '^listed 9$' "$(cat "$T/crowd")"
	soon "$TOOLS/crowd" "$F/a/console" 200 "$F/a" >"$T/crowd2" 2>/dev/null
	like "all wait" '^200 waiting, 0 failed' "$(cat "$T/crowd2")"
	ok ls -lR "$F"
	echo still >"$F/a/console"
	wait_for 10 grep -q still "$F/a/console"
}

# Writers that wait don't wait for each other, and a hundred of them leave the rest responsive.
test_many_writers() {
	start
	booted a
	local i
	for i in {1..100}; do "$TOOLS/put" "$F/a/wait" <<<paused >"$T/w$i" & done
	wait_for 20 eval '[ "$(cat /proc/[0-9]*/syscall 2>/dev/null | grep -c "^1 ")" -ge 100 ]'
	ok ls -lR "$F"
	command_is ok "$F/a/state" paused
	wait_for 20 eval '[ "$(cat "$T"/w[0-9]* | grep -c ok)" = 100 ]'
}

# Conversations that are left open hold nothing up: not rmdir, not the daemon's end.
test_left_open() {
	start
	booted a
	exec 5<>"$F/a/console" 6<>"$F/events"
	"$TOOLS/ask" "$F/a/console" >/dev/null &
	"$TOOLS/ask" "$F/a/wait" >/dev/null &
	"$TOOLS/ask" "$F/events" >/dev/null &
	ok rmdir "$F/a"
	wait_for 10 eval '[ -z "$(vmms)" ]'
	booted a
	kill %2 %3 %4 2>/dev/null
	exec 5<&- 6<&-
	"$TOOLS/ask" "$F/a/console" >/dev/null &
	stop TERM
}
