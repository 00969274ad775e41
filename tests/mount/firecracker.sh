# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The Firecracker driver, with a program that speaks Firecracker's API (tests/tools/standin.c) and, where FORKFS_FIRECRACKER names one that has forkfs' patches, with that:
# its guest is tests/guest/stub.S.

export FORKFS_KVM_MIPS=1000
POOL_OFF=pool=0,pool_loaded=0
COUNTER=$(((2 << 20) + 16))

# standin NAME: the path of one that has that fault.
standin() {
	cp -u "$TOOLS/standin" "$T/standin"
	ln -sf standin "$T/standin-$1"
	printf '%s' "$T/standin-$1"
}

# standin_snapshot DIR [VERSION]: as Firecracker leaves one.
standin_snapshot() {
	mkdir -p "$1"
	standin patched >/dev/null
	"$T/standin" --state 64 ${2+"$2"} >"$1/vmstate"
	truncate -s 64M "$1/memory.bin"
	dd if=/dev/urandom of="$1/memory.bin" bs=1M seek=8 count=8 conv=notrunc iflag=fullblock status=none
}

# real_snapshot DIR [DRIVE [INTERFACE]]: the stub guest, booted by $FORKFS_FIRECRACKER without forkfs; what it is to have besides as in a configuration.
real_snapshot() {
	local api=$T/api pid
	mkdir -p "$1"
	gcc -nostdlib -static -no-pie -Wl,-Ttext=0x1000000,--build-id=none "$ROOT/tests/guest/stub.S" -o "$T/stub" || return
	printf '{"boot-source":{"kernel_image_path":"%s"},"drives":[%s],"network-interfaces":[%s],"machine-config":{"vcpu_count":1,"mem_size_mib":128}}' \
		"$T/stub" "${2-}" "${3-}" >"$T/stub.json"
	unshare -n "$FORKFS_FIRECRACKER" --api-sock "$api" --config-file "$T/stub.json" --log-path "$T/boot.log" </dev/null >"$T/boot.out" 2>&1 & pid=$!
	until_true 10 grep -q C "$T/boot.out" || { kill "$pid"; bad "the guest doesn't run: $(cat "$T/boot.log")"; return 1; }
	is "pause" "204 " "$("$TOOLS/api" "$api" PATCH /vm '{"state":"Paused"}')"
	is "create" "204 " "$("$TOOLS/api" "$api" PUT /snapshot/create "{\"snapshot_path\":\"$1/vmstate\",\"mem_file_path\":\"$1/memory.bin\"}")"
	kill "$pid"
	wait "$pid"
	[ -s "$1/vmstate" ]
}

# with standin | real: mounts, and there is a snapshot in $SNAP.
with() {
	SNAP=$T/snap
	case $1 in
		standin) PROGRAM=$(standin patched); standin_snapshot "$SNAP" ;;
		real)
			[ -n "${FORKFS_FIRECRACKER-}" ] || skip "FORKFS_FIRECRACKER names no Firecracker"
			PROGRAM=$FORKFS_FIRECRACKER
			unset FORKFS_KVM_MIPS
			real_snapshot "$SNAP" || { bad "no snapshot"; exit 1; } ;;
	esac
	shift
	VMM=auto start -o "firecracker=$PROGRAM" "$@"
	grep -q '^ok   firecracker .* it shares memory' "$F/doctor" || { bad "doctor: $(grep firecracker "$F/doctor")"; return 1; }
}

# The guest's counter, as it is in mem.
count() { dd if="$F/$1/mem" bs=8 skip=$((COUNTER / 8)) count=1 status=none | od -An -tu8 | tr -d ' '; }
counts_on() {
	local before
	before=$(count "$1")
	wait_for 10 eval "[ \"\$(count $1)\" -gt $before ]"
}

restores() {
	with "$1" -o "$POOL_OFF,mem_write=1" || return
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$SNAP"
	state_is a running
	like "status" 'firecracker 1\.' "$(status_of a Vmm)"
	like "maps" 'rw-s .*memfd:forkfs:a' "$(cat "$F/a/maps")"
	is "what is never as root" 0 "$(ps -o uid= -p "$(pid_of a)" | grep -cw 0)"
	is "capabilities" 0000000000000000 "$(sed -n 's/^CapEff:\t//p' "/proc/$(pid_of a)/status")"
	counts_on a
	wait_for 10 grep -q C "$F/a/console"
	if [ "$1" = standin ]; then
		echo typed >"$F/a/console"
		wait_for 10 grep -q typed "$F/a/console"
	fi
	put_at a 5000000 written
	is "what was written" written "$(dd if="$F/a/mem" bs=1 skip=5000000 count=7 status=none)"
	local before
	echo paused >"$F/a/state"
	before=$(count a)
	is "paused" "$before" "$(sleep 0.1; count a)"
	echo running >"$F/a/state"
	counts_on a
	is "classes of its threads, once it has answered" TS "$(ps -L -o cls= -p "$(pid_of a)" | sort -u | xargs)"
	like "dirty" "^2097152 4096$" "$(cat "$F/a/dirty")"
	ok rmdir "$F/a"
	wait_for 10 eval '[ -z "$(vmms)" ]'
}
test_restore() { restores standin; }
test_real_restore() { restores real; }

# Live, whole and small ones, and what comes of them.
snapshots() {
	with "$1" -o "$POOL_OFF,snapshot=live" || return
	local how n at
	mkdir "$F/a" "$F/b" "$F/c"
	for how in memfd-shared memfd-private; do
		for n in a b c; do command_is ok "$F/$n/config/memory_backend" "$how"; done
		command_is ok "$F/a/restore" "$SNAP"
		counts_on a
		ok mkdir "$F/a/snapshots/s"
		wait_for 20 shot_in a s complete
		at=$(dd if="$F/a/snapshots/s/memory.bin" bs=8 skip=$((COUNTER / 8)) count=1 status=none | od -An -tu8 | tr -d ' ')
		counts_on a
		command_is ok "$F/b/restore" "$F/a/snapshots/s"
		[ "$(count b)" -ge "$at" ] || bad "$how: the child has $(count b), the snapshot $at"
		counts_on b
		ok mkdir "$F/b/snapshots/s"
		wait_for 20 shot_in b s complete
		command_is ok "$F/c/restore" "$F/b/snapshots/s"
		counts_on c
		[ "$how" = memfd-shared ] || [ "$(status_of c MemPrivate | tr -cd 0-9)" -lt 1000 ] || bad "a grandchild has $(status_of c MemPrivate) of its own"
		for n in a b c; do
			echo stopped >"$F/$n/state"
			wait_for 10 in_state "$n" exited
		done
		ok rmdir "$F/a/snapshots/s" "$F/b/snapshots/s"
	done
}
test_snapshots() { snapshots standin; }
test_real_snapshots() { snapshots real; }

