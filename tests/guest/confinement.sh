# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What a VMM that a guest took over could do: what QEMU's own monitor can have it do, asked behind the daemon's back.
. tests/guest/common.bash

# asked FORK'S_SOCKET COMMAND: the last thing that QEMU says.
asked() { (cd "$1" && soon "$TOOLS/talk" qmp '{"execute":"qmp_capabilities"}' "$2" | tail -n 1); }
opens() { # DIRECTORY FILE
	asked "$1" "{\"execute\":\"chardev-add\",\"arguments\":{\"id\":\"x$RANDOM\",\"backend\":{\"type\":\"file\",\"data\":{\"in\":\"$2\",\"out\":\"/dev/null\"}}}}"
}

# All of its pages are there: a guest that asks for one while there is no daemon may keep its monitor waiting.
opens_nothing() {
	local dir secret=$T/secret
	ready count || return
	child a "$READY"
	printf 'for everybody to read' >"$secret"
	chmod 0644 "$secret"
	chmod 0755 "$T"
	dir=$(dirname "$(grep -l '"id":"a"' "$S"/forks/*/record.json)")
	kill_daemon # who had its monitor
	for file in "$secret" /etc/passwd /proc/1/status "$dir/record.json"; do
		like "opening $file" 'Permission denied|No such file' "$(opens "$dir" "$file")"
	done
	like "a process" 'error' "$(asked "$dir" '{"execute":"chardev-add","arguments":{"id":"s","backend":{"type":"socket","data":{"addr":{"type":"inet","data":{"host":"127.0.0.1","port":"1"}},"server":false}}}}')"
	like "the monitor itself" '"return"' "$(asked "$dir" '{"execute":"query-status"}')"
	start
	state_is a running
}

# Two things keep it from them, each by itself.
test_files() {
	export FORKFS_NO_MINIMAL_ROOT=1
	start -o fill=eager
	grep -q '^ok   landlock *ABI' "$F/doctor" || skip "no Landlock here"
	opens_nothing
}
test_files_without_landlock() {
	export FORKFS_NO_LANDLOCK=1
	start -o fill=eager
	grep -q '^ok   root ' "$F/doctor" || skip "the daemon may not mount"
	opens_nothing
	is "its root directory" "bin etc lib lib64 proc usr" "$(ls "/proc/$(pid_of a)/root" | xargs)"
}

# What a program tries that runs where QEMU does: files, sockets, other processes, other identities. Nothing of it succeeds.
reaches_nothing() {
	local program=$T/standin_qemu-reaches tried
	cp "$TOOLS/standin_qemu" "$T/standin_qemu"
	ln -s standin_qemu "$program"
	chmod 0755 "$T"
	"$TOOLS/listen" "$program.sock" >"$T/listens" &
	wait_for 5 grep -q ready "$T/listens"
	description
	start -o "qemu=$program,timeout=10000"
	mkdir "$F/a"
	command_is ok "$F/a/boot" "$T/vm/base.json"
	wait_for 20 grep -q '^reach: through' "$F/a/log"
	tried=$(grep '^reach' "$F/a/log")
	is "things tried" 19 "$(wc -l <<<"$tried")"
	is "what succeeded" "" "$(grep ': done$' <<<"$tried")"
	is "processes" "reach processes: 0 signalled, 0 traced, 0 read" "$(grep '^reach processes' <<<"$tried")"
}
test_reach() { reaches_nothing; }
test_reach_without_landlock() {
	export FORKFS_NO_LANDLOCK=1
	reaches_nothing
}

# Who it is, and what it has open: nothing that isn't known.
test_from_outside() {
	local pid fd fork key
	start
	ready count || return
	child a "$READY"
	child b "$READY"
	status() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status"; }
	for fork in a b; do
		pid=$(pid_of "$fork")
		for key in CapInh CapPrm CapEff CapAmb; do is "$key" 0000000000000000 "$(status "$key")"; done
		is "no new privileges" 1 "$(status NoNewPrivs)"
		is "seccomp" 2 "$(status Seccomp)"
		is "groups" "" "$(status Groups)"
		is "user ids" 1 "$(status Uid | tr '\t' '\n' | sort -u | wc -l)"
		is "user" "$(status Uid | cut -f1)" "$(status_of "$fork" Uid | tr -d ' ')"
		[ "$(status Uid | cut -f1)" -ge "$UID_FIRST" ] || bad "user $(status Uid) is not of the range"
		is "cores" 0 "$(awk '/^Max core/ { print $5 }' "/proc/$pid/limits")"
		is "threads" 512 "$(awk '/^Max processes/ { print $4 }' "/proc/$pid/limits")"
		is "locked memory" 65536 "$(awk '/^Max locked/ { print $5 }' "/proc/$pid/limits")"
		[ "$(cat "/proc/$pid/oom_score_adj")" -gt "$(cat "/proc/$DAEMON/oom_score_adj")" ] || bad "the daemon is to go before its VMM when memory is exhausted"
		is "network devices" lo "$(tail -n +3 "/proc/$pid/net/dev" | cut -d: -f1 | xargs)"
		is "environment" "" "$(tr '\0' '\n' <"/proc/$pid/environ" | grep -vE '^(LD_PRELOAD|FORKFS_[A-Z_]*)=')"
		is "descriptors that nobody knows" "" "$(for fd in "/proc/$pid/fd"/*; do readlink "$fd"; done | grep -vE \
			'^(/dev/null|/dev/userfaultfd|/dev/kvm|socket:.*|pipe:.*|anon_inode:.*|/memfd:(forkfs|preload)[^ ]* \(deleted\)|.*/(console|log)\.txt|.*/forkfs-preload\.so|'"$READY"'/memory.bin)$')"
	done
	[ "$(status_of a Uid)" != "$(status_of b Uid)" ] || bad "two VMs, one user"
}

