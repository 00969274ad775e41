# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Blows at bad moments. The moments: pages are being served, a capture runs, a VMM waits in the pool, a working set is being placed. The blows: what the pages
# come from shrinks or is written to, the VMM is killed, there is no room, rmdir, another restore, umount, the last child of a template leaves.
# None of them leaves anything behind.

MIB=$((1 << 20))
kb() { status_of "$1" "$2" | tr -cd 0-9; }
vmms_are() { [ "$(vmms | wc -l)" = "$1" ]; }


# with_data: $T/snap is a snapshot of $DATA MiB of data at 8 MiB, with a working set of all of it; $T/src is another.
with_data() {
	MEMORY=$((DATA + 16)) booted base || return
	dd if=/dev/urandom of="$F/base/mem" bs=1M seek=8 count="$DATA" conv=notrunc iflag=fullblock status=none || bad "no data"
	ok mkdir "$F/base/snapshots/s"
	wait_for 60 shot_in base s complete
	ok cp -r --sparse=always "$F/base/snapshots/s" "$T/snap"
	ok rmdir "$F/base"
	wait_for 20 vmms_are 0
	chmod -R u+w "$T/snap"
	printf '%s\n' "forkfs working set 1" "memory $(jq -r .memory.identity "$T/snap/snapshot.json") $(((DATA + 16) * MIB))" "$((8 * MIB)) $((DATA * MIB))" end >"$T/snap/workingset"
	cp -r --sparse=always "$T/snap" "$T/src"
}

# child FORK SNAPSHOT [KEY=VALUE...]
child() {
	local fork=$1 snapshot=$2 setting; shift 2
	mkdir "$F/$fork"
	for setting; do printf '%s\n' "${setting#*=}" >"$F/$fork/config/${setting%%=*}" || bad "$setting"; done
	command_is ok "$F/$fork/restore" "$snapshot"
}

# Writes to one page cluster after the other, for a while: each of the writes waits for its pages. $toucher is who does it.
touch_all() {
	dd if=/dev/zero of="$F/$1/mem" bs=64K seek=128 count=$((DATA * 16)) conv=notrunc status=none 2>/dev/null &
	toucher=$!
}
touched() { kill -KILL "$toucher" 2>/dev/null; wait "$toucher" 2>/dev/null; toucher=; }

# The moments: the fork x is in the midst of it, if `still_…` says so afterwards.
demand() { child x "$T/src" fill=ondemand working_set=off; touch_all x; until_true 10 eval '[ "$(kb x Faults)" -gt 0 ]'; }
background() { child x "$T/src" fill=background working_set=off; }
placing() { child x "$T/src" fill=ondemand working_set=use; }
capture() { child x "$T/src" fill=ondemand working_set=off; touch_all x; ok mkdir "$F/x/snapshots/s"; }
private() {
	child x "$T/src" memory_backend=memfd-private
	dd if=/dev/zero of="$F/x/mem" bs=1M seek=8 count=$((DATA * 3 / 4)) conv=notrunc status=none
	ok mkdir "$F/x/snapshots/s"
}
still() { # MOMENT
	case $1 in
		demand|background|placing) [ "$(kb x MemFilled)" -lt $((DATA << 10)) ] ;;
		capture|private) shot_in x s writing ;;
	esac
}

# Nothing is left of x, nor of a VMM.
cleared() {
	[ -z "${toucher-}" ] || touched
	[ ! -d "$F/x" ] || ok rmdir "$F/x"
	wait_for 20 vmms_are 0
}

# at MOMENT BLOW: brings x there and strikes; where it was too late for that, again.
at() {
	local try
	for try in 1 2 3 4 5 6; do
		"$1"
		still "$1" && { "$2" "$1"; cleared; return; }
		cleared
	done
	bad "$1 was over before $2, six times"
}

