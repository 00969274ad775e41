# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# events, metrics, doctor.

test_events() {
	start
	with_snapshot
	mkdir "$F/a"
	poke "$F/a/restore" "$T/missing\n" >/dev/null
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	echo paused >"$F/a/state"
	mv "$F/a" "$F/c"
	rmdir "$F/c"
	wait_for 10 eval '[ "$(vmms | wc -l)" = 1 ]'
	ok jq -e . "$F/events"
	is "lines" "$(wc -l <"$F/events")" "$(jq -c . "$F/events" | wc -l)"
	local seen
	seen=$(cat "$F/events")
	local word
	for word in '"base"' '"a"' '"c"' running paused failed ready; do like "events" "$word" "$seen"; done
	like "the failure's sentence" "$T/missing" "$seen"
	is "a time each" "$(wc -l <"$F/events")" "$(grep -cE '20[0-9]{2}-[0-9]{2}-[0-9]{2}T' "$F/events")"
	"$TOOLS/ask" -m 10000 "$F/events" >"$T/seen" &
	local pid=$!
	wait_for 10 eval 'grep -q "^0 " /proc/'"$pid"'/syscall'
	mkdir "$F/d"
	wait_for 10 grep -q '"d"' "$T/seen"
	is "only what came after" 0 "$(grep -c '"base"' "$T/seen")"
	kill "$pid"
}

test_events_max() {
	start -o events_max=20
	local i
	for i in {1..60}; do mkdir "$F/f$i"; rmdir "$F/f$i"; done
	[ "$(wc -l <"$F/events")" -le 20 ] || bad "$(wc -l <"$F/events") events are kept"
	like "the last one" f60 "$(cat "$F/events")"
	ok jq -e . "$F/events"
}

test_metrics() {
	start
	with_snapshot
	command_is ok "$F/restore" "$F/base/snapshots/ready 3 w-"
	poke "$F/w-0/restore" "$T/missing\n" >/dev/null
	cat "$F/metrics" >"$T/metrics"
	like "metrics" 'forkfs_.*running.* 4$' "$(cat "$T/metrics")"
	is "lines of another form" "" "$(grep -vE '^(# (HELP|TYPE) [a-zA-Z_:][a-zA-Z0-9_:]* .+|[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? +[-+0-9.eInfNa]+)$' "$T/metrics")"
	if [ -x "$CACHE/promtool" ]; then
		is "promtool" "" "$("$CACHE/promtool" check metrics <"$T/metrics" 2>&1)"
	fi
}

test_promtool() {
	[ -x "$CACHE/promtool" ] || skip "promtool could not be fetched"
	start
	is "promtool" "" "$("$CACHE/promtool" check metrics <"$F/metrics" 2>&1)"
}

test_doctor() {
	start
	is "lines of another form" "" "$(grep -vE '^(ok|warn|fail) +[^ ]+ +.+' "$F/doctor")"
	[ "$(wc -l <"$F/doctor")" -ge 3 ] || bad "only $(wc -l <"$F/doctor") lines"
	like "doctor" kvm "$(cat "$F/doctor")"
	like "doctor" qemu "$(cat "$F/doctor")"
}
