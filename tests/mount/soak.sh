# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Several users do what comes to their minds (tests/tools/users.c), beside each other, with forks of the null driver and of what speaks as QEMU (or of GUEST, a snapshot of a real
# one). What was acknowledged holds, and afterwards the daemon has what it had before. SOAK seconds: tests/soak takes half an hour.

descriptors() { find "/proc/$DAEMON/fd" -mindepth 1 -printf '%l\n' | grep -vE 'vmstate|/snap-|^/$' | sed 's/[0-9]\+/N/g' | sort | uniq -c; }
resident() { sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$DAEMON/status"; }

# copied DRIVER: $T/snap-DRIVER, for everybody
copied() {
	[ -e "$T/vm/base.json" ] || description
	mkdir "$F/base"
	command_is ok "$F/base/config/vmm" "$1"
	command_is ok "$F/base/boot" "$T/vm/base.json"
	ok mkdir "$F/base/snapshots/s"
	wait_for 10 shot_in base s complete
	ok cp -r --sparse=always "$F/base/snapshots/s" "$T/snap-$1"
	chmod -R a+rX "$T/snap-$1"
	ok rmdir "$F/base"
}

# As much as they need for the first time is there, and nothing that goes.
rested() { wait_for 30 eval '[ -z "$(vmms)" ] && [ -z "$(ls "$F" | grep ^u)" ] && [ -z "$(ls "$S/forks")" ]'; }
round() { timeout $(($1 + 60)) "$TOOLS/users" "$F" "$1" "$SEED" "${USERS:-5}" "${snapshots[@]}" >"$T/users" || bad "users: status $?"; }

test_users() {
	local before snapshots=("$T/snap-null" "$T/snap-qemu")
	SEED=${SEED:-$((RANDOM))}
	cp "$TOOLS/standin_qemu" "$T/"
	expect_log 'waited|kept waiting'
	ASAN_OPTIONS=$ASAN_OPTIONS:quarantine_size_mb=8 start -o "allow_other,mem_write=1,templates_max=0,events_max=500,timeout=60000,qemu=$T/standin_qemu"
	copied null
	copied qemu
	[ -z "${GUEST-}" ] || snapshots=("$GUEST")
	command_is ok "$F/config/vmm" auto
	round "${WARM:-4}"
	rested
	descriptors >"$T/before"
	before=$(resident)
	round "${SOAK:-16}"
	! grep '^bad' "$T/users" >"$T/findings" || bad "SEED=$SEED: $(head -n 20 "$T/findings")"
	rested
	until_true 20 eval 'descriptors | cmp -s - "$T/before"' || is "what the daemon has open" "$(cat "$T/before")" "$(descriptors)"
	[ "$(resident)" -le $((before + 65536)) ] || bad "VmRSS was $before kB and is $(resident) kB"
	is "snapshots in memory" "" "$(find /dev/shm -path "/dev/shm/forkfs-$(basename "$S")*" -mindepth 2)"
	{
		cat "$T/users"
		printf 'VmRSS %s kB before, %s kB after; %s descriptors before, %s after\n' "$before" "$(resident)" "$(awk '{ n += $1 } END { print n }' "$T/before")" "$(descriptors | awk '{ n += $1 } END { print n }')"
	} | tee -a "${FIGURES:-/dev/null}"
}
