#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What each library exports, what its header declares and what its manual page explains are the same functions; and what is
# installed can be built against.
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"
needs nm

matches() { # HEADERS LIBRARY MAP PAGES: lists of the same length
	: >all.h
	: >all.scd
	for header in $1; do cat "$SRC/include/$header" >>all.h; done
	for page in $4; do cat "$SRC/man/$page.3.scd" >>all.scd; done
	sed -n 's/^GW_API .*[ *]\(gw_[a-z0-9_]*\)(.*/\1/p' all.h | sort >declared
	same "declarations found in $1" "$(grep -c '^GW_API' all.h)" "$(grep -c . declared)"
	nm -D --defined-only "$2" | sed -n 's/^[0-9a-f]* [TtWBDR] \([^@]*\).*/\1/p' | grep -v '^__' | sort >exported
	cmp -s declared exported || failed "$2 exports other functions than $1 declares: $(diff declared exported)"
	sed -n 's/^	\(gw_[a-z0-9_]*\);$/\1/p' "$SRC/src/$3" | sort >mapped
	cmp -s declared mapped || failed "$3 lists other functions than $1 declares: $(diff declared mapped)"
	sed -n 's/^\*.*[ *]\(gw_[a-z0-9_]*\)(.*)\*$/\1/p' all.scd | sort >explained
	cmp -s declared explained || failed "$4(3) explains other functions than $1 declares: $(diff declared explained)"
	# The prototypes in the page are those of the header.
	python3 - all.h all.scd <<'EOP' >differing || failed "cannot compare prototypes"
import re, sys
squeeze = lambda s: re.sub(r"\s*([*(),])\s*", r"\1", re.sub(r"\s+", " ", s)).strip()
header = open(sys.argv[1]).read()
page = open(sys.argv[2]).read()
declared = {squeeze(d) for d in re.findall(r"^GW_API ([^;{]*);", header, re.M)}
explained = {squeeze(d.replace("\\", "")) for d in re.findall(r"^\*(.*gw_[a-z0-9_]*\(.*\))\*$", page, re.M)}
for d in sorted(declared ^ explained):
    print(("only in the header: " if d in declared else "only in the page: ") + d)
EOP
	[ ! -s differing ] || failed "prototypes of $1 differ: $(cat differing)"
}
matches "godwit.h godwit-unstable.h" "$LIBRARY" lib/godwit.map "libgodwit libgodwit-unstable"
matches godwit-qemu.h "$LIBRARY_QEMU" qemu/godwit-qemu.map libgodwit-qemu

# The command uses the library through its exported functions, and has none of them inside.
! nm "$GODWIT" 2>/dev/null | grep -q ' T gw_[a-z]' || failed "the command contains functions of the library"

# libcurl is loaded where a lease needs it and nowhere else: a broken one harms nobody else, and is named.
mkdir broken dir
: >broken/libcurl-gnutls.so.4
: >broken/libcurl.so.4
export LD_LIBRARY_PATH="$tmp/broken"
run 0 --version
run 4 failover dir --lease=etcd://127.0.0.1:1/key -- false
unset LD_LIBRARY_PATH
err_has "needs libcurl, which cannot be loaded"
err_has "nothing was started"

# Install, and build against what was installed, as C and as C++.
command -v meson >/dev/null && command -v pkg-config >/dev/null && command -v cc >/dev/null || {
	echo "not tried: building against the installed library (needs meson, pkg-config, cc)"
	finish
}
DESTDIR=$tmp/root meson install -C "$BUILD" --no-rebuild >log 2>&1 || failed "meson install: $(tail -n 3 log)"
find root -name '*.pc' -o -name 'godwit*.h' -o -name godwit.1 -o -name 'lib*.3' -o -name 'lib*.so.0' -o -name 'lib*.a' \
	-o -path '*/completions/godwit' | sed 's,.*/,,' | LC_ALL=C sort >installed
same "installed" "godwit godwit-qemu.h godwit-qemu.pc godwit-unstable.h godwit.1 godwit.h libgodwit-qemu.3 libgodwit-qemu.a libgodwit-qemu.so.0 libgodwit-unstable.3 libgodwit.3 \
libgodwit.a libgodwit.pc libgodwit.so.0" "$(tr '\n' ' ' <installed | sed 's/ $//')"
[ -x "$(find root -path '*/bin/godwit')" ] || failed "the command is not installed"
PKG_CONFIG_PATH=$(dirname "$(find "$tmp/root" -name libgodwit.pc)")
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR="$tmp/root"
same "version" "$("$GODWIT" --version)" "godwit $(pkg-config --modversion libgodwit)"
same "version of the second library" "$(pkg-config --modversion libgodwit)" "$(pkg-config --modversion godwit-qemu)"
case $SANITIZE in
none) sanitize= ;;
*) sanitize=-fsanitize=$SANITIZE ;;
esac

