# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What examples/make-guest --python puts into its guest: Debian's python3 and numpy, 50 MiB. Sourced, after lib.sh.

# The packages that numpy needs on a machine that has none, without those that only installing needs, and without the libraries of modules that
# are of no use in a guest without a network or a display (ssl, sqlite3, curses, readline).
python_packages() {
	apt-get -s -o Dir::State::status=/dev/null --no-install-recommends install python3-numpy 2>/dev/null | sed -n 's/^Inst \([^ ]*\) .*/\1/p' |
		grep -E '^((lib)?python3.*|zlib1g|lib(c6|gcc-s1|bz2-1\.0|lzma[0-9]+|expat1|ffi[0-9]+|crypt1|blas3|lapack3|gfortran[0-9]+|quadmath0)(t64)?)$' |
		grep -vx python3-pkg-resources
}

# prune_python DIR: leaves what a program needs at run time.
prune_python() (
	cd "$1" || exit 1
	rm -rf usr/share usr/include usr/games etc usr/lib/python3.*/dist-packages usr/lib/*/gconv usr/lib/*/audit
	find . -depth -type d \( -name test -o -name tests -o -name include -o -name idlelib -o -name lib2to3 -o -name distutils -o -name ensurepip \
		-o -name tkinter -o -name turtledemo -o -name pydoc_data -o -name f2py -o -name __pycache__ \) -exec rm -rf {} +
	find . \( -name '*.pyi' -o -name '*.pxd' -o -name '_test*.so' -o -name '_xx*.so' -o -name 'xxlimited*.so' -o -name '_codecs_*.so' \
		-o -name 'libmvec.so*' \) -delete
)

# finish_python DIR: what installing would have done. Modules are compiled, for the guest to start in seconds, and take the place of their source.
finish_python() (
	cd "$1" || exit 1
	lib=$(echo usr/lib/*-linux-gnu)
	ln -sf blas/libblas.so.3 lapack/liblapack.so.3 "$lib/"
	PYTHONHOME=$PWD/usr lib64/ld-linux-x86-64.so.2 --library-path "${lib#usr/}:$lib" usr/bin/python3 -S -m compileall -q -b usr/lib &&
		find . -name '*.py' -delete && find . -name __pycache__ -prune -exec rm -rf {} +
)

# fetch_python: makes $CACHE/python, once; who comes meanwhile waits for it.
fetch_python() (
	mkdir -p "$CACHE"
	exec 9>"$CACHE/python.lock"
	flock -w 300 9
	[ ! -d "$CACHE/python" ] || exit 0
	say "fetching Debian's python3-numpy and what it needs"
	packages=$(python_packages) || { apt_update; packages=$(python_packages); } || die "apt doesn't know python3-numpy"
	new=$CACHE/python.new
	rm -rf "$new"
	# shellcheck disable=SC2086
	fetch_deb $packages "$new"
	prune_python "$new"
	finish_python "$new"
	mv "$new" "$CACHE/python"
)