# x has failed, says why, and can be used anew.
failed_of() { # PATTERN
	wait_for 20 in_state x failed
	like "error" "$1" "$(error_of x)"
	is "its VMM" "" "$(pid_of x)"
	command_is ok "$F/x/restore" "$T/snap"
	command_is EBUSY "$F/x/restore" "$T/snap"
}

shrink() { truncate -s $((9 * MIB)) "$T/src/memory.bin"; }
write_to() { printf y | dd of="$T/src/memory.bin" bs=1 seek=$((DATA * MIB)) conv=notrunc status=none; }
mend() { rm -rf "$T/src"; cp -r --sparse=always "$T/snap" "$T/src"; }

shrinks() {
	shrink
	failed_of 'truncated|written to'
	mend
}
is_written_to() {
	write_to
	failed_of 'truncated|written to'
}
is_killed() {
	kill -KILL "$(pid_of x)"
	failed_of killed
}
is_removed() {
	ok rmdir "$F/x"
	[ ! -e "$F/x" ] || bad "x is still there"
}
again() {
	command_is EBUSY "$F/x/restore" "$T/snap"
	state_is x running
	command_is ok "$F/x/state" stopped
	wait_for 20 in_state x exited
	command_is ok "$F/x/restore" "$T/snap"
}

test_served() {
	local DATA=192 moment blow
	start -o mem_write=1
	with_data || return
	for moment in demand background placing; do
		for blow in shrinks is_written_to is_killed is_removed again; do at "$moment" "$blow"; done
	done
}

# Whatever becomes of a snapshot that is cut off, nobody gets a part of it.
shot_is_over() {
	wait_for 20 eval '! shot_in x s writing'
	[ ! -d "$F/x/snapshots/s" ] || like "the snapshot" 'failed|complete' "$(cat "$F/x/snapshots/s/state")"
}
capture_killed() {
	kill -KILL "$(pid_of x)"
	wait_for 20 in_state x failed
	shot_is_over
	failed_of killed
}
capture_dropped() {
	ok rmdir "$F/x/snapshots/s"
	state_is x running
	ok mkdir "$F/x/snapshots/t"
	wait_for 20 shot_in x t complete
	[ -z "$toucher" ] || touched
	ok mkdir "$F/x/snapshots/u"
	dd if="$F/x/mem" of="$T/mem" bs=1M status=none
	ok same_memory "$F/x/snapshots/u/memory.bin" "$T/mem"
}
# A child of what is still being captured, and the capture's end before it has all of its pages.
capture_restored() {
	child y "$F/x/snapshots/s" fill=ondemand working_set=off
	command_is EBUSY "$F/x/restore" "$F/x/snapshots/s"
	ok rmdir "$F/x"
	ok timeout 60 dd if="$F/y/mem" of=/dev/null bs=1M status=none
	state_is y running
	ok rmdir "$F/y"
}
# The guest's pages can't be had any more, so neither can the snapshot's.
capture_of_broken() {
	"$1"
	wait_for 20 in_state x failed
	like "error" 'truncated|written to' "$(error_of x)"
	shot_in x s complete && bad "complete without what it is made of"
	mend
	failed_of 'truncated|written to'
}
capture_shrinks() { capture_of_broken shrink; }
capture_is_written_to() { capture_of_broken write_to; }

test_captured() {
	local DATA=192 moment blow
	start -o mem_write=1
	with_data || return
	for moment in capture private; do
		for blow in capture_killed is_removed capture_dropped capture_restored again; do at "$moment" "$blow"; done
	done
	for blow in capture_shrinks capture_is_written_to; do at capture "$blow"; done
}

