# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The n-th call of the daemon's fails, of allocations or of system calls, in a restore and what follows it up to the end of its rmdir: tests/tools/faults.c, fault_rounds.c. Each time the
# daemon lives, the write has failed or not, nothing is left, and the next restore works. Here one of STEP is tried, and another one each day; tests/soak takes all.

STEP=${STEP:-20}
FIRST=$((STEP == 1 ? 1 : 1 + $(date +%s) / 86400 % STEP))

# A daemon with the counter preloaded, of a build without a sanitizer, which would come before it. Memory that was freed is filled, so that who uses it falls.
restart() {
	stop
	LD_PRELOAD=$TOOLS/faults.so FORKFS_FAULTS=$T/faults MALLOC_PERTURB_=165 POOL=${POOL-0} LOADED=${POOL:+1} start -o "templates_max=0,timeout=3000,$1"
}

# rounds OPTIONS: of both kinds
rounds() {
	local kind
	for kind in memory calls; do
		restart "$1"
		timeout 600 "$TOOLS/fault_rounds" "$F" "$T/snap" "$T/faults" "$DAEMON" "$UID_FIRST" $kind "$FIRST" "$STEP" 100000 "$S/forks" >"$T/rounds" || bad "fault_rounds: status $?"
		! grep -q '^bad' "$T/rounds" || bad "$1: $(grep '^bad' "$T/rounds" | head -n 20)"
		like "$1" '^[0-9]+ [a-z]+ failed, .* ok' "$(tail -n 1 "$T/rounds")"
		printf '%s: %s\n' "$1" "$(tail -n 1 "$T/rounds")" | tee -a "${FIGURES:-/dev/null}"
	done
}

# begin OPTIONS: a snapshot in $T/snap
begin() {
	FORKFS_BUILD=$BUILD TOOLS=$BUILD/tests/tools
	expect_log . # there is much to be warned of
	truncate -s 4096 "$T/faults"
	start "$@"
	with_snapshot || return
	ok cp -r --sparse=always "$F/base/snapshots/ready" "$T/snap"
}

test_shared() {
	begin || return
	rounds fill=auto
	[ "$STEP" != 1 ] || rounds fill=eager
}

test_private() {
	begin || return
	rounds memory_backend=memfd-private
	[ "$STEP" != 1 ] || rounds memory_backend=file
}

test_pooled() {
	POOL=0 begin || return
	POOL=2
	rounds fill=auto
	command_is ok "$F/config/pool" 0
	command_is ok "$F/config/pool_loaded" 0
	wait_for 10 eval '[ -z "$(vmms)" ]'
}

# What speaks as QEMU, and as Firecracker: the drivers are the same.
test_qemu() {
	cp "$BUILD/tests/tools/standin_qemu" "$T/"
	VMM=qemu
	begin -o "qemu=$T/standin_qemu" || return
	rounds "qemu=$T/standin_qemu"
}

test_firecracker() {
	export FORKFS_KVM_MIPS=1000
	FORKFS_BUILD=$BUILD TOOLS=$BUILD/tests/tools
	expect_log .
	truncate -s 4096 "$T/faults"
	cp "$TOOLS/standin" "$T/standin-patched"
	mkdir "$T/snap"
	"$T/standin-patched" --state 8 >"$T/snap/vmstate"
	truncate -s 8M "$T/snap/memory.bin"
	VMM=auto
	rounds "firecracker=$T/standin-patched"
}
