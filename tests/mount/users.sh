# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Who may do what, with allow_other and two users.

one() { setpriv --reuid=12345 --regid=12345 --clear-groups -- "$@"; }
two() { setpriv --reuid=12346 --regid=12346 --clear-groups -- "$@"; }
group() { setpriv --reuid=12346 --regid=12346 --groups=12345 -- "$@"; }
# one_is EXPECTED FILE TEXT: as that user writes it
one_is() { is "user 12345: '$3' > ${2#"$F"/}" "$1" "$(printf '%s\n' "$3" | one timeout 20 "$TOOLS/put" "$2" | sed 's/^open //')"; }
two_is() { is "user 12346: '$3' > ${2#"$F"/}" "$1" "$(printf '%s\n' "$3" | two timeout 20 "$TOOLS/put" "$2" | sed 's/^open //')"; }

world() {
	start -o allow_other "$@"
	description "$T/vm"
	one mkdir "$F/one" && two mkdir "$F/two" || bad "mkdir as a user: $(root_error)"
	one_is ok "$F/one/boot" "$T/vm/base.json"
}

test_alone() { # without allow_other nobody else gets in
	start
	booted a
	no one ls "$F"
	no one cat "$F/help"
}

test_modes() {
	world
	is "the root" 1777 "$(stat -c %a "$F")"
	is "a fork" "700 12345 12345" "$(stat -c '%a %u %g' "$F/one")"
	is "its files" "12345 12345" "$(stat -c '%u %g' "$F/one/state")"
	state_is one running
	no two ls "$F/one"
	no two cat "$F/one/state"
	no two rmdir "$F/one"
	no two mv "$F/one" "$F/stolen"
	no two chmod 755 "$F/one"
	two_is EACCES "$F/one/state" stopped
	two_is EACCES "$F/one/console" hello
	two_is EACCES "$F/config/vmm" qemu
	ok two cat "$F/help" "$F/metrics" "$F/doctor"
	ok two ls "$F"
	ok one cat "$F/one/status"
	no one chown 12346 "$F/one"
	state_is one running
	like "Uid" "$((UID_FIRST / 1000))[0-9]{3}" "$(status_of one Uid)"
	ok one rmdir "$F/one"
}

test_sharing() {
	world
	ok one chmod 750 "$F/one"
	no two cat "$F/one/state"
	is "the mode" 750 "$(stat -c %a "$F/one")"
	# As any other: what the directory lets in, the files' modes still decide.
	no two ls "$F/one"
	ok group ls "$F/one"
	ok one chmod 755 "$F/one"
	ok two ls "$F/one"
	ok chgrp 12346 "$F/one"
	is "the group" 12346 "$(stat -c %g "$F/one")"
	ok one chmod 700 "$F/one"
	no two ls "$F/one"
	no one chmod 7777 "$F/missing"
}