# No room for a snapshot: the guest goes on, and so does what it was restored from.
test_no_room() {
	local DATA=64 moment
	mkdir "$T/small"
	mount -t tmpfs -o size=24m none "$T/small" || skip "no tmpfs can be mounted"
	start -o mem_write=1
	with_data && command_is ok "$F/config/snapshot_dir" "$T/small" || { umount -l "$T/small"; return; }
	for moment in "fill=ondemand working_set=off" "fill=background working_set=use" "fill=eager" memory_backend=memfd-private; do
		# shellcheck disable=SC2086
		child x "$T/snap" $moment
		touch_all x
		timeout 20 mkdir "$F/x/snapshots/s" 2>/dev/null
		wait_for 20 eval '! shot_in x s writing'
		wait "$toucher" || bad "$moment: the guest's writes failed"
		toucher=
		no shot_in x s complete
		state_is x running
		like "$moment: error" 'No space left' "$(error_of x)"
		no cp -r "$F/x/snapshots/s" "$T/partial"
		rm -rf "$T/partial"
		[ ! -d "$F/x/snapshots/s" ] || ok rmdir "$F/x/snapshots/s"
		wait_for 10 eval '[ "$(df --output=used -k "$T/small" | tail -n 1)" -lt 512 ]'
		is "$moment: what it wrote" 0 "$(dd if="$F/x/mem" bs=1M skip=8 count="$DATA" status=none | tr -d '\0' | wc -c)"
		cleared
	done
	stop
	umount "$T/small"
}

# A VMM that is idle, or loaded with a guest of $T/src.
idle() { child x "$T/src"; ok rmdir "$F/x"; wait_for 20 eval '[ "$(metric pool_waiting)" -ge 2 ]'; }
loaded() { idle; wait_for 20 eval '[ "$(metric pool_loaded)" -ge 2 ]'; }
pooled() { [ "$(($(metric pool_waiting) + $(metric pool_loaded)))" -ge 2 ]; }

# Whoever restores next gets a guest of what is there now, or is told.
restored_next() { # EXPECTED
	mkdir "$F/x"
	like "restore" "$1" "$(poke "$F/x/restore" "$T/src\n")"
	[ "$(state_of x)" != running ] || ok same_memory "$F/x/mem" "$T/src/memory.bin"
	wait_for 20 pooled
	ok rmdir "$F/x"
}
pool_shrinks() { shrink; restored_next EINVAL; mend; restored_next ok; }
pool_is_written_to() { write_to; restored_next ok; }
pool_is_killed() {
	local pids
	pids=$(vmms)
	# shellcheck disable=SC2086
	kill_vmms $pids
	restored_next ok
}
# Two at once, and each has a guest of its own.
pool_both() {
	mkdir "$F/x" "$F/y"
	poke "$F/x/restore" "$T/src\n" >"$T/x" & local first=$!
	command_is ok "$F/y/restore" "$T/src"
	wait "$first"; is "the other restore" ok "$(cat "$T/x")"
	is "VMMs" 2 "$(printf '%s\n' "$(pid_of x)" "$(pid_of y)" | sort -u | grep -c .)"
	ok rmdir "$F/x" "$F/y"
}
pool_removed() { child x "$T/src"; ok rmdir "$F/x"; rm -rf "$T/src"; mkdir "$F/x"; command_is ENOENT "$F/x/restore" "$T/src"; ok rmdir "$F/x"; mend; restored_next ok; }

test_pooled() {
	local DATA=16 moment blow how
	expect_log 'waited|kept waiting'
	POOL=3 LOADED=2 start -o mem_write=1
	command_is ok "$F/config/pool" 0
	with_data || return
	command_is ok "$F/config/pool" 3
	for how in memfd-shared:auto memfd-private:auto; do
		command_is ok "$F/config/memory_backend" "${how%:*}"
		command_is ok "$F/config/fill" "${how#*:}"
		for moment in idle loaded; do
			command_is ok "$F/config/pool_loaded" "$([ "$moment" = idle ] && echo 0 || echo 2)"
			for blow in pool_shrinks pool_is_written_to pool_is_killed pool_both pool_removed; do "$moment"; "$blow"; done
		done
	done
}