# Snapshots of a guest that writes all the while: each has all of one instant.
test_real_instants() {
	local how i
	with real -o "$POOL_OFF,snapshot=live,mem_write=1" || return
	mkdir "$F/a"
	for how in memfd-shared memfd-private; do
		command_is ok "$F/a/config/memory_backend" "$how"
		command_is ok "$F/a/restore" "$SNAP"
		printf '\1' | dd of="$F/a/mem" bs=1 seek=$(((2 << 20) + 8)) conv=notrunc status=none
		wait_for 20 eval '[ "$("$TOOLS/rounds" "$F/a/mem" | cut -d, -f2)" = " all written" ]'
		for i in {1..10}; do
			ok mkdir "$F/a/snapshots/s$i"
			wait_for 20 shot_in a "s$i" complete
			is "$how, snapshot $i" "0 bad, all written" "$("$TOOLS/rounds" "$F/a/snapshots/s$i/memory.bin")"
			ok rmdir "$F/a/snapshots/s$i"
		done
		echo stopped >"$F/a/state"
		wait_for 10 in_state a exited
	done
}

kb() { status_of "$1" "$2" | tr -cd 0-9; }
filled() { [ "$(kb "$1" MemFilled)" -ge "$2" ]; }
same_data() { cmp -s <(dd if="$1" bs=1M skip=8 count=8 status=none) <(dd if="$2" bs=1M skip=8 count=8 status=none); }

# writes FORK: the guest goes through 32 MiB, until each of its pages was written.
writes() {
	printf '\1' | dd of="$F/$1/mem" bs=1 seek=$(((2 << 20) + 8)) conv=notrunc status=none
	wait_for 20 eval '[ "$("$TOOLS/rounds" "$F/'"$1"'/mem" | cut -d, -f2)" = " all written" ]'
}

# The memory of a guest that runs meanwhile comes when it is touched, before, or by and by: 8 MiB of it the guest leaves alone.
fills() {
	with "$1" -o "$POOL_OFF,mem_write=1,working_set=off" || return
	local how
	dd if=/dev/urandom of="$SNAP/memory.bin" bs=1M seek=8 count=8 conv=notrunc iflag=fullblock status=none
	for how in ondemand background eager; do
		mkdir "$F/$how"
		command_is ok "$F/$how/config/fill" "$how"
		command_is ok "$F/$how/restore" "$SNAP"
		counts_on "$how"
		is "Fill" "$how" "$(status_of "$how" Fill)"
		case $how in
			ondemand) [ "$(kb "$how" MemFilled)" -lt 8192 ] || bad "$how: $(kb "$how" MemFilled) came" ;;
			background) wait_for 20 filled "$how" 8192 ;;
			eager) filled "$how" 8192 || bad "$how: only $(kb "$how" MemFilled) came" ;;
		esac
		if [ "$how" = eager ]; then is "nobody serves pages" "" "$(status_of "$how" Faults)"
		else [ "$(kb "$how" Faults)" -gt 0 ] || bad "$how: no page was asked for"; fi
		same_data "$F/$how/mem" "$SNAP/memory.bin" || bad "$how: other data"
		[ "$1" = standin ] || writes "$how"
		counts_on "$how"
	done
	[ "$(kb ondemand MemFilled)" -lt 40960 ] || bad "more came than was touched: $(kb ondemand MemFilled)"
}
test_fill() { fills standin; }
test_real_fill() { fills real; }

# What one guest asked for the next has before it asks, out of the pool as well.
learns() {
	with "$1" -o pool=2,pool_loaded=0,mem_write=1,fill=ondemand || return
	local how set=$T/copy/workingset
	mkdir "$F/a" "$F/b" "$F/c"
	command_is ok "$F/a/config/working_set" off
	command_is ok "$F/a/restore" "$SNAP"
	counts_on a
	ok mkdir "$F/a/snapshots/s"
	wait_for 20 shot_in a s complete
	ok cp -r --sparse=always "$F/a/snapshots/s" "$T/copy"
	rm -f "$set"
	command_is ok "$F/b/restore" "$T/copy"
	counts_on b
	put_at b $((9 << 20)) touched
	[ "$1" = standin ] || writes b
	how=$(kb b Faults)
	ok rmdir "$F/b"
	wait_for 10 test -s "$set"
	like "the guest's counter is in it" '^2097152 ' "$(cat "$set")"
	like "what was touched from outside, too" '^9437184 ' "$(cat "$set")"
	wait_for 20 eval '[ "$(metric pool_waiting)" -ge 2 ]'
	command_is ok "$F/c/restore" "$T/copy"
	wait_for 10 filled c "$(awk '/^[0-9]+ / { n += $2 } END { print n / 1024 }' "$set")"
	counts_on c
	put_at c $((9 << 20)) touched
	[ "$1" = standin ] || writes c
	[ "$(kb c Faults)" -lt "$how" ] || bad "it asks as often as the first, $how times: $(kb c Faults)"
	is "out of the pool" 2 "$(metric pool_hits_total)"
}
test_working_set() { learns standin; }
test_real_working_set() { learns real; }

