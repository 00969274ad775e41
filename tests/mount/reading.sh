# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Reading changes nothing and never hangs: the standard tools, all over a mount with a running VM.

# What must be the same afterwards.
picture() { (cd "$F" && ls -R . && cat base/state base/restore a/state base/config/* config/* && sed -n '/^\(Id\|State\|Pid\|Snapshot\|Generation\):/p' */status); }

world() {
	start "$@"
	with_snapshot || return
	mkdir "$F/a" "$F/e"
	"$TOOLS/put" "$F/a/restore" <<<"$F/base/snapshots/ready" >/dev/null
	picture >"$T/before"
}

same() {
	is "after $1" "" "$(picture | diff "$T/before" - | head -n 5)"
}

long() { timeout -k 10 60 "$@"; }

test_readers() {
	world
	local r
	(cd "$F" && long cat * >/dev/null 2>"$T/err"); [ $? != 124 ] || bad "cat * hangs"
	(cd "$F/a" && long cat * >/dev/null 2>"$T/err"); [ $? != 124 ] || bad "cat * hangs"
	like "cat's complaints" '^(cat: [a-z]+: Is a directory *)+$' "$(tr '\n' ' ' <"$T/err")"
	same cat
	long grep -r 'no such word' "$F" >/dev/null 2>"$T/err"; r=$?
	is "grep -r" 1 "$r"; same grep
	ok long find "$F" -type f -exec cat {} + ; same find
	ok long find "$F" -type f -exec head -c 1 {} ';'
	ok long ls -lR "$F"
	ok long stat "$F" "$F"/* "$F"/a/*
	ok long df "$F" "$F/a/state"
	ok long du -s "$F"
	ok long wc -c "$F"/a/status "$F"/help
	ok long md5sum "$F"/a/state "$F"/help
	ok eval 'long tail -n 3 "$F"/a/* 2>/dev/null >/dev/null || true'
	same "the readers"
}

test_copiers() {
	world
	local r
	long tar -C "$F" -cf "$T/all.tar" . >"$T/err" 2>&1; r=$?
	[ "$r" -le 1 ] || bad "tar: $r: $(cat "$T/err")"
	same tar
	ok long cp -r "$F" "$T/copied"; same "cp -r"
	[ -f "$T/copied/a/status" ] || bad "cp left status out"
	long rsync -a "$F/" "$T/synced/" >"$T/err" 2>&1; r=$?
	case $r in 0|23|24) ;; *) bad "rsync: $r: $(cat "$T/err")" ;; esac
	same rsync
	ok cmp "$F/base/snapshots/ready/memory.bin" "$T/synced/base/snapshots/ready/memory.bin"
	ok long dd if="$F/a/status" of="$T/status" bs=1 status=none
	ok diff <(grep -v Mem "$T/status") <(grep -v Mem "$F/a/status")
	ok long dd if="$F/help" of="$T/help" bs=1 status=none
	ok cmp "$T/help" "$F/help"
	same dd
}

# While nothing moves there is nothing to warn about.
test_still() {
	world
	echo paused >"$F/a/state"
	echo paused >"$F/base/state"
	picture >"$T/before"
	is "tar's warnings" "" "$(long tar -C "$F" --exclude ./metrics --exclude ./events --exclude ./error -cf "$T/all.tar" . 2>&1)"
	is "rsync's warnings" "" "$(long rsync -a --exclude /metrics "$F/" "$T/synced/" 2>&1)"
	is "tar's warnings of a fork" "" "$(long tar -C "$F" -cf "$T/a.tar" a 2>&1)"
	is "the same twice" "" "$(diff <(cd "$F/a" && md5sum status state maps console log error mem 2>/dev/null) <(cd "$F/a" && md5sum status state maps console log error mem))"
	same "tar and rsync"
	is "sparse stays sparse" 1 "$(( $(du -k "$T/synced/../a.tar" | cut -f1) > 0 ))"
}

# Writers that aren't meant: nothing is changed that shouldn't be.
test_vandals() {
	world
	echo hello >"$F/a/console"
	wait_for 10 grep -q hello "$F/a/console"
	long rm -r "$F/a" >/dev/null 2>&1 && bad "rm -r succeeded"
	long rm -rf "$F/base/snapshots" >/dev/null 2>&1 && bad "rm -rf succeeded"
	same "rm -r"
	long sed -i s/a/b/ "$F/a/state" >/dev/null 2>&1 && bad "sed -i succeeded"
	long sed -i s/a/b/ "$F/help" >/dev/null 2>&1 && bad "sed -i succeeded"
	long mv "$F/a/status" "$T/" >/dev/null 2>&1 && bad "mv succeeded"
	same "sed -i and mv"
	long truncate -s 0 "$F"/a/* 2>/dev/null
	long truncate -s 100 "$F"/a/state 2>/dev/null
	(: >"$F/a/console") 2>/dev/null
	(: >"$F/a/mem") 2>/dev/null
	(: >"$F/help") 2>/dev/null
	same truncate
	ok grep -q hello "$F/a/console"
	long cp "$F/help" "$F/a/status" 2>/dev/null && root_may
	long cp -r "$F/a" "$F/copy" >/dev/null 2>&1
	[ ! -d "$F/copy" ] || rmdir "$F/copy" # a fork of its own, which has had what is in `restore` written to its own
	long touch "$F/a/state" 2>/dev/null
	same "cp"
	echo x | long tee "$F/a/status" "$F/a/maps" "$F/metrics" >/dev/null 2>&1 && bad "tee wrote what can't be written"
	echo x | long tee "$F/a/nothing" >/dev/null 2>&1 && bad "tee made a file"
	long mv "$F/a" "$T/" >/dev/null 2>&1 && bad "mv across file systems succeeded"
	[ -d "$F/a" ] || bad "a is gone"
	same "tee and mv"
	long tar -C "$T" -xf <(tar -C "$F" -c help) -C "$F" 2>/dev/null
	same "tar -x"
}
root_may() { bad "cp into status succeeded"; }

# One open is one rendering; a read at the start renders anew.
test_rendering() {
	world
	exec 5<"$F/a/state"
	is "first" running "$(head -c 7 <&5)"
	echo paused >"$F/a/state"
	exec 5<&-
	exec 5<"$F/a/status"
	local size
	size=$(stat -c %s "$F/a/status")
	is "size" "$size" "$(cat <&5 | wc -c)"
	exec 5<&-
	# dd seeks to 0 by opening anew; python-like pread at 0 is what tail -f does.
	is "anew" paused "$(cat "$F/a/state")"
}

# Readers, writers and removers at once; what is asked is that all of it ends and the daemon stays well.
test_all_at_once() {
	world
	local i pids=
	for i in 1 2 3; do
		(for _ in {1..8}; do timeout 20 find "$F" -type f -exec cat {} + >/dev/null 2>&1; done) & pids="$pids $!"
		(for n in {1..8}; do
			timeout 20 mkdir "$F/x$i-$n" && timeout 20 "$TOOLS/put" "$F/x$i-$n/restore" <<<"$F/base/snapshots/ready"
			timeout 20 rmdir "$F/x$i-$n"
		done) >"$T/churn$i" 2>&1 & pids="$pids $!"
		(for _ in {1..20}; do echo paused >"$F/a/state"; echo running >"$F/a/state"; done) 2>/dev/null & pids="$pids $!"
	done
	# shellcheck disable=SC2086
	wait $pids
	is "restores that failed" "" "$(cat "$T"/churn* | grep -v '^ok$' | head -n 3)"
	is "how many" 24 "$(cat "$T"/churn* | grep -c '^ok$')"
	command_is ok "$F/a/state" running
	wait_for 10 eval '[ "$(vmms | wc -l)" = 2 ]'
	same "all at once"
}