test_snapshots() {
	world
	ok one mkdir "$F/one/snapshots/s"
	two_is EACCES "$F/two/restore" "$F/one/snapshots/s"
	like "error" "one/snapshots/s" "$(error_of two)"
	one mkdir "$F/mine"
	one_is ok "$F/mine/restore" "$F/one/snapshots/s"
	# A copy that only its owner may read, and a link to it.
	one cp -r "$F/one/snapshots/s" "$T/kept" 2>/dev/null || { cp -r "$F/one/snapshots/s" "$T/kept"; chown -R 12345:12345 "$T/kept"; }
	chmod 700 "$T/kept"
	ln -s "$T/kept" "$T/link"
	two_is EACCES "$F/two/restore" "$T/kept"
	two_is EACCES "$F/two/restore" "$T/link"
	two_is EACCES "$F/restore" "$T/kept 2 w-"
	like "error, of the writer" "$T/kept" "$(two cat "$F/error")"
	is "and of nobody else" 0 "$(one cat "$F/error" | grep -c "$T/kept")"
	is "nothing of it" 0 "$(ls "$F" | grep -c '^w-')"
	chmod 755 "$T/kept"; chmod 600 "$T/kept/memory.bin"; chmod 644 "$T/kept/vmstate" "$T/kept/snapshot.json"
	two_is EACCES "$F/two/restore" "$T/kept"
	chmod 600 "$T/kept/vmstate"; chmod 644 "$T/kept/memory.bin"
	two_is EACCES "$F/two/restore" "$T/kept"
	chmod 644 "$T/kept"/*
	two_is ok "$F/two/restore" "$T/link"
	is "who" 12346 "$(stat -c %u "$F/two/state")"
	is "many" "w-0 w-1" "$(two timeout 20 "$TOOLS/ask" "$F/restore" "$T/kept 2 w-" | xargs)"
	is "whose" 12346 "$(stat -c %u "$F/w-1")"
	no one rmdir "$F/w-1"
	ok two rmdir "$F/w-1"
}

# A description's paths are the caller's too.
test_descriptions() {
	world
	description "$T/private"
	chmod 755 "$T/private"
	chmod 600 "$T/private/kernel"
	two_is EACCES "$F/two/boot" "$T/private/base.json"
	like "error" "$T/private/kernel" "$(error_of two)"
	chmod 644 "$T/private/kernel"; chmod 600 "$T/private/base.json"
	two_is EACCES "$F/two/boot" "$T/private/base.json"
	chmod 644 "$T/private/base.json"
	two_is ok "$F/two/boot" "$T/private/base.json"
	# The identity that counts is the file system's.
	mkdir "$F/mine"
	chown 12345:12345 "$T/private/base.json"
	chmod 600 "$T/private/base.json"
	chmod 755 "$F/mine"
	is "root with another fsuid" "EACCES" "$(printf '%s\n' "$T/private/base.json" | timeout 20 "$TOOLS/put" -f 12346 "$F/two/boot" | sed 's/^open //; s/EBUSY/EACCES/')"
}

# The path is looked up in the writer's root directory.
test_chroot() {
	world
	local root=$T/jail
	mkdir -p "$root/bin" "$root/forks" "$root/vm" "$root/lib" "$root/lib64" "$root/usr"
	cp /bin/busybox "$root/bin/busybox"
	mount --rbind "$F" "$root/forks"
	mkdir "$F/jailed"
	cp "$T/vm/kernel" "$T/vm/initrd" "$root/vm/"
	printf '{"boot-source":{"kernel_image_path":"/vm/kernel","initrd_path":"/vm/initrd"},"machine-config":{"vcpu_count":1,"mem_size_mib":8}}' >"$root/vm/base.json"
	ok timeout 20 chroot "$root" /bin/busybox sh -c 'echo /vm/base.json > /forks/jailed/boot'
	state_is jailed running
	mkdir "$F/other"
	no timeout 20 chroot "$root" /bin/busybox sh -c "echo $T/vm/base.json > /forks/other/boot"
	like "error" "$T/vm/base.json" "$(error_of other)"
	# An absolute link stays inside, too.
	ln -s /vm/base.json "$root/link.json"
	ok timeout 20 chroot "$root" /bin/busybox sh -c 'echo /link.json > /forks/other/boot'
	umount -l "$root/forks"
}

test_events() {
	world
	is "user 12346 sees" 0 "$(two cat "$F/events" | grep -c '"one"')"
	[ "$(one cat "$F/events" | grep -c '"one"')" -ge 1 ] || bad "user 12345 doesn't see its own"
}

# A name that is taken is taken, whoever asks; the sticky root keeps others' hands off.
test_names_of_others() {
	world
	like "taken" "File exists" "$(LC_ALL=C two mkdir "$F/one" 2>&1)"
	no two mv -T "$F/two" "$F/one"
	state_is one running
}

# refused FORK...: user 12346 comes to nothing whatever it tries with all that is in these forks of another's, whose directories it sees in the root.
refused() {
	local f said
	for f; do find "$F/$f"; done >"$T/paths"
	said=$(two timeout 60 "$TOOLS/walk" "$F/two" <"$T/paths")
	[ "$(wc -l <<<"$said")" -gt "$(wc -l <"$T/paths")" ] || bad "nothing was tried: $said"
	is "user 12346 of $*" "" "$(grep -vE '^[a-z]+ (EACCES|EPERM) ' <<<"$said" | head -n 5)"
}

# opens_as CLASS WHO FORK...: exactly the opens that CLASS (0 others, 3 group) of the files' modes says.
opens_as() {
	local class=$1 who=$2 f; shift 2
	for f; do find "$F/$f" ! -path '*/dirty'; done >"$T/paths"
	"$who" timeout 60 "$TOOLS/walk" -o "$F/two" <"$T/paths" >"$T/opened"
	[ -s "$T/opened" ] || bad "nothing was tried"
	is "$who of $*" "" "$(while read -r what said mode path; do
		mode=$((0$mode >> class))
		case $what in list) need=5 ;; read) need=4 ;; write) need=2 ;; both) need=6 ;; esac
		[ "$what" != list ] || need=4
		expected=EACCES; [ $((mode & need)) != $need ] || expected=ok
		[ "$said" = "$expected" ] || echo "$what $said $mode $path"
	done <"$T/opened" | head -n 5)"
}