# The mount ends in each of the moments.
test_umount() {
	local DATA=192 moment how try
	POOL=0 start -o mem_write=1
	with_data || return
	stop
	for moment in demand background placing capture private idle loaded; do
		for how in umount TERM; do
			for try in 1 2 3 4 5 6; do
				if [ "$moment" = idle ] || [ "$moment" = loaded ]; then
					POOL=3 LOADED=$([ "$moment" = idle ] && echo 0 || echo 2) start -o mem_write=1
				else
					start -o mem_write=1
				fi
				"$moment"
				case $how in umount) [ -z "${toucher-}" ] || touched ;; esac # who has a file open keeps the mount
				[ "$moment" = idle ] || [ "$moment" = loaded ] || still "$moment" || { stop; continue; }
				stop "$how"
				[ -z "${toucher-}" ] || touched
				is "$moment, $how: left in the state directory" "" "$(find "$S" -mindepth 1 ! -name lock ! -type d)"
				is "$moment, $how: left in memory" "" "$(ls -d /dev/shm/forkfs-"$(basename "$S")"* 2>/dev/null)"
				continue 2
			done
			bad "$moment was over before $how, six times"
		done
	done
}

# The last child of a template leaves while another restore of it begins: before that has found the template, and when it has.
test_last_child() {
	local DATA=16 i a=x b=y c
	start -o "mem_write=1,memory_backend=memfd-private,templates_max=0"
	with_data || return
	child x "$T/snap"
	for i in {1..30}; do
		mkdir "$F/$b"
		if ((i % 2)); then
			rmdir "$F/$a" & c=$!
			command_is ok "$F/$b/restore" "$T/snap"
		else
			poke "$F/$b/restore" "$T/snap\n" >"$T/said" & c=$!
			sleep "0.0$((10 + i * 2))" # each at another step of the restore
			ok rmdir "$F/$a"
		fi
		wait "$c"
		((i % 2)) || is "restore $i" ok "$(cat "$T/said")"
		ok same_memory "$F/$b/mem" "$T/snap/memory.bin"
		[ "$(metric templates)" -le 2 ] || bad "templates: $(metric templates)"
		c=$a a=$b b=$c
	done
	ok rmdir "$F/$a"
	wait_for 20 vmms_are 0
	wait_for 20 eval '[ "$(metric templates)" = 0 ]'
	is "maps of templates" 0 "$(grep -c 'memfd:forkfs:template' "/proc/$DAEMON/maps")"
}

descriptors() { find "/proc/$DAEMON/fd" -mindepth 1 -printf 'descriptor %l\n' | sed 's/[0-9]\+/N/g'; }

