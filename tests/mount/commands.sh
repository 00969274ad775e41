# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# One write(2) is one command.

test_all_ways_of_writing() {
	start
	booted a
	ok eval 'echo paused > "$F/a/state"'; state_is a paused
	ok eval 'printf running > "$F/a/state"'; state_is a running
	ok eval 'echo paused | tee "$F/a/state"'; state_is a paused
	ok eval 'echo running | dd of="$F/a/state" status=none'; state_is a running
	ok eval 'echo paused >> "$F/a/state"'; state_is a paused
	ok eval 'printf "running\n" | dd of="$F/a/state" conv=notrunc status=none'; state_is a running
	ok eval 'cat <<<paused > "$F/a/state"'; state_is a paused
	ok eval 'echo "  running	" > "$F/a/state"'; state_is a running
	# An empty file and a truncation are no command.
	ok eval ': > "$F/a/state"'; state_is a running
	ok truncate -s 0 "$F/a/state"; state_is a running
}

test_malformed() {
	start
	with_snapshot
	mkdir "$F/a"
	local file long
	long=$(printf 'x%.0s' {1..5000})
	for file in base/state base/wait a/restore a/boot restore; do
		is "a blank line into $file" EINVAL "$(poke "$F/$file" '\n')"
		is "spaces into $file" EINVAL "$(poke "$F/$file" ' \t \n')"
		is "a NUL into $file" EINVAL "$(poke "$F/$file" 'running\0\n')"
		is "two lines into $file" EINVAL "$(poke "$F/$file" 'paused\npaused\n')"
		is "5,000 bytes into $file" EINVAL "$(poke "$F/$file" "/$long\n")"
		is "no word of its own into $file" EINVAL "$(poke "$F/$file" 'nonsense\n')"
		is "too many words into $file" EINVAL "$(poke "$F/$file" '/a /b /c /d\n')"
		case $file in
			restore) like "error" . "$(root_error)" ;;
			*) like "error of $file" . "$(error_of "${file%/*}")" ;;
		esac
	done
	state_is base running
	command_is ok "$F/a/restore" "$F/base/snapshots/ready"
	state_is a running
}

# refused FORK FILE ERRNO TEXT PATTERN
refused() {
	command_is "$3" "$F/$1/$2" "$4"
	like "error after '$4'" "$5" "$(error_of "$1")"
	is "sentence is one line" 1 "$(wc -l <"$F/$1/error")"
}

test_paths() {
	start
	with_snapshot
	mkdir "$F/a"
	cp -r "$F/base/snapshots/ready" "$T/copy"
	refused a restore EINVAL "copy" "copy"
	refused a restore EINVAL "./copy" "copy"
	refused a restore EINVAL "$T/../${T##*/}/copy" "\.\."
	refused a restore ENOENT "$T/missing" "$T/missing"
	refused a restore ENOENT "$F/base/snapshots/missing" "missing"
	refused a restore ENOENT "$F/nobody/snapshots/ready" "nobody"
	refused a boot EINVAL "vm/base.json" "vm/base.json"
	refused a boot ENOENT "$T/missing.json" "$T/missing.json"
	mkdir "$T/empty"
	refused a restore ENOENT "$T/empty" "$T/empty"
	# A path through the writer's own descriptors.
	local said
	exec 7<"$T/copy"
	said=$(printf '/proc/self/fd/7\n' | "$TOOLS/put" "$F/a/restore")
	exec 7<&-
	like "through /proc/self/fd" '^(EINVAL|ELOOP|EACCES)$' "$said"
	like "its sentence" /proc/self/fd "$(error_of a)"
	like "a file for a directory" '^(EINVAL|ENOTDIR)$' "$(poke "$F/a/restore" "$T/copy/memory.bin\n")"
	like "a directory for a file" '^(EINVAL|EISDIR)$' "$(poke "$F/a/boot" "$T/copy\n")"
	mkfifo "$T/fifo"
	is "a FIFO" EINVAL "$(poke "$F/a/boot" "$T/fifo\n")"
	is "a device" EINVAL "$(poke "$F/a/boot" "/dev/zero\n")"
	like "state after refusals" '^(empty|failed)$' "$(state_of a)"

	# White space and symbolic links.
	mkdir "$T/a b"
	cp -r "$T/copy" "$T/a b/with	tab"
	command_is ok "$F/a/restore" "$T/a\\040b/with\\011tab"
	state_is a running
	mkdir "$F/b"
	ln -s copy "$T/link"
	command_is ok "$F/b/restore" "$T/link"
	mkdir "$F/c"
	ln -s "$F/base/snapshots/ready" "$T/into"
	command_is ok "$F/c/restore" "$T/into"
}

