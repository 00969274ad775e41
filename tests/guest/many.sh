# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Many guests at once, and what several users do to them: MANY of them, or SOAK seconds, where tests/soak says so.
. tests/guest/common.bash

note() { printf '%s\n' "$*" | tee -a "${FIGURES:-/dev/null}"; }
running() { cat "$F"/m[0-9]*/state | grep -c running; }

# As many as there is memory for, by what one takes under TCG.
test_forks() {
	local free count=${MANY:-8} began n
	expect_log 'waited|kept waiting|pool'
	POOL=0 start -o memory_backend=memfd-private,timeout=600000
	ready count || return
	free=$(awk '/^MemAvailable/ { print int($2 / 1024 * 0.7 / 40) }' /proc/meminfo)
	[ "$count" -le "$free" ] || count=$free
	began=$(date +%s)
	is "restore of $count" ok "$(printf '%s\n' "$READY $count m" | timeout 900 "$TOOLS/put" "$F/restore")"
	is "running" "$count" "$(running)"
	note "$count forks under QEMU run after $(($(date +%s) - began)) s"
	is "VMMs" "$count" "$(vmms | wc -l)"
	for n in 0 $((count / 2)) $((count - 1)); do
		wait_for 300 ticks_past "m$n" "$(ticks "m$n")"
	done
	ok soon ls "$F"
	is "still running" "$count" "$(running)"
	note "$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo) MiB are available beside them"
	timeout 600 rmdir "$F"/m[0-9]* || bad "rmdir: status $?"
	wait_for 300 eval '[ -z "$(vmms)" ]'
}

test_users() {
	expect_log 'waited|kept waiting'
	POOL=1 start -o "allow_other,mem_write=1,templates_max=0,events_max=500,timeout=120000"
	ready count || return
	cp -r --sparse=always "$READY" "$T/snap"
	chmod -R a+rX "$T/snap"
	SEED=${SEED:-$RANDOM}
	MARKS=no timeout $((${SOAK:-15} + 200)) "$TOOLS/users" "$F" "${SOAK:-15}" "$SEED" 2 "$T/snap" >"$T/users" || bad "users: status $?"
	! grep '^bad' "$T/users" >"$T/findings" || bad "SEED=$SEED: $(head -n 20 "$T/findings")"
	note "$(cat "$T/users")"
	command_is ok "$F/config/pool" 0
	command_is ok "$F/config/pool_loaded" 0
	wait_for 60 eval '[ -z "$(vmms)" ] && [ -z "$(ls "$F" | grep ^u)" ]'
}