# What the daemon has, by kind; the names and numbers of it are another matter. The device states of the snapshots that were opened last are kept on purpose.
inventory() {
	printf 'threads %s\n' "$(find "/proc/$DAEMON/task" -mindepth 1 -maxdepth 1 | wc -l)"
	printf 'maps of memfds %s\n' "$(grep -c memfd: "/proc/$DAEMON/maps")"
	printf 'VMMs %s\n' "$(vmms | wc -l)"
	descriptors | grep -v memfd:vmstate | sort | uniq -c
	(cd "$S" && find . -mindepth 1) | sort
	find /dev/shm -path "/dev/shm/forkfs-$(basename "$S")*" -mindepth 2 -printf 'in memory: %f\n'
	grep -E '^forkfs_(pool_(waiting|loaded|bytes)|templates|templates_used|template_bytes|guest_memory_bytes|guest_memory_used_bytes) ' "$F/metrics"
}
resident() { sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$DAEMON/status"; }

# The loop is the only thread that nothing has to be done for; the pool is given up for the count.
rested() {
	[ -z "$(ls "$F" | grep -x '[xy]')" ] || ok rmdir "$F"/[xy]
	command_is ok "$F/config/pool" 0
	command_is ok "$F/config/pool_loaded" 0
	wait_for 20 vmms_are 0
	wait_for 30 eval '[ "$(find "/proc/$DAEMON/task" -mindepth 1 -maxdepth 1 | wc -l)" = 1 ]' || inventory | head -n 30
	wait_for 10 eval '[ -z "$(inventory | grep "in memory:")" ] && [ "$(metric templates)" = 0 ]'
	[ "$(descriptors | grep -c memfd:vmstate)" -le 16 ] || bad "device states: $(descriptors | grep -c memfd:vmstate)"
	inventory >"$1"
	command_is ok "$F/config/pool" 2
	command_is ok "$F/config/pool_loaded" 1
}

# Where it doesn't find room at once it is refused, else it fails afterwards.
small() { child x "$T/src" fill=ondemand working_set=off; touch_all x; mkdir "$F/x/snapshots/s" 2>/dev/null; }

pick() { eval "picked=\${$((RANDOM % $# + 1))}"; }
any_moment() {
	toucher=
	pick demand background placing capture private loaded_one small making
	case $picked in
		loaded_one) child x "$T/src" ;;
		small) command_is ok "$F/config/snapshot_dir" "$T/small"; small; command_is ok "$F/config/snapshot_dir" memory ;;
		making) child x "$T/src"; mkdir "$F/x/snapshots/s" 2>/dev/null & ;;
		*) "$picked" ;;
	esac
	moment=$picked
}
# Some come too late, or find nothing to strike: what counts is what is left.
any_blow() {
	pick shrink write_to kill kill_all removed dropped again child_of both
	case $picked in
		shrink) shrink ;;
		write_to) write_to ;;
		kill) kill -KILL "$(pid_of x)" 2>/dev/null ;;
		kill_all) kill -KILL $(vmms) 2>/dev/null ;;
		removed) rmdir "$F/x" ;;
		dropped) [ ! -d "$F/x/snapshots/s" ] || rmdir "$F/x/snapshots/s" ;;
		again) like "a second restore" '^(EBUSY|ok)$' "$(poke "$F/x/restore" "$T/snap\n")" ;;
		child_of) mkdir "$F/y"; poke "$F/y/restore" "$F/x/snapshots/s\n" >"$T/said"; like "a child of it" '^(ok|ENOENT|EINVAL|EIO)$' "$(cat "$T/said")" ;;
		both) mkdir "$F/y"; poke "$F/y/restore" "$T/src\n" >"$T/said" & rmdir "$F/x"; wait $! ;;
	esac
	[ "$picked" != shrink ] || mended=
}
one_round() {
	mended=1
	any_moment
	any_blow
	[ -z "$toucher" ] || touched
	like "round $i, $moment, $picked: state" '^(running|failed|)$' "$(state_of x 2>/dev/null)"
	[ ! -d "$F/x" ] || ok rmdir "$F/x"
	[ ! -d "$F/y" ] || ok rmdir "$F/y"
	[ -n "$mended" ] || mend
}

test_rounds() {
	local DATA=16 i picked moment mended toucher before
	expect_log 'waited|kept waiting'
	mkdir "$T/small"
	mount -t tmpfs -o size=4m none "$T/small" || skip "no tmpfs can be mounted"
	RANDOM=${SEED:=$((SECONDS + $$ % 32768))}
	# A small quarantine of the sanitizer's, so that what is kept shows.
	ASAN_OPTIONS=$ASAN_OPTIONS:quarantine_size_mb=8 POOL=2 LOADED=1 start -o mem_write=1,templates_max=0,events_max=100
	with_data || { umount -l "$T/small"; return; }
	for i in {1..20}; do one_round; done
	rested "$T/before"
	before=$(resident)
	for i in $(seq "${ROUNDS:-200}"); do
		one_round
		[ "$failures" -lt 5 ] || break
	done
	rested "$T/after"
	is "what the daemon has" "$(cat "$T/before")" "$(cat "$T/after")"
	[ "$(resident)" -le $((before + 65536)) ] || bad "VmRSS was $before kB and is $(resident) kB"
	[ "$failures" = 0 ] || echo "    SEED=$SEED"
	is "left in the small place" 0 "$(find "$T/small" -mindepth 1 | wc -l)"
	child x "$T/snap"
	ok same_memory "$F/x/mem" "$T/snap/memory.bin"
	stop
	umount "$T/small"
}