# What that class came to write.
opened_to_write() { grep -cE '^(write|both) ok' "$T/opened"; }

# Forks in all states, with a snapshot, walked by another user.
test_walk() {
	world
	local all="one paused ended failed empty"
	ok one mkdir "$F/one/snapshots/s" "$F/paused" "$F/ended" "$F/failed" "$F/empty"
	one_is ok "$F/paused/restore" "$F/one/snapshots/s"; one_is ok "$F/paused/state" paused
	one_is ok "$F/ended/restore" "$F/one/snapshots/s"; one_is ok "$F/ended/state" stopped
	one_is ENOENT "$F/failed/restore" "$T/missing"
	refused $all
	is "before" "$(printf '%s\n' running paused exited failed empty)" "$(for f in $all; do state_of "$f"; done)"
	# Who may search but not read finds nothing either, who may read but not search the names only.
	ok one chmod 711 "$F/one"
	is "of 711" "" "$(find "$F/one" -mindepth 1 | two timeout 60 "$TOOLS/walk" "$F/two" | grep -vE '^(stat ok|[a-z]+ (EACCES|EPERM|ENOTDIR|EISDIR|EEXIST|EXDEV)) ' | head -n 5)"
	ok one chmod 755 "$F/one"
	opens_as 0 two one
	is "written by others in 755" 0 "$(opened_to_write)"
	ok one chmod 777 "$F/one"
	opens_as 0 two one
	[ "$(opened_to_write)" -gt 0 ] || bad "nothing can be written in 777"
	ok one chmod 750 "$F/one"
	opens_as 3 group one
	is "written by the group in 750" 0 "$(opened_to_write)"
	refused one
	ok one chmod 770 "$F/one"
	opens_as 3 group one
	ok one chmod 700 "$F/one"
	refused $all
	is "after" "$(printf '%s\n' running paused exited failed empty)" "$(for f in $all; do state_of "$f"; done)"
	is "what there is" "config empty ended failed one paused two" "$(find "$F" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort | xargs)"
	is "its events" 0 "$(two cat "$F/events" | grep -cE '"fork":"(one|paused|ended|failed|empty)"')"
	is "its error" "" "$(two cat "$F/error" | grep -v two)"
	is "metrics" 0 "$(two cat "$F/metrics" | grep -cE '"(one|ended)"')"
}

