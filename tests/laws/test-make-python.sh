#!/bin/sh
# SPDX-License-Identifier: MIT
#
# python/godwit/_abi.py is what scripts/make-python makes of the headers; and the script notices each kind of change.
set -u
top=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
command -v clang >/dev/null || {
	echo "SKIPPED: ${0##*/}: needs clang" >&2
	exit 77
}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/godwit-python-XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
failures=0

"$top/scripts/make-python" --check "$top" || failures=1
changed() { # WHAT SED-PROGRAM HEADER
	rm -rf "$tmp/tree"
	mkdir -p "$tmp/tree/python/godwit"
	cp -r "$top/include" "$tmp/tree"
	cp "$top/python/godwit/_abi.py" "$tmp/tree/python/godwit"
	sed -i "$2" "$tmp/tree/include/$3"
	cmp -s "$top/include/$3" "$tmp/tree/include/$3" && echo "FAILED: $1: nothing was changed" && failures=1
	"$top/scripts/make-python" --check "$tmp/tree" >"$tmp/out" 2>&1 && echo "FAILED: $1 was not noticed" && failures=1
	grep -q "is not what the headers say" "$tmp/out" || { echo "FAILED: $1: $(cat "$tmp/out")" && failures=1; }
}
changed "a field of another type" 's/^\tuint64_t pages, zero_pages;/\tuint32_t pages, zero_pages;/' godwit.h
changed "another field" 's/^\tuint32_t rounds; /\tuint32_t more, rounds; /' godwit.h
changed "a constant" 's/^\tGW_WHY_KEEP,/\tGW_WHY_KEEP = 7,/' godwit-unstable.h
changed "a function's argument" 's/^GW_API int gw_qemu_wait(gw_qemu \*qemu, int \*status)/GW_API int gw_qemu_wait(gw_qemu *qemu, unsigned *status)/' godwit-qemu.h
changed "a function" 's/^GW_API const char \*gw_version(void);/GW_API const char *gw_edition(void);/' godwit.h
exit $failures