# Ten by one write, out of the pool and not; a pool of idle and of loaded ones.
fans_out() {
	with "$1" -o pool=4,pool_loaded=2 || return
	local n
	command_is ok "$F/restore" "$SNAP 10 w"
	for n in 0 5 9; do counts_on "w$n"; done
	ok rmdir "$F"/w?
	wait_for 20 eval '[ "$(metric pool_loaded)" = 2 ] && [ "$(metric pool_waiting)" -ge 4 ]'
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$SNAP"
	is "a loaded one" 1 "$(metric pool_loaded_hits_total)"
	counts_on a
	ok mkdir "$F/a/snapshots/s"
	echo stopped >"$F/a/state"
	wait_for 10 in_state a exited
	command_is ok "$F/a/restore" "$SNAP"
	counts_on a
	command_is ok "$F/a/config/memory_backend" memfd-private
	echo stopped >"$F/a/state"
	wait_for 10 in_state a exited
	wait_for 20 eval '[ "$(metric pool_waiting)" -ge 4 ]'
	n=$(metric pool_hits_total)
	command_is ok "$F/a/restore" "$SNAP"
	is "an idle one, which was there before its template" $((n + 1)) "$(metric pool_hits_total)"
	like "maps" 'rw-p .*memfd:forkfs:template' "$(cat "$F/a/maps")"
	counts_on a
}
test_fan_out() { fans_out standin; }
test_real_fan_out() { fans_out real; }

# Into memory that is shared.
boots() {
	with "$1" -o "$POOL_OFF,snapshot=live" || return
	local vm=$T/vm
	if [ "$1" = real ]; then
		mkdir -p "$vm"
		printf '{"boot-source":{"kernel_image_path":"%s"},"drives":[],"machine-config":{"vcpu_count":1,"mem_size_mib":128}}' "$T/stub" >"$vm/base.json"
	else
		MEMORY=64 description
	fi
	mkdir "$F/a" "$F/b"
	command_is ok "$F/a/config/vmm" firecracker
	command_is ok "$F/a/boot" "$vm/base.json"
	state_is a running
	counts_on a
	wait_for 10 grep -q C "$F/a/console"
	like "maps" 'rw-s .*memfd:forkfs:a' "$(cat "$F/a/maps")"
	is "one process" 1 "$(vmms | wc -l)"
	[ "$(status_of a MemFilled | tr -cd 0-9)" -lt 30000 ] || bad "zeros are filled in: $(status_of a MemFilled)"
	ok mkdir "$F/a/snapshots/s"
	wait_for 20 shot_in a s complete
	command_is ok "$F/b/restore" "$F/a/snapshots/s"
	counts_on b
	kill_daemon
	VMM=auto start -o "firecracker=$PROGRAM,$POOL_OFF,snapshot=live"
	state_is a running
	ok mkdir "$F/a/snapshots/later" # whose userfaultfd went with the former daemon
	wait_for 20 shot_in a later complete
	counts_on a
}
test_boot() { boots standin; }
test_real_boot() { boots real; }

# boot_fault NAME ERRNO PATTERN
boot_fault() {
	local program
	program=$(standin "$1")
	mkdir "$F/$1"
	command_is ok "$F/config/firecracker" "$program"
	command_is ok "$F/$1/config/vmm" firecracker
	command_is "$2" "$F/$1/boot" "$T/vm/base.json"
	like "$1" "$3" "$(error_of "$1")"
	wait_for 10 eval '[ -z "$(vmms)" ]'
}

test_boot_faults() {
	VMM=auto start -o "$POOL_OFF,timeout=1500"
	MEMORY=64 description
	boot_fault stock EOPNOTSUPP 'lacks machine-config.memory_path'
	boot_fault dies EIO 'Firecracker ended with status 1'
	boot_fault mute ETIMEDOUT 'did not answer within 1500 ms'
	printf no_kernel >"$T/vm/kernel"
	boot_fault patched EIO 'Firecracker refused: The kernel file cannot be opened'
	state_is patched failed
	printf kernel >"$T/vm/kernel"
	command_is ok "$F/patched/boot" "$T/vm/base.json"
	counts_on patched
	mkdir "$F/tcg"
	command_is ok "$F/tcg/config/vmm" firecracker
	command_is ok "$F/tcg/config/accel" tcg
	command_is EOPNOTSUPP "$F/tcg/boot" "$T/vm/base.json"
}

# Where there is no userfaultfd all pages are filled in before a guest runs.
test_no_userfaultfd() {
	if [ -e /dev/userfaultfd ] && [ ! -e "$T/masked" ]; then
		touch "$T/masked"
		exec unshare -m --propagation private bash -c 'mount --bind /dev/null /dev/userfaultfd; . tests/lib.sh; . tests/mount/firecracker.sh; run_test test_no_userfaultfd'
	fi
	[ -e /dev/userfaultfd ] || [ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 0 ] || skip "everybody can make a userfaultfd here"
	local how
	with standin -o "$POOL_OFF" || return
	for how in memfd-shared memfd-private; do
		mkdir "$F/$how" "$F/$how.child"
		command_is ok "$F/$how/config/memory_backend" "$how"
		command_is ok "$F/$how.child/config/memory_backend" "$how"
		command_is ok "$F/$how/restore" "$SNAP"
		counts_on "$how"
		like "how" 'stop-and-copy' "$(status_of "$how" Snapshots)"
		ok mkdir "$F/$how/snapshots/s"
		command_is ok "$F/$how.child/restore" "$F/$how/snapshots/s"
		counts_on "$how.child"
	done
	is "filled" eager "$(status_of memfd-shared Fill)"
	mkdir "$F/must"
	command_is ok "$F/must/config/memory_backend" userfault
	command_is EOPNOTSUPP "$F/must/restore" "$SNAP"
}

# What never ran ends with the daemon; who runs goes on, until the next one.
test_kill_9() {
	VMM=auto start -o "firecracker=$(standin patched),pool=3,pool_loaded=1"
	standin_snapshot "$T/snap"
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$T/snap"
	wait_for 20 eval '[ "$(metric pool_waiting)" -ge 3 ] && [ "$(metric pool_loaded)" = 1 ]'
	kill_daemon
	wait_for 10 eval '[ "$(alive)" = 1 ]'
	wait_for 10 eval 'find "$S" -name console.txt -exec grep -lq C {} +'
	VMM=auto start -o "firecracker=$(standin patched),$POOL_OFF"
	state_is a running
	counts_on a
	printf 'typed' >"$F/a/console"
	wait_for 10 grep -q typed "$F/a/console"
	ok mkdir "$F/a/snapshots/later"
	mkdir "$F/b"
	command_is ok "$F/b/restore" "$F/a/snapshots/later"
	counts_on b
}