# Whoever may open what a snapshot's directory holds may restore it, by whatever way: modes, groups, links, mounts.
test_snapshots_shared() {
	world
	ok one mkdir "$F/one/snapshots/s"
	ln -s "$F/one/snapshots/s" "$T/link"
	mkdir "$T/bind" "$T/above"
	mount --bind "$F/one/snapshots/s" "$T/bind"
	mount --bind "$F/one" "$T/above"
	local mode path n=0
	# restores EXPECTED WHO
	restores() {
		for path in "$F/one/snapshots/s" "$T/link" "$T/bind" "$T/above/snapshots/s"; do
			n=$((n + 1))
			is "$2, mode $mode, $path" "$1" "$(printf '%s 1 n%s-\n' "$path" "$n" | "$2" timeout 20 "$TOOLS/put" "$F/restore")"
		done
	}
	while read -r mode others group; do
		ok one chmod "$mode" "$F/one"
		restores "$others" two
		restores "$group" group
	done <<-'END'
		700 EACCES EACCES
		750 EACCES ok
		740 EACCES EACCES
		705 ok EACCES
		711 EACCES EACCES
		755 ok ok
	END
	umount "$T/bind" "$T/above"
}

# The descriptor of somebody who may less, in the hands of somebody who may more.
test_handed_over() {
	world
	description "$T/private"
	chmod 700 "$T/private"
	ok one mkdir "$F/mine"
	is "root into what user 12345 opened" EACCES "$(timeout 20 "$TOOLS/put" -r -f 12345 "$F/mine/boot" <<<"$T/private/base.json")"
	like "error" "user 12345, .*opened it and user 0" "$(error_of mine)"
	is "root into the root's" EACCES "$(timeout 20 "$TOOLS/put" -r -f 12345 "$F/restore" <<<"$T/private 2 w-")"
	state_is mine empty
	# The other way round nobody gets more than he has.
	is "user 12345 into what root opened" EACCES "$(one timeout 20 sh -c 'cat >&3' <<<"$T/private/base.json" 3>"$F/mine/boot" 2>&1 | grep -o 'denied' | sed 's/denied/EACCES/')"
	is "user 12345 into what root opened" "" "$(one timeout 20 sh -c 'cat >&3' <<<"$T/vm/base.json" 3>"$F/mine/boot" 2>&1)"
	state_is mine running
}

# A thread whose request we hold waits for us, however it asked: else its number could be another's when we look who it is.
test_submitted() {
	world
	local pid path=$F/one/snapshots/s
	ok one mkdir "$path" "$F/mine"
	one_is ok "$F/mine/restore" "$path"
	one_is ok "$F/mine/state" stopped
	mkfifo "$T/go"
	one timeout 60 "$TOOLS/submit" "$F/mine/restore" "$path" <>"$T/go" >"$T/said" &
	wait_for 10 grep -q open "$T/said"
	pid=$(pgrep -u 12345 -x submit)
	kill -STOP "$DAEMON"
	echo go >"$T/go"
	wait_for 10 eval 'grep -q submitted "$T/said" || grep -q request_wait /proc/'"$pid"'/wchan'
	is "before the answer" open "$(xargs <"$T/said")"
	kill -CONT "$DAEMON"
	wait_for 20 grep -qx ok "$T/said"
	state_is mine running
}

# A writer that becomes root meanwhile, or is killed, in a race: what is opened is what the writer may.
test_turncoat() {
	world
	description "$T/private"
	chmod 700 "$T/private"
	is "writes of what user 12346 may not read" 0 "$(timeout 100 "$TOOLS/turncoat" 12346 "$F/two/boot" "$T/private/base.json" 60)"
	like "state" '^(empty|failed)$' "$(state_of two)"
	timeout 100 "$TOOLS/turncoat" 12346 "$F/two/boot" "$T/vm/base.json" 3 >/dev/null
	like "and of what it may" '^(empty|failed|running)$' "$(state_of two)"
}