# group_of PID CONTROLLER: its directory, whichever version has the controller.
group_of() {
	local path
	path=$(awk -F: -v c="$2" '{ n = split($2, w, ","); for (i = 1; i <= n; i++) if (w[i] == c) print $3 }' "/proc/$1/cgroup")
	if [ -n "$path" ]; then echo "$(awk -v c="$2" '$9 == "cgroup" && (","$NF",") ~ (","c",") { print $5 }' /proc/self/mountinfo | head -n 1)$path"; else
		echo "$(awk '$9 == "cgroup2" { print $5 }' /proc/self/mountinfo | head -n 1)$(sed -n 's/^0:://p' "/proc/$1/cgroup")"; fi
}
groups_left() { find /sys/fs/cgroup -type d -name "forkfs-$(basename "$S")-*" 2>/dev/null; }

# Limits: the VM is in its group from its first instruction on, out of the pool and not, under a successor too; a limit bites; nothing is left.
test_limits() {
	local pid c all=
	start
	ready count || return
	for c in memory cpu pids; do
		if grep -q "^[a-z]* *cgroup .*[ ,:]$c (v" "$F/doctor"; then all="$all $c"; else command_is EOPNOTSUPP "$F/config/vmm_${c}_max" 100; fi
	done
	[ -n "$all" ] || skip "no control groups here"
	case $all in *memory*) command_is ok "$F/config/vmm_memory_max" 600 ;; esac
	case $all in *cpu*) command_is ok "$F/config/vmm_cpu_max" 150 ;; esac
	case $all in *pids*) command_is ok "$F/config/vmm_pids_max" 64 ;; esac
	child a "$READY"
	wait_for 30 eval '[ "$(metric pool_waiting)" = 2 ]'
	child b "$READY"
	for f in a b; do
		pid=$(pid_of "$f")
		case $all in *memory*) is "memory of $f" $((600 << 20)) "$(cat "$(group_of "$pid" memory)"/memory.{max,limit_in_bytes} 2>/dev/null)" ;; esac
		case $all in *cpu*) like "processor of $f" '^150000( 100000)?$' "$(cat "$(group_of "$pid" cpu)"/cpu.{max,cfs_quota_us} 2>/dev/null)" ;; esac
		case $all in *pids*) is "threads of $f" 64 "$(cat "$(group_of "$pid" pids)/pids.max")" ;; esac
	done
	command_is ok "$F/config/pool" 0
	wait_for 20 eval '[ "$(alive)" = 2 ]'
	mkdir "$F/spare"
	child last "$READY" # whose group has the highest number
	kill_daemon
	POOL=0 start
	state_is b running
	[ -n "$(groups_left)" ] || bad "the groups are gone"
	case $all in
		*pids*)
			command_is ok "$F/config/vmm_pids_max" 48
			command_is ok "$F/spare/restore" "$READY"
			is "threads of the other" 64 "$(cat "$(group_of "$(pid_of last)" pids)/pids.max")"
			is "threads of the new one" 48 "$(cat "$(group_of "$(pid_of spare)" pids)/pids.max")"
			;;
	esac
	ok rmdir "$F/last" "$F/spare"
	ok rmdir "$F/a" "$F/b"
	wait_for 20 eval '[ "$(find $(groups_left) -mindepth 1 -type d | grep -c /)" = 0 ]'
	case $all in
		*pids*)
			command_is ok "$F/config/vmm_pids_max" 1
			mkdir "$F/c"
			command_is EIO "$F/c/restore" "$READY" # QEMU can't make its threads
			;;
	esac
	stop
	is "groups that are left" "" "$(groups_left)"
}
