#!/bin/sh
# SPDX-License-Identifier: MIT
#
# scripts/check-abi can fail: with a change of the interface of each kind, made to a copy of the headers and maps; and the versions that packages,
# change log and build name are one.
set -u
top=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
command -v clang >/dev/null || {
	echo "SKIPPED: ${0##*/}: needs clang" >&2
	exit 77
}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/godwit-abi-XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
failures=0
fail() {
	echo "FAILED: $*"
	failures=$((failures + 1))
}

fresh() { # a copy of what the script reads
	rm -rf "$tmp/tree"
	mkdir -p "$tmp/tree/src/lib" "$tmp/tree/src/qemu" "$tmp/tree/docs" "$tmp/tree/debian"
	cp -r "$top/include" "$top/meson.build" "$tmp/tree"
	cp "$top/src/lib/godwit.map" "$tmp/tree/src/lib"
	cp "$top/src/qemu/godwit-qemu.map" "$tmp/tree/src/qemu"
	cp "$top/docs/abi.list" "$tmp/tree/docs"
	cp "$top"/debian/*.symbols "$tmp/tree/debian"
}

check() { # EXPECTED-STATUS PATTERN WHAT [--update]: a pattern that starts with ! must not be there
	"$top/scripts/check-abi" ${4+"$4"} "$tmp/tree" >"$tmp/out" 2>&1
	status=$?
	[ $status -eq "$1" ] || fail "$3: status $status, expected $1: $(head -n 5 "$tmp/out")"
	case $2 in
	!*) ! grep -q -e "${2#!}" "$tmp/out" || fail "$3: says ${2#!}: $(cat "$tmp/out")" ;;
	*) grep -q -e "$2" "$tmp/out" || fail "$3: does not say $2: $(head -n 5 "$tmp/out")" ;;
	esac
}

edit() { # FILE SED-PROGRAM: which changes something
	cp "$tmp/tree/$1" "$tmp/before"
	sed -i "$2" "$tmp/tree/$1"
	! cmp -s "$tmp/before" "$tmp/tree/$1" || fail "sed changed nothing in $1: $2"
}

fresh
check 0 '!.' "as it is"

edit include/godwit.h 's/^\(struct gw_progress {\)$/\1 size_t first;/'
check 1 'broken: is no longer so: field gw_progress 0 size_t size' "a field before the others"

fresh
edit include/godwit.h '/^struct gw_progress {$/,/^}/s/^\(}.*\)$/uint64_t last;\n\1/'
check 1 '!broken' "a field after the others"
check 1 '+field gw_progress [0-9]* uint64_t last' "a field after the others"
check 0 '!broken' "a field after the others, written down" --update
check 0 '!.' "once written down"

fresh
edit include/godwit.h '/^struct gw_progress {$/,/^}/s/^\(}.*\)$/uint32_t last;\n\1/'
check 1 'broken: within what a struct already had.* field gw_progress [0-9]* uint32_t last' "a field in the padding at the end"

fresh
edit include/godwit.h 's/^\(GW_API .*gw_compare(gw_job \*job, \)/\1int more, /'
check 1 'broken: is no longer so: function gw_compare@GODWIT_0.1' "another prototype"

fresh
edit include/godwit.h 's/^enum gw_uri_family { /&GW_URI_NEW, /'
check 1 'broken: is no longer so: constant GW_URI_ANY_FAMILY 0' "a constant before the others"

fresh
edit src/lib/godwit.map '/gw_compare;/d; s/^\tgw_drain;$/&\n\tgw_compare;/'
check 1 '+ gw_compare@GODWIT_0.2 0.2.0' "a symbol under another node: debian/libgodwit0.symbols"

fresh
edit debian/libgodwit-qemu0.symbols '/gw_qemu_save@/d'
check 1 '+ gw_qemu_save@GODWIT_QEMU_0.2 0.2.0' "a symbol that debian/libgodwit-qemu0.symbols lacks"

# A release: what it had must be there for ever, also when the list of today has been brought up to date.
if command -v git >/dev/null; then
	fresh
	in_tree() { git -C "$tmp/tree" -c user.name=test -c user.email=test@localhost -c commit.gpgsign=false -c tag.gpgsign=false "$@"; }
	in_tree init -q && in_tree add . && in_tree commit -q -m release && in_tree tag v0.2.0 || fail "git"
	check 0 '!.' "as released"
	edit include/godwit.h '/^struct gw_progress {$/,/^}/s/^\(}.*\)$/uint64_t last;\n\1/'
	check 0 '!broken' "longer since the release" --update
	edit include/godwit.h '/^struct gw_progress {$/,/^}/s/^\tuint64_t pages,/\tuint32_t pages,/'
	check 1 'broken since v0.2.0: is no longer so: field gw_progress [0-9]* uint64_t pages' "narrower since the release" --update
fi

version=$(sed -n "s/^ *version: '\(.*\)',$/\1/p" "$top/meson.build")
packaged=$(sed -n '1s/^godwit (\(.*\)-[^-]*) .*/\1/p' "$top/debian/changelog")
[ "$packaged" = "$version" ] || fail "debian/changelog begins with version \"$packaged\", meson.build has \"$version\""
logged=$(sed -n 's/^## \([0-9.]*\).*/\1/p' "$top/CHANGELOG.md" | head -n 1)
[ "$logged" = "$version" ] || fail "CHANGELOG.md begins with version \"$logged\", meson.build has \"$version\""

[ $failures -eq 0 ] || exit 1
echo "ok: ${0##*/}"
