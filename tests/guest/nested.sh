# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What this host has not: a fork whose guest is Debian's kernel with control groups of version 2, without Landlock or under a systemd, and in it a forkfs of its own. The guest's
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

# nested_guest SCRIPT [PROGRAM...]: $T/vm/base.json describes the guest.
nested_guest() {
	local root=$T/nested script=$1; shift
	"$ROOT/examples/make-guest" --memory 512 "$T/vm" >"$T/make-guest" 2>&1 || { bad "make-guest: $(cat "$T/make-guest")"; return 1; }
	mkdir -p "$root/bin"
	cp "$FORKFS_BUILD/fs/forkfs" "$FORKFS_BUILD/vmm/forkfs-null-vmm" "$FORKFS_BUILD/vmm/forkfs-keeper" "$FORKFS_BUILD/vmm/forkfs-preload.so" "$TOOLS/xattr" "$@" "$root/bin/"
	with_libraries "$root" "$root"/bin/*
	install -m 0644 "$CACHE/kernel/fuse.ko" "$root/"
	install -m 0755 tests/guest/nested/init tests/guest/nested/checks "$root/"
	install -m 0755 "tests/guest/nested/$script" "$root/script"
}

# boot_nested SCRIPT BOOT_ARGS: until the script is through; all that it looks at has to be ok.
boot_nested() {
	local said
	(cd "$T/nested" && find . | cpio --quiet -o -H newc -R 0:0) | gzip -1 >>"$T/vm/initrd"
	sed -i "s/\"boot_args\": \"/&$2 /" "$T/vm/base.json"
	start
	mkdir "$F/host"
	command_is ok "$F/host/boot" "$T/vm/base.json"
	wait_for 180 grep -q '^nested: through' "$F/host/console"
	said=$(tr -d '\r' <"$F/host/console")
	is "what is wrong in there" "" "$(grep -E '^BAD|: not found$|panic' <<<"$said")"
	is "what was looked at" "$(grep -cE '^[[:space:]]*(is|like) ' "tests/guest/nested/$1")" "$(grep -c '^ok ' <<<"$said")"
}

test_cgroup2() {
	nested_guest cgroup2 && boot_nested cgroup2 "cgroup_no_v1=all lsm=capability"
}

# Nothing of the system's own units but what every service stands on.
test_systemd() {
	local root=$T/nested units=$T/nested/lib/systemd/system own=$T/nested/etc/systemd/system
	[ -x /lib/systemd/systemd ] && [ -x /bin/systemctl ] || skip "no systemd is installed"
	nested_guest systemd /bin/systemctl || return
	mkdir -p "$units" "$own"
	cp /lib/systemd/systemd "$root/lib/systemd/"
	cp /lib/systemd/system/*.target /lib/systemd/system/*.slice "$units/"
	with_libraries "$root" /lib/systemd/systemd
	sed "s#/usr/local/bin/forkfs -o #/bin/forkfs -o vmm=null,pool=0,#" "$ROOT/examples/forkfs.service" >"$own/forkfs.service"
	printf '[Unit]\nWants=script.service\n' >"$own/default.target"
	printf '[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/sh /script\nStandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyS0\n' >"$own/script.service"
	boot_nested systemd "cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1"
}
