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

test_files() {
	local dir secret=$T/secret
	start
	grep -q '^ok   landlock' "$F/doctor" || skip "no Landlock here"
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

# Who it is, and what it has open: nothing that isn't known.
test_from_outside() {
	local pid fd strange
	start
	ready count || return
	child a "$READY"
	pid=$(pid_of a)
	status() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status"; }
	is "no new privileges" 1 "$(status NoNewPrivs)"
	is "seccomp" 2 "$(status Seccomp)"
	for key in CapInh CapPrm CapEff CapBnd CapAmb; do
		[ "$key" = CapBnd ] || is "$key" 0000000000000000 "$(status "$key")"
	done
	is "groups" "" "$(status Groups)"
	[ "$(status Uid | cut -f1)" -ge "$UID_FIRST" ] || bad "it is user $(status Uid)"
	is "cores" 0 "$(awk '/^Max core/ { print $6 }' "/proc/$pid/limits")"
	like "its environment" '^LD_PRELOAD=[^ ]* FORKFS_RAM=[0-9]+ FORKFS_HANDOVER=[0-9]+( FORKFS_UFFD=[0-9]+)?( FORKFS_KVM=[0-9]+)? $' "$(tr '\0' ' ' <"/proc/$pid/environ")"
	[ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ] || bad "it shares our network"
	strange=$(for fd in "/proc/$pid/fd"/*; do readlink "$fd"; done | grep -vE \
		'^(/dev/null|/dev/userfaultfd|/dev/kvm|socket:.*|pipe:.*|anon_inode:.*|/memfd:(forkfs|preload|forkfs-preload)[^ ]* \(deleted\)|.*/(console|log)\.txt|.*/forkfs-preload\.so|'"$READY"'/memory.bin)$')
	is "descriptors that nobody knows" "" "$strange"
}