# One without the patches, $PROGRAM, and what it is given, $T/snap.
stock() {
	local how
	VMM=auto start -o "firecracker=$PROGRAM,$POOL_OFF"
	like "doctor" '^ok   firecracker .*lacks shared, VmstateOnly, uffd_uds_path, /uffd/wp, memory_path' "$(cat "$F/doctor")"
	mkdir "$F/a" "$F/boot"
	command_is ok "$F/boot/config/vmm" firecracker
	MEMORY=64 description
	command_is EOPNOTSUPP "$F/boot/boot" "$T/vm/base.json"
	like "error" "lacks machine-config.memory_path" "$(error_of boot)"
	command_is EOPNOTSUPP "$F/a/restore" "$T/snap"
	like "error" 'stock .*lacks mem_backend.shared.*patches/firecracker.*memfd-private' "$(error_of a)"
	for how in memfd-private file; do
		mkdir "$F/$how"
		command_is ok "$F/$how/config/memory_backend" "$how"
		command_is ok "$F/$how/restore" "$T/snap"
		counts_on "$how"
		ok mkdir "$F/$how/snapshots/s"
		shot_in "$how" s complete || bad "the snapshot is not complete at once"
		like "how" 'stop-and-copy: the VMM has no userfaultfd' "$(status_of "$how" Snapshots)"
		mkdir "$F/$how.child"
		command_is ok "$F/$how.child/config/memory_backend" "$how"
		command_is ok "$F/$how.child/restore" "$F/$how/snapshots/s"
		counts_on "$how.child"
	done
	command_is ok "$F/file/config/snapshot" live
	mkdir_is EOPNOTSUPP "$F/file/snapshots/live"
	is "left of a refused one" "" "$(ls "$F/a/snapshots")"
}
test_stock() {
	PROGRAM=$(standin stock)
	standin_snapshot "$T/snap"
	stock
}
test_real_stock() {
	[ -n "${FORKFS_FIRECRACKER_STOCK-}" ] || skip "FORKFS_FIRECRACKER_STOCK names no Firecracker"
	unset FORKFS_KVM_MIPS
	ln -s "$FORKFS_FIRECRACKER_STOCK" "$T/stock"
	PROGRAM=$T/stock
	FORKFS_FIRECRACKER=$PROGRAM real_snapshot "$T/snap" || { bad "no snapshot"; return; }
	stock
}

# fault NAME ERRNO PATTERN
fault() {
	local program
	program=$(standin "$1")
	mkdir "$F/$1"
	command_is ok "$F/config/firecracker" "$program"
	command_is "$2" "$F/$1/restore" "$T/snap"
	like "$1" "$3" "$(error_of "$1")"
	state_is "$1" failed
	wait_for 10 eval '[ -z "$(vmms)" ]'
}

# Whatever it does: an errno, a sentence, and nothing left.
test_faults() {
	standin_snapshot "$T/snap"
	VMM=auto start -o "$POOL_OFF,timeout=1500"
	fault early EIO 'ended with status 1: Error: it ends early'
	fault silent ETIMEDOUT "standin-silent: it doesn't answer"
	fault deaf ETIMEDOUT 'makes no socket'
	fault mute ETIMEDOUT 'did not answer within 1500 ms'
	fault half ETIMEDOUT 'did not answer within 1500 ms'
	fault stuck ETIMEDOUT 'did not answer within 1500 ms'
	fault garbage EIO "Firecracker didn't answer: "
	fault huge EIO 'answer is longer than 65536 bytes'
	fault refuse EIO "Firecracker refused: Load snapshot error: it doesn't please me"
	fault raw EIO 'Firecracker answered 400: .*refused'
	fault busy EIO 'Firecracker answered 503: .*Too many'
	fault seccomp EIO 'status 148 .a system call that its seccomp filter forbids'
	fault nofd EIO 'handed over no userfaultfd'
	fault nonsense EINVAL 'makes no sense'
	fault dies EIO 'ended with status 1'
	fault old EOPNOTSUPP 'vmstate: has format 10.0, .*standin-old .* reads 8.0 to 8.0'
	"$T/standin" --state 64 8.0.0 >"$T/snap/vmstate"
	command_is ok "$F/old/config/clock" realtime
	command_is EOPNOTSUPP "$F/old/restore" "$T/snap"
	like "old" "config/clock says realtime, which firecracker 1.16.1 can't set" "$(error_of old)"
	standin_snapshot "$T/snap"
	mkdir "$F/slow"
	command_is ok "$F/config/firecracker" "$(standin slow)"
	command_is ok "$F/slow/restore" "$T/snap"
	counts_on slow
	command_is ok "$F/config/firecracker" /bin/true
	mkdir "$F/true"
	command_is ENODEV "$F/true/restore" "$T/snap"
	like "no Firecracker" "/bin/true doesn't say that it is Firecracker" "$(error_of true)"
	# A second try is allowed at once.
	command_is ok "$F/config/firecracker" "$(standin patched)"
	command_is ok "$F/refuse/restore" "$T/snap"
	counts_on refuse
	is "sockets left" "" "$(ls /tmp/forkfs-probe* 2>/dev/null)"
}

# refused NAME ERRNO PATTERN
refused() {
	mkdir "$F/$1"
	command_is "$2" "$F/$1/restore" "$T/$1"
	like "$1" "$3" "$(error_of "$1")"
}

# One life after another, some of them ended in the middle: every restore gives a guest, and nothing is left.
lives() {
	local i n
	for i in {1..12}; do
		n=l$1-$i
		mkdir "$F/$n"
		[ $((i % 2)) = 0 ] || command_is ok "$F/$n/config/memory_backend" memfd-private
		command_is ok "$F/$n/restore" "$SNAP"
		case $(((i + $1) % 4)) in
			0) ok mkdir "$F/$n/snapshots/s"; mkdir "$F/$n-c"; command_is ok "$F/$n-c/restore" "$F/$n/snapshots/s"; ok rmdir "$F/$n-c" ;;
			1) mkdir "$F/$n/snapshots/s" 2>/dev/null & kill -KILL "$(pid_of "$n")"; wait $! ;;
			2) kill -STOP "$(pid_of "$n")" ;;
		esac
		ok rmdir "$F/$n"
	done
	[ "$failures" = 0 ]
}
many_lives() {
	local i pids=()
	with "$1" -o pool=3,pool_loaded=1 || return
	for i in 1 2 3 4; do (trap - EXIT; lives $i) & pids+=($!); done
	for i in "${pids[@]}"; do wait "$i" || bad "a life failed"; done
	is "forks" "" "$(ls -d "$F"/l* 2>/dev/null)"
}
test_lives() { many_lives standin; }
test_real_lives() { many_lives real; }