# All that the header declares can be used from C++.
cat >uses.cc <<'EOC'
#include <godwit.h>
#if !GW_VERSION_AT_LEAST(0, 2, 0)
#error the header does not know its version
#endif
static int on_whole(void *, const struct gw_whole *whole)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < whole->blocks; i++)
		bytes += GW_AT(whole->block, i)->used_bytes;
	return bytes ? 0 : GW_SAY_FAILED;
}
int main()
{
	gw_drain_block block[2] = {GW_INIT(block[0]), GW_INIT(block[1])};
	gw_drain_opts drain = GW_INIT(drain);
	gw_receive_opts receive = GW_INIT(receive);
	gw_destination_device device = GW_INIT(device);
	gw_serve_block served = GW_INIT(served);
	gw_proxy_fault fault = GW_INIT(fault);
	drain.block = block;
	receive.on_whole = on_whole;
	return GW_AT(drain.block, 1) != &block[1] || !device.size || !served.size || !fault.size;
}
EOC
for compiler in c++ g++ clang++; do
	command -v "$compiler" >/dev/null || continue
	# shellcheck disable=SC2046,SC2086
	$compiler -std=c++17 -fsyntax-only -Wall -Werror $(pkg-config --cflags libgodwit) uses.cc 2>log || failed "$compiler uses.cc: $(cat log)"
done
# Whatever compiles here accepts the header. Flags to link with are not passed: clang warns of those.
builds() { # FILE PACKAGE STATIC: as C against the shared libraries and the static ones, as C++ its syntax
	flags=$(pkg-config --cflags --libs "$2") || failed "pkg-config: $flags"
	# shellcheck disable=SC2086
	cc -std=c17 -Wall -Wextra -pedantic -Werror $sanitize "$1.c" -o "$1" $flags 2>log || failed "cc $1.c: $(cat log)"
	cp "$1.c" "$1.cc"
	for compiler in "cc $1.c" "gcc $1.c" "clang $1.c" "c++ $1.cc" "g++ $1.cc" "clang++ $1.cc"; do
		command -v "${compiler%% *}" >/dev/null || continue
		# shellcheck disable=SC2046,SC2086
		$compiler -fsyntax-only -Wall -Werror $(pkg-config --cflags "$2") 2>log || failed "$compiler: $(cat log)"
	done
}
builds_statically() { # FILE PACKAGE
	# shellcheck disable=SC2046,SC2086
	cc -std=c17 $sanitize "$1.c" -o "$1-static" $(pkg-config --static --cflags --libs "$2") 2>log || failed "cc $1.c, static: $(cat log)"
	! nm -D "$1-static" | grep -q ' U gw_' || failed "the static $1 wants a shared library"
}
example() { # PAGE HEADER FILE
	{
		printf '#include <%s>\n#include <stdio.h>\nint main(void)\n{\n' "$2"
		sed -n '/^# EXAMPLE/,$p' "$SRC/man/$1.3.scd" | sed -n '/^```$/,/^```$/p' | grep -v '^```' | sed 's/\\\\/\\/g'
		printf 'return 0;\n}\n'
	} >"$3.c"
}
example libgodwit godwit.h example
example libgodwit-qemu godwit-qemu.h example-qemu
builds example libgodwit
for example in "$SRC"/examples/*.c; do
	lines=$(wc -l <"$example")
	[ "$lines" -lt 100 ] || failed "$example has $lines lines, expected fewer than 100"
	cp "$example" .
	builds "$(basename "$example" .c)" godwit-qemu
done
builds example-qemu godwit-qemu
if [ "$(uname -m)" = x86_64 ]; then # an example of several files, of one architecture
	for compiler in cc gcc clang; do
		command -v $compiler >/dev/null || continue
		# shellcheck disable=SC2046
		$compiler -std=c17 -fsyntax-only -Wall -Wextra -pedantic -Werror "$SRC"/examples/kvm/*.c $(pkg-config --cflags libgodwit) 2>log || failed "$compiler examples/kvm: $(cat log)"
	done
	# shellcheck disable=SC2046,SC2086
	cc -std=c17 $sanitize "$SRC"/examples/kvm/*.c -o kvm $(pkg-config --cflags --libs libgodwit) -pthread 2>log || failed "cc examples/kvm: $(cat log)"
fi
find root -name 'libgodwit*.so' -exec rm {} + # leaves the static ones
builds_statically example libgodwit
builds_statically save-and-restore godwit-qemu
builds_statically example-qemu godwit-qemu
finish
