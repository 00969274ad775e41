# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the examples and the tests share. Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$ROOT/build}
CACHE=${CACHE:-$ROOT/build/cache}

say() { printf '%s\n' "== $*"; }
die() { printf '%s\n' "${0##*/}: $*" >&2; exit 1; }

# until_true SECONDS COMMAND...: waits for a command to succeed, looks every 50 ms, gives up after SECONDS.
until_true() {
	local deadline=$((SECONDS + $1)); shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -le "$deadline" ] || return 1
		sleep 0.05
	done
}

# The packages of these names that are not installed.
missing_packages() {
	local p
	for p; do
		[ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$p" 2>/dev/null | cut -c1-2)" = ii ] || printf '%s\n' "$p"
	done
}

# Installs what is missing; a package list is fetched only when apt doesn't know a package or has an outdated address for it.
need_packages() {
	local missing
	missing=$(missing_packages "$@")
	[ -n "$missing" ] || return 0
	[ "$(id -u)" = 0 ] || die "as root: apt-get install" $missing
	say "apt-get install" $missing
	# shellcheck disable=SC2086
	apt_install $missing || { apt_update && apt_install $missing; } || die "apt-get could not install:" $missing
}

apt_update() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 update </dev/null; }

apt_install() {
	apt-cache show "$@" >/dev/null 2>&1 || apt_update
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install \
		--no-install-recommends "$@" </dev/null >/dev/null
}

# fetch_deb PACKAGE... DIR: unpacks packages into DIR without installing them.
fetch_deb() (
	mkdir -p "${!#}" && cd "${!#}" || exit 1
	set -- "${@:1:$#-1}"
	download() { apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=3 download "$@"; }
	download "$@" 2>/dev/null || { apt_update; download "$@"; } || exit 1
	for deb in *.deb; do
		dpkg -x "$deb" . && rm -f "$deb" || exit 1
	done
)

# build_in FOLDER [MESON OPTION...]: configures once, builds what changed, speaks up only when that fails. CC decides the compiler when the folder is
# configured.
build_in() {
	local dir=$1 said; shift
	[ -f "$dir/build.ninja" ] || said=$(meson setup "$dir" "$ROOT" "$@" 2>&1) || { printf '%s\n' "$said" >&2; return 1; }
	said=$(ninja -k 0 -C "$dir" 2>&1) || { printf '%s\n' "$said" >&2; return 1; }
}

# A path as one word of a command: white space and backslashes as in /proc/mounts.
word() {
	local s
	s=$(realpath -s -- "$1") || return
	s=${s//\\/\\134}; s=${s// /\\040}; s=${s//$'\t'/\\011}
	printf '%s' "${s//$'\n'/\\012}"
}

# command_to FILE WORDS...: writes one command; when it fails, says why as the `error` beside the file tells it.
command_to() {
	local file=$1; shift
	(printf '%s\n' "$*" >"$file") 2>/dev/null || die "$file: $(cat "$(dirname "$file")/error")"
}

usage() { sed -n '/^# usage:/,/^[^#]/{/^#/s/^# //p}' "$0" >&2; exit 2; }