# What a snapshot's devices need beside memory.
test_devices() {
	local n
	VMM=auto start -o "firecracker=$(standin patched),$POOL_OFF"
	standin_snapshot "$T/snap"
	"$T/standin" --state 64 10.0.0 vsock >"$T/snap/vmstate"
	command_is ok "$F/restore" "$T/snap 2 v"
	for n in v0 v1; do
		counts_on $n
		[ -S "$(status_of $n Vsock)" ] || bad "$n: no vsock at \"$(status_of $n Vsock)\""
	done
	[ "$(status_of v0 Vsock)" != "$(status_of v1 Vsock)" ] || bad "one vsock for both"
	n=$(status_of v0 Vsock)
	ok rmdir "$F/v0"
	wait_for 10 eval "! test -e '$n'"

	"$T/standin" --state 64 >"$T/snap/vmstate"
	mkdir "$F/clock"
	command_is ok "$F/clock/config/clock" realtime
	command_is ok "$F/clock/restore" "$T/snap"
	wait_for 10 grep -q 'clock moved' "$F/clock/console"
	command_is ok "$F/clock/config/clock" snapshot
	echo stopped >"$F/clock/state"
	wait_for 10 in_state clock exited
	command_is ok "$F/clock/restore" "$T/snap"
	counts_on clock
	if grep -q 'clock moved' "$F/clock/console"; then bad "the clock is moved unasked"; fi

}

