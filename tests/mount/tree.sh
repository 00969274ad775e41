# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What is in the tree, who owns it, and what can't be made in it.

FORK_FILES="boot config console dirty error log maps mem restore snapshots state status wait"

test_names() {
	start
	is "the root" "clone config doctor error events help metrics restore" "$(ls "$F" | sort | xargs)"
	with_snapshot
	is "the root with a fork" "base clone config doctor error events help metrics restore" "$(ls "$F" | sort | xargs)"
	is "a fork" "$FORK_FILES" "$(ls "$F/base" | sort | xargs)"
	is "snapshots/" ready "$(ls "$F/base/snapshots")"
	is "a snapshot" "memory.bin snapshot.json state vmstate workingset" "$(ls "$F/base/snapshots/ready" | sort | xargs)"
	is "its state" complete "$(cat "$F/base/snapshots/ready/state")"
	ok jq -e . "$F/base/snapshots/ready/snapshot.json"
	no stat "$F/nothing"
	no stat "$F/base/nothing"
	no stat "$F/base/snapshots/nothing"
}

test_modes() {
	start
	booted a
	is "the root" "755 0 0" "$(stat -c '%a %u %g' "$F")"
	is "a fork" "700 0 0" "$(stat -c '%a %u %g' "$F/a")"
	local f
	for f in help metrics doctor error; do is "$f" 444 "$(stat -c %a "$F/$f")"; done
	for f in $FORK_FILES; do
		[ -d "$F/a/$f" ] || like "mode of $f" '^(600|400) 0 0$' "$(stat -c '%a %u %g' "$F/a/$f")"
	done
	for f in console state wait boot restore; do is "mode of $f" 600 "$(stat -c %a "$F/a/$f")"; done
	for f in status maps log error; do is "mode of $f" 400 "$(stat -c %a "$F/a/$f")"; done
	for f in "$F"/config/*; do like "mode of $f" '^[0246]?[64][04]{2} 0 0$' "$(stat -c '%a %u %g' "$f")"; done
}

test_help() {
	start
	local f help
	help=$(cat "$F/help")
	for f in clone restore events metrics doctor config help $FORK_FILES memory.bin vmstate snapshot.json; do
		like "help" "(^|[^a-z_.])$f" "$help"
	done
	like "help" inotify "$help"
}

# stat's size is what reading gives.
test_sizes() {
	start
	with_snapshot
	echo paused >"$F/base/state"
	local f
	while read -r f; do
		is "size of ${f#"$F"/}" "$(stat -c %s "$f")" "$(wc -c <"$f")"
	done < <(find "$F/base" "$F/config" "$F/help" "$F/doctor" -type f)
}

# The same file, twice: the same inode number; two files: two.
test_inodes() {
	start
	booted a
	is "inode" "$(stat -c %i "$F/a/wait")" "$(stat -c %i "$F/a/wait")"
	is "each has its own" "" "$(find "$F" -printf '%i\n' | sort | uniq -d)"
}

test_ids() {
	start
	local id
	for id in A.b_c-d 0 "$(printf 'x%.0s' {1..64})" Help; do mkdir_is ok "$F/$id"; done
	for id in .x -x 'a b' 'a:b' 'ä' "$(printf 'x%.0s' {1..65})"; do
		mkdir_is EINVAL "$F/$id"
		like "error" . "$(root_error)"
	done
	for id in help clone restore events metrics doctor config error 0; do mkdir_is EEXIST "$F/$id"; done
}

# What is no command file can't be made, and rm is not the way.
test_nothing_else() {
	start
	with_snapshot
	local where
	for where in "$F" "$F/base" "$F/base/snapshots" "$F/base/snapshots/ready" "$F/config" "$F/base/config"; do
		like "touch in ${where#"$F"}" "not permitted" "$(LC_ALL=C touch "$where/new" 2>&1)"
		like "ln -s in ${where#"$F"}" "not permitted" "$(LC_ALL=C ln -s /etc "$where/new" 2>&1)"
		like "mkfifo in ${where#"$F"}" "not permitted" "$(LC_ALL=C mkfifo "$where/new" 2>&1)"
		like "ln in ${where#"$F"}" "not permitted" "$(LC_ALL=C ln "$F/base/state" "$where/new" 2>&1)"
	done
	for where in "$F/base" "$F/base/snapshots/ready" "$F/config" "$F/base/config"; do mkdir_is EPERM "$where/new"; done
	for where in help base/state base/config/vmm config/vmm base/snapshots/ready/memory.bin; do
		like "rm $where" "not permitted" "$(LC_ALL=C rm -f "$F/$where" 2>&1)"
		like "mv $where" "not permitted" "$(LC_ALL=C mv "$F/$where" "$F/other" 2>&1)"
	done
	like "mv a snapshot" "not permitted" "$(LC_ALL=C mv "$F/base/snapshots/ready" "$F/base/snapshots/other" 2>&1)"
	like "rmdir config" "not permitted|denied" "$(LC_ALL=C rmdir "$F/config" 2>&1)"
	like "rmdir snapshots" "not permitted|denied" "$(LC_ALL=C rmdir "$F/base/snapshots" 2>&1)"
	like "rm -r" "not permitted" "$(LC_ALL=C rm -r "$F/base" 2>&1)"
	state_is base running
	no chmod 0777 "$F/help"
	no chown 12345 "$F/base/state"
}

test_rename() {
	start
	booted a
	booted b
	echo marker >"$F/a/console"
	wait_for 10 grep -q marker "$F/a/console"
	local pid
	pid=$(status_of a Pid)
	ok mv "$F/a" "$F/c"
	no stat "$F/a"
	is "Pid" "$pid" "$(status_of c Pid)"
	is "Id" c "$(status_of c Id)"
	ok grep -q marker "$F/c/console"
	no mv -T "$F/c" "$F/b"
	no mv "$F/c" "$F/b" # would be b/c
	no mv -T "$F/c" "$F/.x"
	no mv -T "$F/c" "$F/help"
	state_is b running
	state_is c running
	# One that is open stays with its fork.
	exec 5<"$F/c/status"
	ok mv "$F/c" "$F/a"
	like "an open file" 'Id:[[:space:]]+(a|c)' "$(cat <&5)"
	exec 5<&-
	ok rmdir "$F/a"
	ok rmdir "$F/b"
}

test_rmdir() {
	start
	booted a
	local pid
	pid=$(status_of a Pid)
	exec 5<>"$F/a/console" 6<"$F/a/status"
	ok rmdir "$F/a"
	no stat "$F/a"
	wait_for 10 eval "! kill -0 $pid"
	wait_for 10 eval '[ -z "$(vmms)" ]'
	soon cat <&6 >/dev/null 2>&1; [ $? != 124 ] || bad "an open file of a removed fork hangs"
	soon cat <&5 >/dev/null 2>&1; [ $? != 124 ] || bad "a conversation with a removed fork hangs"
	exec 5<&- 6<&-
	wait_for 10 grep -q '"a"' "$F/events"
	no rmdir "$F/a"
	booted a
	state_is a running
}

test_df() {
	start
	local total
	total=$(df -k --output=size "$F" | tail -n 1)
	[ "$total" -gt 1000 ] || bad "df shows $total KiB"
	ok df -i "$F"
	is "file system type" fuse.forkfs "$(awk -v p="$F" '$5 == p { sub(/.* - /, ""); print $1 }' /proc/self/mountinfo)"
}