# Names that change between a directory or file of one's own and a link to root's: root's bytes never come in.
test_swapped() {
	start -o allow_other,mem_write=1
	booted base
	put_at base 4096 PUBLIC; mkdir "$F/base/snapshots/p"; cp -r "$F/base/snapshots/p" "$T/public"
	put_at base 4096 SECRET; mkdir "$F/base/snapshots/s"; cp -r "$F/base/snapshots/s" "$T/secret"
	chown -R 12346:12346 "$T/public"; chmod 755 "$T/public"; chmod 644 "$T/public"/*
	chmod 700 "$T/secret"; chmod 600 "$T/secret"/*
	mkdir "$T/play" "$T/play/files"
	cp "$T/public"/* "$T/play/files/"
	ln -s "$T/secret" "$T/play/link"
	cp -r "$T/public" "$T/play/dir"
	ln -s "$T/secret/memory.bin" "$T/play/files/other"
	chown -R -h 12346:12346 "$T/play"; chmod 755 "$T/play/dir" "$T/play/files"; chmod 644 "$T/play/dir"/*
	two timeout 110 "$TOOLS/swap" "$T/play/dir" "$T/play/link" & two timeout 110 "$TOOLS/swap" "$T/play/files/memory.bin" "$T/play/files/other" &
	local i path said went=0 refused=0
	for i in $(seq 1 20); do
		for path in dir files; do
			said=$(printf '%s 1 r-\n' "$T/play/$path" | two timeout 20 "$TOOLS/put" "$F/restore")
			case $said in
				ok)
					went=$((went + 1))
					is "its memory" PUBLIC "$(two dd if="$F/r-0/mem" bs=1 skip=4096 count=6 status=none)"
					two rmdir "$F/r-0" ;;
				EACCES|EINVAL) refused=$((refused + 1)) ;;
				*) bad "restore: $said: $(two cat "$F/error")" ;;
			esac
		done
	done
	pkill -KILL -f "^$TOOLS/swap $T/" # what is left of them when the jobs are killed
	[ "$went" -gt 0 ] && [ "$refused" -gt 0 ] || bad "no race: $went went through, $refused didn't"
}

# What each user's forks may be and take. Root is not bound.
test_user_forks_max() {
	world -o user_forks_max=3
	ok one mkdir "$F/one/snapshots/s"
	ok one mkdir "$F/o2"
	one_is ENOSPC "$F/restore" "$F/one/snapshots/s 2 w-"
	like "error" "user_forks_max.* 3 .*user 12345 has 2" "$(one cat "$F/error")"
	is "nothing of it, not even for a moment" 0 "$(one cat "$F/events" | grep -c '"w-')"
	one_is ok "$F/restore" "$F/one/snapshots/s 1 w-"
	no one mkdir "$F/o4"
	like "error" "fork o4: .*user_forks_max" "$(one cat "$F/error")"
	is "clone" ENOSPC "$(one timeout 20 "$TOOLS/ask" "$F/clone" | grep -o ENOSPC)"
	# Another's limit is another's; names that are taken count for nobody else.
	ok two mkdir "$F/t2" "$F/t3"
	no two mkdir "$F/t4"
	ok mkdir "$F/r1" "$F/r2" "$F/r3" "$F/r4"
	# Who is given a fork has it, and one that is given away makes room.
	ok chown 12346 "$F/o2"
	ok one mkdir "$F/o5"
	ok two rmdir "$F/t3"
	no two mkdir "$F/t5"
	ok two rmdir "$F/o2"
	ok two mkdir "$F/t6"
	ok mkdir "$F/o7"; ok chown 12345 "$F/o7"
	command_is ok "$F/config/user_forks_max" 0
	ok one mkdir "$F/o8"
}

test_user_memory_max() {
	world -o user_memory_max=20
	ok one mkdir "$F/one/snapshots/s"
	ok one chmod 755 "$F/one"
	one_is ENOMEM "$F/restore" "$F/one/snapshots/s 2 w-"
	like "error" "16 MiB .*user_memory_max .*user 12345 20 MiB, 8 MiB are taken" "$(one cat "$F/error")"
	is "nothing of it" 0 "$(ls "$F" | grep -c '^w-')"
	one_is ok "$F/restore" "$F/one/snapshots/s 1 w-"
	ok one mkdir "$F/o3"
	one_is ENOMEM "$F/o3/restore" "$F/one/snapshots/s"
	one_is ENOMEM "$F/o3/boot" "$T/vm/base.json"
	state_is o3 failed
	like "error" "user_memory_max" "$(error_of o3)"
	two_is ok "$F/restore" "$F/one/snapshots/s 2 t-"
	command_is ok "$F/restore" "$F/one/snapshots/s 4 r-"
	# A fork counts for who has it, whoever writes into it.
	command_is ENOMEM "$F/o3/restore" "$F/one/snapshots/s"
	ok chown 12346 "$F/w-0"
	one_is ok "$F/o3/restore" "$F/one/snapshots/s"
	ok two rmdir "$F/t-0"
	two_is ENOMEM "$F/two/boot" "$T/vm/base.json"
	ok two rmdir "$F/w-0"
	two_is ok "$F/two/boot" "$T/vm/base.json"
}

# The daemon of an ordinary user: what the kernel lets it.
test_ordinary_user() {
	[ -u "$(command -v fusermount3)" ] || skip "fusermount3 is not setuid here"
	if ! setpriv --reuid=nobody --regid=nogroup --clear-groups test -w /dev/fuse; then # no udev has been here: a device of our own, which only this test sees
		[ ! -e "$T/fuse" ] || skip "no /dev/fuse for ordinary users"
		mknod -m 666 "$T/fuse" c 10 229 || skip "no device can be made"
		exec unshare -m --propagation private bash -c 'mount --bind "$T/fuse" /dev/fuse; . tests/lib.sh; . tests/mount/users.sh; run_test test_ordinary_user'
	fi
	# One that has a name, for fusermount3 asks for it.
	one() { setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$@"; }
	local before
	before=$(pgrep -u nobody | xargs)
	mkdir "$F" "$T/runtime"
	chown nobody:nogroup "$F" "$T/runtime"
	description
	XDG_RUNTIME_DIR=$T/runtime setpriv --reuid=nobody --regid=nogroup --clear-groups "$FORKFS_BUILD/fs/forkfs" -f -o vmm=null "$F" >>"$LOG" 2>&1 </dev/null &
	DAEMON=$!
	until_true 30 eval 'daemon_gone || one test -e "$F/help"'
	mounted || { bad "no mount: $(tail -n 3 "$LOG")"; DAEMON=; return; }
	like "doctor" '^warn +privilege' "$(one cat "$F/doctor")"
	ok one mkdir "$F/a"
	is "boot" ok "$(one "$TOOLS/put" "$F/a/boot" <<<"$T/vm/base.json")"
	is "state" running "$(one cat "$F/a/state")"
	is "Uid" "$(id -u nobody)" "$(one cat "$F/a/status" | sed -n 's/^Uid:[[:space:]]*//p')"
	no cat "$F/a/state" # root is somebody else
	ok one mkdir "$F/a/snapshots/s"
	ok one mkdir "$F/b"
	is "restore" ok "$(one "$TOOLS/put" "$F/b/restore" <<<"$F/a/snapshots/s")"
	kill -KILL "$DAEMON" # the next one has no privilege either
	wait "$DAEMON" 2>/dev/null
	expect_log 'the mount of a daemon that died is cleared'
	XDG_RUNTIME_DIR=$T/runtime setpriv --reuid=nobody --regid=nogroup --clear-groups "$FORKFS_BUILD/fs/forkfs" -f -o vmm=null "$F" >>"$LOG" 2>&1 </dev/null &
	DAEMON=$!
	until_true 30 eval 'daemon_gone || one test -e "$F/help"'
	is "state after a takeover" running "$(one cat "$F/b/state")"
	kill "$DAEMON"
	wait_for 20 daemon_gone
	wait "$DAEMON"; is "exit status" 0 $?
	DAEMON=
	! mounted || { bad "still mounted"; umount -l "$F"; }
	wait_for 5 eval '[ "$(pgrep -u nobody | xargs)" = "'"$before"'" ]'
}