# A daemon of an ordinary user makes the namespace in a user namespace.
test_interface_of_a_user() {
	[ -e /dev/net/tun ] || skip "no /dev/net/tun"
	[ -u "$(command -v fusermount3)" ] || skip "fusermount3 is not setuid here"
	[ -e "$T/tun" ] || {
		mknod -m 666 "$T/tun" c 10 200 && mknod -m 666 "$T/fuse" c 10 229 || skip "no device can be made"
		exec unshare -m --propagation private bash -c 'mount --bind "$T/tun" /dev/net/tun; mount --bind "$T/fuse" /dev/fuse; . tests/lib.sh; . tests/mount/firecracker.sh; run_test test_interface_of_a_user'
	}
	one() { setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$@"; }
	one unshare -U true 2>/dev/null || skip "no user namespaces here"
	PROGRAM=$(standin tap)
	standin_snapshot "$T/snap"
	chmod 755 "$T" "$T/snap"
	chmod 644 "$T/snap"/*
	mkdir "$F" "$T/runtime"
	chown nobody:nogroup "$F" "$T/runtime"
	XDG_RUNTIME_DIR=$T/runtime setpriv --reuid=nobody --regid=nogroup --clear-groups "$FORKFS_BUILD/fs/forkfs" -f -o "vmm=auto,pool=0,firecracker=$PROGRAM" "$F" >>"$LOG" 2>&1 </dev/null &
	DAEMON=$!
	until_true 30 eval 'daemon_gone || one test -e "$F/help"'
	mounted || { bad "no mount: $(tail -n 3 "$LOG")"; DAEMON=; return; }
	ok one mkdir "$F/a"
	is "restore" ok "$(one "$TOOLS/put" "$F/a/restore" <<<"$T/snap")"
	pid_of() { one sed -n 's/^Pid:[[:space:]]*//p' "$F/$1/status" | tr -d ' '; }
	is "its interface" tap "$(interface a)"
	kill "$DAEMON"
	wait_for 20 daemon_gone
	wait "$DAEMON"; is "exit status" 0 $?
	DAEMON=
}

# Or it leads to a tap of the host that whoever restores may attach: in a network namespace, and with a /dev/net/tun, for this test.
has_network() { # TEST
	[ -e /dev/net/tun ] || skip "no /dev/net/tun"
	if [ ! -e "$T/tun" ]; then
		mknod -m 666 "$T/tun" c 10 200 || skip "no device can be made"
		exec unshare -n -m --propagation private bash -c 'mount --bind "$T/tun" /dev/net/tun; . tests/lib.sh; . tests/mount/firecracker.sh; run_test "$1"' bash "$1"
	fi
	local nobody n
	nobody=$(id -u nobody)
	for n in a n0 n1; do ip tuntap add dev "tap-$n" mode tap user root; done
	ip tuntap add dev tap-theirs mode tap user nobody
	ip tuntap add dev tap-other mode tap user 12345
	chmod 755 "$T" "$SNAP"
	chmod 644 "$SNAP"/*
	VMM=auto start -o "firecracker=$PROGRAM,pool=2,pool_loaded=1,snapshot=live,allow_other,network=tap-%"
	mkdir "$F/a" "$F/b" "$F/other" "$F/quite-a-long-name"
	command_is ok "$F/a/restore" "$SNAP"
	counts_on a
	is "its interface" tap-a "$(interface a)"
	like "somebody is at its other end" LOWER_UP "$(ip link set tap-a up; ip -o link show tap-a)"
	command_is ok "$F/restore" "$SNAP 2 n"
	is "n0" tap-n0 "$(interface n0)"
	is "n1" tap-n1 "$(interface n1)"
	command_is EPERM "$F/b/restore" "$SNAP"
	like "error" 'interface tap-b: there is none, or uid 0 may not attach it' "$(error_of b)"
	command_is EPERM "$F/other/restore" "$SNAP"
	command_is EINVAL "$F/quite-a-long-name/restore" "$SNAP"
	like "error" 'config/network: .* is longer than the name of an interface' "$(error_of quite-a-long-name)"
	command_is ok "$F/b/config/network" tap-a
	command_is EBUSY "$F/b/restore" "$SNAP"
	command_is EINVAL "$F/b/config/network" tap-%-%
	command_is EINVAL "$F/b/config/network" ../tap
	command_is EINVAL "$F/b/config/network" a-name-of-sixteen
	# Of a child, and of one that waits.
	ok mkdir "$F/a/snapshots/s"
	command_is ok "$F/b/config/network" none
	command_is ok "$F/b/restore" "$F/a/snapshots/s"
	is "b" tap "$(interface b)"
	wait_for 20 eval '[ "$(metric pool_loaded)" = 1 ]'
	ok rmdir "$F/a"
	wait_for 10 eval '! ip -o link show tap-a | grep -q LOWER_UP'
	one() { setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$@"; }
	ok one mkdir "$F/theirs" "$F/a"
	is "one's own" ok "$(one "$TOOLS/put" "$F/theirs/restore" <<<"$SNAP")"
	is "its interface" tap-theirs "$(interface theirs)"
	is "root's" EPERM "$(one "$TOOLS/put" "$F/a/restore" <<<"$SNAP")"
	like "error" "uid $nobody may not attach it" "$(error_of a)"
	is "none is made" 5 "$(ip -o link | grep -c tap-)"
}
test_network() {
	PROGRAM=$(standin tap) SNAP=$T/snap
	standin_snapshot "$SNAP"
	has_network test_network
}
test_real_network() {
	[ -n "${FORKFS_FIRECRACKER-}" ] || skip "FORKFS_FIRECRACKER names no Firecracker"
	unset FORKFS_KVM_MIPS
	PROGRAM=$FORKFS_FIRECRACKER SNAP=$T/snap
	[ -e "$SNAP" ] || real_snapshot "$SNAP" "" '{"iface_id":"eth0","host_dev_name":"tap-of-old"}' || { bad "no snapshot"; return; }
	has_network test_real_network
}

# disk_of FORK: the disk that its VMM writes, as it has it. "(deleted)" is what its name ends in, for it has none.
disk_of() {
	local fd
	for fd in /proc/"$(pid_of "$1")"/fd/*; do
		case $(readlink "$fd") in "$T/disks"/*" (deleted)") printf '%s' "$fd" ;; esac
	done
}

# A disk that a guest writes is its own, a copy that shows the snapshot's; where there is none it is refused. $DISK is there.
has_disk() {
	local n
	VMM=auto start -o "firecracker=$PROGRAM,pool=2,pool_loaded=1,log=info"
	mkdir -p "$T/disks"
	mkdir "$F/disk" "$F/loaded"
	command_is EOPNOTSUPP "$F/disk/restore" "$SNAP"
	like "error" "its guest writes the disk $DISK, .*config/disk_dir" "$(error_of disk)"
	wait_for 10 eval '[ -z "$(vmms)" ]'
	command_is ok "$F/config/disk_dir" "$T/disks"
	command_is ok "$F/disk/restore" "$SNAP"
	counts_on disk
	like "the log" "disk has its own copy of the disk $DISK: a (copy|reflink), [0-9]+ bytes" "$(cat "$LOG")"
	cmp -s -n 4096 "$(disk_of disk)" "$DISK" && [ "$1" = standin ] && bad "what the guest wrote is in the snapshot's"
	is "the rest of it" "$(tail -c 1M "$DISK" | md5sum)" "$(tail -c 1M "$(disk_of disk)" | md5sum)"
	is "its size" "$(stat -Lc %s "$DISK")" "$(stat -Lc %s "$(disk_of disk)")"
	[ "$(stat -Lc %b "$(disk_of disk)")" -lt 8192 ] || bad "holes were filled in: $(stat -Lc %b "$(disk_of disk)")"
	is "the snapshot's" "$SUM" "$(md5sum <"$DISK")"
	mkdir_is EOPNOTSUPP "$F/disk/snapshots/s"
	like "error" 'writes a disk of its own' "$(error_of disk)"
	like "Snapshots" '^none: ' "$(status_of disk Snapshots)"
	wait_for 20 eval '[ "$(metric pool_loaded)" = 1 ]'
	command_is ok "$F/loaded/restore" "$SNAP"
	is "a loaded one" 1 "$(metric pool_loaded_hits_total)"
	[ "$(stat -Lc %i "$(disk_of loaded)")" != "$(stat -Lc %i "$(disk_of disk)")" ] || bad "two children have one disk"
	mkdir_is EOPNOTSUPP "$F/loaded/snapshots/s"
	is "left there" "" "$(ls -A "$T/disks")"
	rmdir "$F/disk" "$F/loaded"
	command_is ok "$F/config/pool_loaded" 0
	wait_for 10 eval '[ "$(metric pool_loaded)" = 0 ]'
	chmod 600 "$DISK"
	mkdir "$F/theirs"
	command_is EACCES "$F/theirs/restore" "$SNAP"
	like "error" "$DISK: Permission denied" "$(error_of theirs)"
	rm "$DISK"
	command_is ENOENT "$F/theirs/restore" "$SNAP"
	command_is ok "$F/config/disk_dir" "$T/nowhere"
	command_is ENOENT "$F/theirs/restore" "$SNAP"
	state_is theirs failed
}

# A disk with a MiB of data at its beginning and end, and 64 MiB between.
make_disk() {
	DISK=$1
	dd if=/dev/urandom of="$DISK" bs=1M count=1 iflag=fullblock status=none
	dd if=/dev/urandom of="$DISK" bs=1M count=1 seek=65 iflag=fullblock status=none
	chmod 644 "$DISK"
	SUM=$(md5sum <"$DISK")
}
test_disk() {
	PROGRAM=$(standin disk) SNAP=$T/snap
	make_disk "$PROGRAM.img"
	standin_snapshot "$SNAP"
	has_disk standin
}
test_real_disk() {
	[ -n "${FORKFS_FIRECRACKER-}" ] || skip "FORKFS_FIRECRACKER names no Firecracker"
	unset FORKFS_KVM_MIPS
	PROGRAM=$FORKFS_FIRECRACKER SNAP=$T/snap
	make_disk "$T/disk.img"
	real_snapshot "$SNAP" "{\"drive_id\":\"root\",\"path_on_host\":\"$DISK\",\"is_root_device\":false,\"is_read_only\":false}" || { bad "no snapshot"; return; }
	SUM=$(md5sum <"$DISK")
	has_disk real
}

# Once its guest may have taken it over a VMM gets no copy of anything. Where there is no room, and where room is another's: a sentence, and nothing left.
test_disk_faults() {
	VMM=auto start -o "firecracker=$(standin late),$POOL_OFF,disk_dir=$T/disks"
	mkdir "$T/disks" "$T/small" "$F/late" "$F/small" "$F/again"
	standin_snapshot "$T/snap"
	make_disk "$T/standin-late.img"
	expect_log 'a disk is refused that a VMM would write'
	command_is ok "$F/late/restore" "$T/snap"
	wait_for 10 grep -q '^late: EROFS' "$F/late/console"
	is "who can be snapshotted" ok "$(mkdir "$F/late/snapshots/s" && echo ok)"
	command_is ok "$F/config/firecracker" "$(standin disk)"
	make_disk "$T/standin-disk.img"
	mount -t tmpfs -o size=1M small "$T/small" || skip "no tmpfs can be mounted"
	command_is ok "$F/config/disk_dir" "$T/small"
	command_is ENOSPC "$F/small/restore" "$T/snap"
	like "error" 'standin-disk.img: a copy takes 2[0-9]+ bytes, .*small has 1048576' "$(error_of small)"
	is "what is left there" "1024" "$(df --output=avail -k "$T/small" | tail -n 1 | tr -d ' ')"
	umount "$T/small"
	command_is EINVAL "$F/config/disk_dir" small
	command_is ok "$F/config/disk_dir" "$T/disks"
	rm "$T/standin-disk.img"
	mkfifo "$T/standin-disk.img"
	command_is EINVAL "$F/small/restore" "$T/snap"
	like "error" 'is a FIFO, not a regular file' "$(error_of small)"
	rm "$T/standin-disk.img"
	chmod 755 "$F/late"
	ln -s "$F/help" "$T/standin-disk.img"
	command_is EINVAL "$F/small/restore" "$T/snap"
	like "error" 'is a file of this mount' "$(error_of small)"
	rm "$T/standin-disk.img"
	make_disk "$T/standin-disk.img"
	command_is ok "$F/again/restore" "$T/snap"
	counts_on again
}

# Where the file system can share what two files have in common.
test_disk_reflink() {
	command -v mkfs.xfs >/dev/null || command -v mkfs.btrfs >/dev/null || skip "there is no mkfs.xfs and no mkfs.btrfs"
	mkdir "$T/shares"
	truncate -s 600M "$T/shares.img"
	{ mkfs.xfs -q -m reflink=1 "$T/shares.img" || mkfs.btrfs -q "$T/shares.img"; } 2>/dev/null
	mount -o loop "$T/shares.img" "$T/shares" 2>/dev/null || skip "such a file system can't be mounted"
	VMM=auto start -o "firecracker=$(standin disk),$POOL_OFF,disk_dir=$T/shares,log=info"
	standin_snapshot "$T/snap"
	make_disk "$T/shares/disk.img"
	ln -s shares/disk.img "$T/standin-disk.img"
	mkdir "$F/a"
	command_is ok "$F/a/restore" "$T/snap"
	like "the log" 'a reflink, 0 bytes' "$(cat "$LOG")"
	counts_on a
	is "the snapshot's" "$SUM" "$(md5sum <"$DISK")"
	ok rmdir "$F/a"
	wait_for 10 umount "$T/shares"
}

# interface FORK: the network interface that its VMM has.
interface() {
	local pid fd
	pid=$(pid_of "$1")
	for fd in /proc/"$pid"/fd/*; do
		[ "$(readlink "$fd")" != /dev/net/tun ] || sed -n 's/^iff:\t//p' "/proc/$pid/fdinfo/${fd##*/}"
	done
}