# Through the mount in ways that lead around: never waits on itself.
test_paths_inside() {
	start
	with_snapshot
	mkdir "$F/a"
	ln -s "$F/a/restore" "$T/self"
	like "itself" '^E' "$(poke "$F/a/restore" "$F/a/restore\n")"
	like "itself by a link" '^E' "$(poke "$F/a/restore" "$T/self\n")"
	like "a description that is a file of ours" '^E' "$(poke "$F/a/boot" "$F/a/boot\n")"
	like "a conversation as a description" '^E' "$(poke "$F/a/boot" "$F/events\n")"
	mkdir "$T/snap"
	cp "$F/base/snapshots/ready/snapshot.json" "$F/base/snapshots/ready/vmstate" "$T/snap"
	ln -s "$F/base/snapshots/ready/memory.bin" "$T/snap/memory.bin"
	like "a member that leads into the mount" '^(ok|E[A-Z]+)$' "$(poke "$F/a/restore" "$T/snap\n")"
	wait_for 10 eval 'case "$(state_of a)" in running|empty|failed) true ;; *) false ;; esac'
}

# A description with something wrong is refused by name.
test_descriptions() {
	start
	description
	mkdir "$F/a"
	local d
	d=$T/bad.json
	bad_description() { # ERRNO PATTERN JSON
		printf '%s' "$3" >"$d"
		refused a boot "$1" "$d" "$2"
	}
	bad_description EINVAL "$d" ''
	bad_description EINVAL "$d" '{'
	bad_description EINVAL . '[]'
	bad_description EINVAL "boot-source|kernel" '{}'
	bad_description EINVAL kernel '{"boot-source":{"kernel_image_path":7}}'
	bad_description EINVAL kernel '{"boot-source":{"kernel_image_path":"vm/kernel"}}'
	bad_description ENOENT no-kernel "{\"boot-source\":{\"kernel_image_path\":\"$T/no-kernel\"}}"
	bad_description EINVAL mem_size_mib "{\"boot-source\":{\"kernel_image_path\":\"$T/vm/kernel\"},\"machine-config\":{\"mem_size_mib\":\"8\",\"vcpu_count\":1}}"
	bad_description EINVAL mem_size_mib "{\"boot-source\":{\"kernel_image_path\":\"$T/vm/kernel\"},\"machine-config\":{\"mem_size_mib\":-1,\"vcpu_count\":1}}"
	bad_description EINVAL frobnicate "{\"boot-source\":{\"kernel_image_path\":\"$T/vm/kernel\"},\"frobnicate\":1}"
	bad_description EOPNOTSUPP drives "{\"boot-source\":{\"kernel_image_path\":\"$T/vm/kernel\"},\"drives\":[{\"drive_id\":\"r\",\"path_on_host\":\"/x\",\"is_root_device\":true,\"is_read_only\":false}]}"
	like "state" '^(empty|failed)$' "$(state_of a)"
	command_is ok "$F/a/boot" "$T/vm/base.json"
	refused a boot EBUSY "$T/vm/base.json" .
	state_is a running
}
