# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# config/, mount options, the command line.

test_config() {
	start
	mkdir "$F/a"
	local key
	for key in vmm machine memory_backend fill network accel mem_write console_max; do
		[ -s "$F/config/$key" ] || bad "no config/$key"
		[ -s "$F/a/config/$key" ] || bad "no a/config/$key"
		is "a/config/$key" "$(cat "$F/config/$key")" "$(cat "$F/a/config/$key")"
	done
	for key in forks_max memory_max user_forks_max user_memory_max vmm_memory_max vmm_cpu_max vmm_pids_max uids snapshot_dir disk_dir qemu firecracker events_max; do
		[ -s "$F/config/$key" ] || bad "no config/$key"
		[ ! -e "$F/a/config/$key" ] || bad "a/config/$key is there"
	done
	is "vmm" null "$(cat "$F/config/vmm")"
	is "uids" "$UIDS" "$(cat "$F/config/uids")"
	command_is ok "$F/config/machine" pc
	mkdir "$F/b"
	is "a new fork" pc "$(cat "$F/b/config/machine")"
	is "an old one" microvm "$(cat "$F/a/config/machine")"
	command_is ok "$F/b/config/machine" microvm
	is "the default" pc "$(cat "$F/config/machine")"
	while read -r key value; do
		command_is EINVAL "$F/config/$key" "$value"
		like "error after $key=$value" "$key" "$(root_error; cat "$F/config/error" 2>/dev/null)"
	done <<-'END'
		vmm xen
		machine q36
		memory_backend disk
		fill never
		accel hax
		mem_write 2
		mem_write yes
		console_max -1
		console_max many
		forks_max x
		forks_max 1.5
		memory_max -5
		user_forks_max -1
		user_memory_max 1G
		uids 0-5
		uids 70000
		uids 9-5
		snapshot_dir relative/path
		disk_dir relative/path
		qemu ./qemu
		events_max 99999999999999999999
	END
	is "a blank line" EINVAL "$(poke "$F/config/vmm" '\n')"
	is "two words" EINVAL "$(poke "$F/config/vmm" 'null null\n')"
	is "vmm" null "$(cat "$F/config/vmm")"
	no cat "$F/config/nothing"
}

# refused_option PATTERN FORKFS'S ARGUMENTS...
refused_option() {
	local pattern=$1 said r=0; shift
	mkdir -p "$F"
	said=$(timeout 20 "$FORKFS_BUILD/fs/forkfs" -f "$@" "$F" 2>&1 </dev/null) || r=$?
	[ "$r" != 0 ] && [ "$r" != 124 ] || bad "forkfs $*: status $r"
	like "forkfs $*" "$pattern" "$said"
	! mounted || { bad "forkfs $*: mounted"; umount -l "$F"; }
}

test_options_refused() {
	refused_option nonsense -o "state=$S,nonsense"
	refused_option nonsense -o "state=$S,nonsense=1"
	refused_option vmm -o "state=$S,vmm=xen"
	refused_option forks_max -o "state=$S,forks_max=x"
	refused_option uids -o "state=$S,uids=5"
	refused_option log -o "state=$S,log=loud"
	refused_option state -o "state=relative"
	refused_option . --nonsense
	local said
	said=$(timeout 20 "$FORKFS_BUILD/fs/forkfs" -f -o "state=$S" "$T/missing" 2>&1) && bad "mounted on what isn't there"
	like "a missing mount point" missing "$said"
	said=$(timeout 20 "$FORKFS_BUILD/fs/forkfs" 2>&1) && bad "no mount point: succeeded"
	like "no mount point" . "$said"
}

test_command_line() {
	local help version
	help=$("$FORKFS_BUILD/fs/forkfs" --help 2>&1) || bad "--help: $?"
	like "--help" "state=" "$help"
	like "--help" "allow_other" "$help"
	version=$("$FORKFS_BUILD/fs/forkfs" --version 2>&1) || bad "--version: $?"
	like "--version" '0\.1\.0' "$version"
	is "-h" "$help" "$("$FORKFS_BUILD/fs/forkfs" -h 2>&1)"
}

# As mount(8) calls it, and as it goes to the background.
test_source_and_background() {
	mkdir "$F"
	export PATH="$FORKFS_BUILD/fs:$PATH"
	ok timeout 30 forkfs forkfs "$F" -o "rw,state=$S,vmm=null,uids=$UIDS,dev,suid"
	mounted || bad "not mounted"
	ok mkdir "$F/a"
	umount "$F"
	wait_for 20 eval '! mounted'
	wait_for 20 eval '! pgrep -f "state=$S"'
	ok timeout 30 forkfs "$F" -o "state=$S,vmm=null,uids=$UIDS,log=debug"
	mounted || bad "not mounted"
	booted a
	state_is a running
	umount "$F"
	wait_for 20 eval '[ -z "$(vmms)" ]'
	wait_for 20 eval '! pgrep -f "state=$S"'
}

test_mount_helper() {
	mkdir "$F"
	[ -x /sbin/mount.fuse3 ] || [ -x /sbin/mount.fuse ] || skip "no mount.fuse here"
	ok env PATH="$FORKFS_BUILD/fs:$PATH" timeout 30 mount -t "fuse.$FORKFS_BUILD/fs/forkfs" none "$F" -o "state=$S,vmm=null,uids=$UIDS" || return
	mounted || bad "not mounted"
	umount "$F"
	wait_for 20 eval '! pgrep -f "state=$S"'
}

# Two daemons, one state directory.
test_second_daemon() {
	start
	mkdir "$T/second"
	local said
	said=$(timeout 20 "$FORKFS_BUILD/fs/forkfs" -f -o "state=$S,vmm=null,uids=$UIDS" "$T/second" 2>&1 </dev/null) && bad "a second daemon with the same state directory"
	like "its sentence" "$S" "$said"
	no mountpoint -q "$T/second"
	ok ls "$F"
}

# Where the state is when nobody says: one directory a mount point, which goes with it.
test_default_state() {
	mkdir "$F"
	"$FORKFS_BUILD/fs/forkfs" -f -o "vmm=null,uids=$UIDS" "$F" >>"$LOG" 2>&1 </dev/null &
	DAEMON=$!
	until_true 30 test -e "$F/help"
	booted a
	local name=${F#/}
	[ -d "/run/forkfs/${name//\//-}" ] || bad "not in /run/forkfs: $(ls /run/forkfs)"
	is "its mode" 700 "$(stat -c %a "/run/forkfs/${name//\//-}")"
	stop
	rmdir "/run/forkfs/${name//\//-}" 2>/dev/null || [ ! -d "/run/forkfs/${name//\//-}" ] || rm -r "/run/forkfs/${name//\//-}"
}

# ro: nothing can be made, all can be read.
test_read_only() {
	start -o ro
	like "mkdir" "Read-only" "$(LC_ALL=C mkdir "$F/a" 2>&1)"
	ok cat "$F/help" "$F/metrics"
}
