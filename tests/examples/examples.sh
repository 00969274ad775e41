# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The examples do what they say.
. tests/guest/common.bash

example() { local name=$1; shift; FORKS=$F timeout 120 "$ROOT/examples/$name" "$@"; }

test_usual_things() {
	start
	"$ROOT/examples/make-guest" "$T/vm" >/dev/null || { bad make-guest; return; }
	example watch-events 3 >"$T/events" 2>&1 &
	wait_for 10 eval 'pgrep -f "examples/watch-events 3"'
	like "boot" '^tick 3' "$(example boot base "$T/vm/base.json" '^tick 3' 2>&1)"
	local said
	said=$(example fork base a b 2>&1) || bad "fork: $said"
	like "fork" '^a: running, *[0-9.]+ ms' "$said"
	like "fork" '^b: running' "$said"
	local s
	s=$(ls "$F/base/snapshots")
	said=$(example keep-snapshot "$F/base/snapshots/$s" "$T/kept" 2>&1) || bad "keep-snapshot: $said"
	is "fan-out" "w-0 w-1" "$(example fan-out "$T/kept" 2 w- 2>&1 | xargs)"
	state_is w-1 running
	wait_for 60 ticks_past w-1 3
	said=$(example fan-out "$T/nothing" 2 w- 2>&1) && bad "fan-out of what isn't there"
	like "its sentence" "$T/nothing" "$said"
	said=$(example boot base "$T/vm/base.json" 2>&1) && bad "boot of what is there"
	wait_for 10 eval '[ "$(wc -l <"$T/events")" = 3 ]'
	ok jq -e . "$T/events"
	for s in boot fork fan-out keep-snapshot; do
		said=$(example "$s" 2>&1); is "usage of $s" 2 $?
		like "usage of $s" "^usage: .*examples/$s" "$said"
	done
}

# Forks that draw random numbers of their own.
test_reseed() {
	local n said
	start
	"$ROOT/examples/make-guest" --reseed "$T/vm" >/dev/null || { bad make-guest; return; }
	example boot base "$T/vm/base.json" '^tick 3' >/dev/null
	example fork base a b c >/dev/null
	said=$(example reseed a b c 2>&1)
	is "reseed" "a: reseeded b: reseeded c: reseeded" "$(xargs <<<"$said")"
	for n in a b c; do
		printf 'quiet; od -An -v -tx1 -N16 /dev/urandom | sed "s/^/drawn/"\n' >"$F/$n/console"
		wait_for 30 grep -q '^drawn' "$F/$n/console"
	done
	is "what was drawn" 3 "$(cat "$F"/[abc]/console | tr -d '\r' | grep -aE '^drawn( [0-9a-f]{2}){16}$' | sort -u | wc -l)"
	said=$(example reseed 2>&1); is "usage" 2 $?
}

# twice, so that what the first one leaves would show
test_quickstart() {
	local i
	mkdir "$T/tmp" "$T/here"
	for i in 1 2; do
		TMPDIR=$T/tmp timeout 250 "$ROOT/examples/quickstart" >"$T/said" 2>&1 || { bad "status $?: $(tail -n 20 "$T/said")"; return; }
		like "quickstart" 'rw-s .*memfd:forkfs:' "$(cat "$T/said")"
		like "quickstart" '^running$' "$(cat "$T/said")"
		like "quickstart" '^RestoreTime:' "$(cat "$T/said")"
		like "quickstart" '^Linux ' "$(cat "$T/said")"
		is "left in TMPDIR" "" "$(ls "$T/tmp")"
	done
}

# ^C in the middle, on a directory of the user's.
test_quickstart_interrupted() {
	mkdir "$T/tmp" "$T/here"
	TMPDIR=$T/tmp env --default-signal=INT setsid "$ROOT/examples/quickstart" "$T/here" >"$T/said" 2>&1 &
	local pid=$!
	wait_for 200 grep -q 'forking three' "$T/said"
	kill -INT -- "-$pid"
	wait_for 60 eval "! kill -0 $pid"
	is "left in TMPDIR" "" "$(ls "$T/tmp")"
	is "the directory" "" "$(ls "$T/here")"
	no mountpoint -q "$T/here"
	is "processes" "" "$(pgrep -f "$T/here")"
}

# From a copy of what is under version control, with a build folder of its own: nothing that only this work tree has is needed.
test_fresh_clone() {
	git -C "$ROOT" rev-parse >/dev/null 2>&1 || skip "not a git work tree"
	mkdir "$T/clone" "$T/tmp"
	git -C "$ROOT" ls-files -co --exclude-standard -z | (cd "$ROOT" && xargs -0 sh -c 'for f; do [ ! -e "$f" ] || printf "%s\0" "$f"; done' sh) |
		tar -C "$ROOT" --null -T - -cf - | tar -C "$T/clone" -xf -
	TMPDIR=$T/tmp BUILD='' CACHE=$CACHE timeout 280 "$T/clone/examples/quickstart" >"$T/said" 2>&1 || bad "status $?: $(tail -n 20 "$T/said")"
	like "quickstart" 'rw-s .*memfd:forkfs:' "$(cat "$T/said")"
	is "left in TMPDIR" "" "$(ls "$T/tmp")"
	is "new in the clone" "build" "$(cd "$T/clone" && ls | grep -vxF -f <(git -C "$ROOT" ls-files -co --exclude-standard | cut -d/ -f1 | sort -u))"
}

# Twenty forks of a Python that has numpy loaded: each answers what it was asked, as the example computes it, and sooner than one that loads it first.
test_python_fanout() {
	local said warm cold
	mkdir "$T/tmp"
	TMPDIR=$T/tmp timeout 280 "$ROOT/examples/python-fanout" >"$T/said" 2>&1 || bad "status $?: $(tail -n 20 "$T/said")"
	said=$(cat "$T/said")
	is "right answers" 20 "$(grep -cE '^py-[0-9]+ .* = [0-9]+, right$' "$T/said")"
	is "forks that were asked" 20 "$(sed -n 's/^\(py-[0-9]\+\) .*/\1/p' "$T/said" | sort -u | wc -l)"
	is "pieces of code" 20 "$(sed -n 's/^py-[0-9]\+ \+[0-9]\+ \+[0-9]\+ *\(.*\) = .*/\1/p' "$T/said" | sort -u | wc -l)"
	# one that is known by heart: Gauss's sum, of 1 to 1000
	like "an answer" ' numpy.arange\(1001\).sum\(\) = 500500, right$' "$said"
	like "the sum" '^== 20 of 20 answers are right$' "$said"
	warm=$(sed -n 's/^warm: \([0-9]\+\) ms .*/\1/p' "$T/said") cold=$(sed -n 's/^cold: \([0-9]\+\) ms .*/\1/p' "$T/said")
	[ "${warm:-0}" -gt 0 ] && [ "$warm" -lt "${cold:-0}" ] || bad "warm takes $warm ms, cold $cold ms"
	is "left in TMPDIR" "" "$(ls "$T/tmp")"
	is "usage" 2 "$("$ROOT/examples/python-fanout" too many >/dev/null 2>&1; echo $?)"
}