# A network interface leads nowhere: each child has one of its own, and none is in a network namespace that anybody is in.
has_interface() {
	[ -e /dev/net/tun ] || skip "no /dev/net/tun"
	local before n
	before=$(ip -o link)
	VMM=auto start -o "firecracker=$PROGRAM,pool=2,pool_loaded=1,snapshot=live"
	command_is ok "$F/restore" "$SNAP 2 n"
	for n in n0 n1; do
		counts_on $n
		is "$n: its interface" tap "$(interface $n)"
		is "$n: those it sees" 1 "$(nsenter -t "$(pid_of $n)" -n ip -o link | wc -l)"
	done
	wait_for 20 eval '[ "$(metric pool_loaded)" = 1 ]'
	mkdir "$F/loaded" "$F/child"
	command_is ok "$F/loaded/restore" "$SNAP"
	is "a loaded one" 1 "$(metric pool_loaded_hits_total)"
	is "its interface" tap "$(interface loaded)"
	ok mkdir "$F/loaded/snapshots/s"
	command_is ok "$F/child/restore" "$F/loaded/snapshots/s"
	counts_on child
	is "its interface" tap "$(interface child)"
	is "the host's" "$before" "$(ip -o link)"
}
test_interface() {
	PROGRAM=$(standin tap) SNAP=$T/snap
	standin_snapshot "$SNAP"
	has_interface
}
test_real_interface() {
	[ -n "${FORKFS_FIRECRACKER-}" ] || skip "FORKFS_FIRECRACKER names no Firecracker"
	unset FORKFS_KVM_MIPS
	PROGRAM=$FORKFS_FIRECRACKER SNAP=$T/snap
	real_snapshot "$SNAP" "" '{"iface_id":"eth0","host_dev_name":"tap-of-old"}' || { bad "no snapshot"; return; }
	has_interface
}

# A guest whose clock is the host's is loaded when it is asked for, by a VMM that waits.
test_clock_and_pool() {
	with standin -o pool=2,pool_loaded=1,clock=realtime || return
	local n
	mkdir "$F/a" "$F/b" "$F/c"
	command_is ok "$F/a/restore" "$SNAP"
	for n in b c; do
		wait_for 20 eval '[ "$(metric pool_waiting)" -ge 2 ]'
		is "that wait loaded" 0 "$(metric pool_loaded)"
		command_is ok "$F/$n/restore" "$SNAP"
		wait_for 10 grep -q 'clock moved' "$F/$n/console"
	done
	is "out of the pool" 2 "$(metric pool_hits_total)"
	is "of these loaded" 0 "$(metric pool_loaded_hits_total)"
	command_is ok "$F/c/config/clock" snapshot
	echo stopped >"$F/c/state"
	wait_for 10 in_state c exited
	command_is ok "$F/c/restore" "$SNAP"
	wait_for 20 eval '[ "$(metric pool_loaded)" = 1 ]'
}

