# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The daemon is killed at random moments of restores, fan-outs, snapshots and removals, KILL_ROUNDS times (6). Each time the next one has to have every fork that anybody was told of, none that
# was removed, nothing besides, and guests with every byte right.
. tests/guest/common.bash

say_in() { printf '%s\n' "$2" >>"$T/$1"; }
told() { grep -qx -- "$2" "$T/$1" 2>/dev/null; }

# What goes on when the daemon is killed; each ends with it. They note what they are about to do, and what they were told.
one_restore() { # ID SNAPSHOT [BACKEND]
	mkdir "$F/$1" 2>/dev/null || return
	say_in made "$1"
	[ -z "${3-}" ] || echo "$3" >"$F/$1/config/memory_backend" || return
	[ "$("$TOOLS/put" "$F/$1/restore" <<<"$2")" = ok ] || return
	say_in running "$1"
}

restores() {
	local n
	for ((n = 0; ; n++)); do one_restore "r$1-$n" "$READY" || return; done
}

fan_outs() {
	local n p
	for ((n = 0; ; n++)); do
		p=f$1-$n-
		say_in begun "$p"
		[ "$("$TOOLS/put" "$F/restore" <<<"$F/base/snapshots/s 3 $p")" = ok ] || return
		say_in running "${p}0"; say_in running "${p}1"; say_in running "${p}2"
	done
}

snapshots() {
	local n
	for ((n = 0; ; n++)); do
		mkdir "$F/base/snapshots/x$1-$n" 2>/dev/null || return
		say_in shot "x$1-$n"
	done
}

# A running fork is branched, and goes before its snapshot can be complete. What comes of it keeps what it needs of that.
branches() {
	local n id
	for ((n = 0; ; n++)); do
		id=b$1-$n
		if [ $((n % 2)) = 0 ]; then one_restore "$id" "$READY"; else one_restore "$id" "$READY" memfd-private; fi || return
		mkdir "$F/$id/snapshots/s" 2>/dev/null && one_restore "c$id" "$F/$id/snapshots/s" || return
		removals "$id"
	done
}

removals() {
	local id
	for id in "$@"; do
		say_in removing "$id"
		rmdir "$F/$id" 2>/dev/null || return
		say_in removed "$id"
	done
}

# Processes that are neither a fork's VM nor wait for one.
strays() { comm -23 <(vmms | sort) <({ cat "$F"/*/status 2>/dev/null | sed -n 's/^Pid:[[:space:]]*//p'; pgrep -P "$DAEMON"; } | sort); }

check_forks() {
	local id p n
	while read -r id; do
		told removing "$id" || state_is "$id" running
	done <"$T/running"
	while read -r id; do
		[ ! -e "$F/$id" ] || bad "$id was removed and is there"
	done <"$T/removed"
	while read -r id; do
		told removing "$id" || [ -d "$F/$id" ] || bad "$id was made and is gone"
	done <"$T/made"
	while read -r p; do
		n=$(ls -d "$F/$p"? 2>/dev/null | wc -l)
		[ "$n" = 3 ] || [ "$n" = 0 ] || grep -q "^$p" "$T/removing" || bad "$n of three of $p"
	done <"$T/begun"
	while read -r id; do
		shot_in base "$id" complete || bad "snapshot $id: $(cat "$F/base/snapshots/$id/state" 2>&1)"
	done <"$T/shot"
	wait_for 20 eval '[ -z "$(strays)" ]' || bad "strays: $(ps -o pid,ppid,stat,args -p "$(strays | tr '\n' ',' | sed 's/,$//')")"
}

sums() { # FORK
	local before
	before=$(grep -caE '^sum (ok|BAD)' "$F/$1/console")
	answers() { [ "$(grep -caE '^sum (ok|BAD)' "$F/$1/console")" -gt "$before" ]; }
	is "typing into $1" ok "$(printf 'check\n' | soon "$TOOLS/put" "$F/$1/console")"
	wait_for 60 answers "$1" || bad "console: $(tail -n 2 "$F/$1/console"), state $(state_of "$1")"
	summed=$((summed + 1))
	like "memory of $1" '^sum ok' "$(grep -aE '^sum (ok|BAD)' "$F/$1/console" | tail -n 1 | tr -d '\r')"
}

ids() { (cd "$F" && ls -d [rfbc]*-*/ 2>/dev/null | tr -d /); }

kill_round() {
	local i=$1 victims id
	: >"$T/made"; : >"$T/running"; : >"$T/begun"; : >"$T/shot"; : >"$T/removing"; : >"$T/removed"
	victims=$(ids | shuf -n 4 | tr '\n' ' ')
	restores "$i" & fan_outs "$i" & snapshots "$i" & branches "$i" &
	# shellcheck disable=SC2086
	removals $victims &
	sleep "0.$((RANDOM % 9))$((RANDOM % 10))"
	kill -KILL "$DAEMON"
	wait
	DAEMON=
	start -o fill=ondemand
	check_forks
	sums base
	for id in $(ids | shuf -n 2); do in_state "$id" running && sums "$id"; done
	told_forks=$((told_forks + $(wc -l <"$T/running"))) told_shots=$((told_shots + $(wc -l <"$T/shot"))) told_removals=$((told_removals + $(wc -l <"$T/removed")))
	for id in $(ids | shuf | tail -n +7); do ok rmdir "$F/$id"; done
	rmdir "$F"/base/snapshots/x* 2>/dev/null
}

test_killed() {
	local i told_forks=0 told_shots=0 told_removals=0 summed=0
	expect_log 'is dropped|the mount of a daemon that died is cleared|can.t be kept waiting'
	POOL=2 LOADED=1 start -o fill=ondemand
	ready sum || return
	child base "$READY"
	ok mkdir "$F/base/snapshots/s"
	for ((i = 0; i < ${KILL_ROUNDS:-6}; i++)); do
		POOL=$((i % 2 * 2)) LOADED=$((i % 2)) kill_round "$i"
		[ "$failures" = 0 ] || { echo "round $i"; break; }
	done
	printf '%s rounds, %s forks and %s snapshots acknowledged, %s removals, %s guests that added up, %s failures\n' "$i" "$told_forks" "$told_shots" "$told_removals" "$summed" "$failures" |
		tee -a "${FIGURES:-/dev/null}"
}
