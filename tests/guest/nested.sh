# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What this host's kernel has not: a fork whose guest is Debian's kernel with control groups of version 2 and without Landlock, and in it a forkfs of its own. The guest's
# script says "BAD" of what isn't as it should be (tests/guest/nested).
. tests/guest/common.bash

# with_libraries DIRECTORY PROGRAM...: copies what they are linked with.
with_libraries() {
	local dir=$1 lib; shift
	ldd "$@" | sed -n 's/.*[[:space:]]\(\/[^ ]*\) (0x.*/\1/p' | sort -u | while read -r lib; do
		mkdir -p "$dir$(dirname "$lib")"
		cp -L "$lib" "$dir$lib"
	done
}

# $T/vm/base.json describes the guest.
nested_guest() {
	local root=$T/nested
	"$ROOT/examples/make-guest" --memory 512 "$T/vm" >"$T/make-guest" 2>&1 || { bad "make-guest: $(cat "$T/make-guest")"; return 1; }
	mkdir -p "$root/bin"
	cp "$FORKFS_BUILD/fs/forkfs" "$FORKFS_BUILD/vmm/forkfs-null-vmm" "$FORKFS_BUILD/vmm/forkfs-preload.so" "$TOOLS/xattr" "$root/bin/"
	with_libraries "$root" "$root/bin/forkfs" "$root/bin/forkfs-null-vmm" "$root/bin/xattr"
	install -m 0644 "$CACHE/kernel/fuse.ko" "$root/"
	install -m 0755 tests/guest/nested/init tests/guest/nested/cgroup2 "$root/"
	(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) | gzip -1 >>"$T/vm/initrd"
	sed -i 's/"boot_args": "/&cgroup_no_v1=all lsm=capability /' "$T/vm/base.json"
}

test_cgroup2() {
	local said
	nested_guest || return
	start
	mkdir "$F/host"
	command_is ok "$F/host/boot" "$T/vm/base.json"
	wait_for 180 grep -q '^nested: through' "$F/host/console"
	said=$(tr -d '\r' <"$F/host/console")
	is "what is wrong in there" "" "$(grep -E '^BAD|: not found$|panic' <<<"$said")"
	is "what was looked at" "$(grep -cE '^[[:space:]]*(is|like) ' tests/guest/nested/cgroup2)" "$(grep -c '^ok ' <<<"$said")"
}