# QEMU has no way to move a guest's clock on.
test_clock_of_another() {
	start
	with_snapshot
	mkdir "$F/a"
	command_is ok "$F/a/config/clock" realtime
	command_is EOPNOTSUPP "$F/a/restore" "$F/base/snapshots/ready"
	like "error" "config/clock says realtime, which null" "$(error_of a)"
}

# Directories that forkfs has not written.
test_foreign() {
	local n
	VMM=auto start -o "firecracker=$(standin patched),$POOL_OFF"
	standin_snapshot "$T/pair"
	mv "$T/pair/vmstate" "$T/pair/some.state"
	mv "$T/pair/memory.bin" "$T/pair/RAM"
	echo hello >"$T/pair/README"
	mkdir "$T/tag" "$T/elsewhere"
	cp --sparse=always "$T/pair/RAM" "$T/tag/memory.bin"
	cp "$T/pair/some.state" "$T/tag/vmstate"
	echo '{"vmstate":"/old/place/vmstate","memory":"/old/place/memory.bin","volumes":[],"parent_tag":null}' >"$T/tag/snapshot.json"
	echo "{\"vmstate\":\"$T/pair/some.state\",\"memory\":\"$T/pair/RAM\",\"volumes\":[],\"rootfs\":\"/x\"}" >"$T/elsewhere/snapshot.json"
	for n in pair tag elsewhere; do
		mkdir "$F/$n"
		command_is ok "$F/$n/restore" "$T/$n"
		counts_on "$n"
		is "$n: RAM" 65536 "$(status_of "$n" MemTotal | tr -cd 0-9)"
		ok rmdir "$F/$n"
		mkdir "$F/$n"
		command_is ok "$F/$n/restore" "$T/$n"
		counts_on "$n"
	done

	mkdir "$T/none" "$T/two" "$T/alone" "$T/many" "$T/flip" "$T/short" "$T/cut" "$T/empty_tag"
	echo hello >"$T/none/README"
	refused none ENOENT 'neither a snapshot.json nor a Firecracker state'
	cp "$T/pair/some.state" "$T/two/a"; cp "$T/pair/some.state" "$T/two/b"; truncate -s 64M "$T/two/c"
	refused two EINVAL '2 Firecracker states'
	cp "$T/pair/some.state" "$T/alone/a"
	refused alone ENOENT "no file with its guest's memory"
	cp "$T/pair/some.state" "$T/many/a"; truncate -s 64M "$T/many/b"; truncate -s 64M "$T/many/c"
	refused many EINVAL 'which of 2 files is the memory of a'
	cp "$T/pair/some.state" "$T/flip/a"; truncate -s 64M "$T/flip/b"
	printf x | dd of="$T/flip/a" bs=1 seek=28 conv=notrunc status=none
	refused flip EINVAL 'a: is corrupt: its CRC-64'
	cp "$T/pair/some.state" "$T/short/a"; truncate -s 63M "$T/short/b"
	refused short EINVAL 'b: is truncated: it has 66060288 bytes'
	head -c 20 "$T/pair/some.state" >"$T/cut/a"; truncate -s 64M "$T/cut/b"
	refused cut EINVAL 'a: is truncated'
	"$T/standin" --state 64 11.0.0 >"$T/two/a"; rm "$T/two/b"; rmdir "$F/two"
	refused two EOPNOTSUPP 'format 11.0'
	echo '{"vmstate":"vmstate","memory":"/m"}' >"$T/empty_tag/snapshot.json"
	refused empty_tag EINVAL 'vmstate: "vmstate" is not an absolute path'
}

# A manifest of ours that is at odds with the state.
test_manifest() {
	VMM=auto start -o "firecracker=$(standin patched),$POOL_OFF"
	standin_snapshot "$T/pair"
	mkdir "$F/a" "$F/b"
	command_is ok "$F/a/restore" "$T/pair"
	ok mkdir "$F/a/snapshots/s"
	wait_for 10 shot_in a s complete
	ok cp -r --sparse=always "$F/a/snapshots/s" "$T/copy"
	chmod -R u+w "$T/copy"
	command_is ok "$F/b/restore" "$T/copy"
	counts_on b
	is "driver" firecracker "$(jq -r .driver.name "$T/copy/snapshot.json")"
	"$T/standin" --state 32 >"$T/copy/vmstate"
	jq 'del(.vmstate.crc64) | .vmstate.size = '"$(stat -c %s "$T/copy/vmstate")" "$T/copy/snapshot.json" >"$T/json" && cp "$T/json" "$T/copy/snapshot.json"
	mkdir "$F/copy"
	command_is EINVAL "$F/copy/restore" "$T/copy"
	like "another size" 'is of a guest with 33554432 bytes of RAM' "$(error_of copy)"
}

# A daemon that dies, and the next one: the guests count on, are served, typed to, snapshotted and forked.
adopted() {
	local f how
	with "$1" -o "$POOL_OFF,fill=ondemand,snapshot=live" || return
	for how in memfd-shared memfd-private; do
		mkdir "$F/$how" "$F/child-of-$how"
		command_is ok "$F/$how/config/memory_backend" "$how"
		command_is ok "$F/child-of-$how/config/memory_backend" "$how"
		command_is ok "$F/$how/restore" "$SNAP"
		ok mkdir "$F/$how/snapshots/s"
		wait_for 20 shot_in "$how" s complete
		command_is ok "$F/child-of-$how/restore" "$F/$how/snapshots/s"
	done
	kill_daemon
	VMM=auto start -o "firecracker=$PROGRAM,$POOL_OFF,snapshot=live"
	for f in memfd-shared memfd-private child-of-memfd-shared child-of-memfd-private; do
		state_is "$f" running
		counts_on "$f"
		command_is ok "$F/$f/state" paused
		command_is ok "$F/$f/state" running
		ok mkdir "$F/$f/snapshots/later"
		wait_for 20 shot_in "$f" later complete
		mkdir "$F/last-of-$f"
		command_is ok "$F/last-of-$f/restore" "$F/$f/snapshots/later"
		counts_on "last-of-$f"
	done
}
test_adopted() { adopted standin; }
test_real_adopted() { adopted real; }
