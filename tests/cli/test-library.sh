#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What the library exports, what the header declares and what libgodwit(3) explains are the same functions; and what is
# installed can be built against.
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"
needs nm

sed -n 's/^GW_API .*[ *]\(gw_[a-z0-9_]*\)(.*/\1/p' "$SRC/include/godwit.h" | sort >declared
same "declarations found" "$(grep -c '^GW_API' "$SRC/include/godwit.h")" "$(grep -c . declared)"
nm -D --defined-only "$LIBRARY" | sed -n 's/^[0-9a-f]* [TtWBDR] \([^@]*\).*/\1/p' | grep -v '^__' | sort >exported
cmp -s declared exported || failed "the library exports other functions than godwit.h declares: $(diff declared exported)"
sed -n 's/^	\(gw_[a-z0-9_]*\);$/\1/p' "$SRC/src/lib/godwit.map" | sort >mapped
cmp -s declared mapped || failed "godwit.map lists other functions than godwit.h declares: $(diff declared mapped)"
sed -n 's/^\*.*[ *]\(gw_[a-z0-9_]*\)(.*)\*$/\1/p' "$SRC/man/libgodwit.3.scd" | sort >explained
cmp -s declared explained || failed "libgodwit(3) explains other functions than godwit.h declares: $(diff declared explained)"

# The prototypes in the page are those of the header.
python3 - "$SRC" <<'EOP' >differing || failed "cannot compare prototypes"
import re, sys
squeeze = lambda s: re.sub(r"\s*([*(),])\s*", r"\1", re.sub(r"\s+", " ", s)).strip()
header = open(sys.argv[1] + "/include/godwit.h").read()
page = open(sys.argv[1] + "/man/libgodwit.3.scd").read()
declared = {squeeze(d) for d in re.findall(r"^GW_API ([^;{]*);", header, re.M)}
explained = {squeeze(d.replace("\\", "")) for d in re.findall(r"^\*(.*gw_[a-z0-9_]*\(.*\))\*$", page, re.M)}
for d in sorted(declared ^ explained):
    print(("only in godwit.h: " if d in declared else "only in libgodwit(3): ") + d)
EOP
[ ! -s differing ] || failed "prototypes differ: $(cat differing)"

# The command uses the library through its exported functions, and has none of them inside.
! nm "$GODWIT" 2>/dev/null | grep -q ' T gw_[a-z]' || failed "the command contains functions of the library"

# Install, and build against what was installed, as C and as C++.
command -v meson >/dev/null && command -v pkg-config >/dev/null && command -v cc >/dev/null || {
	echo "not tried: building against the installed library (needs meson, pkg-config, cc)"
	finish
}
DESTDIR=$tmp/root meson install -C "$BUILD" --no-rebuild >log 2>&1 || failed "meson install: $(tail -n 3 log)"
find root -name libgodwit.pc -o -name godwit.h -o -name godwit.1 -o -name 'libgodwit.so.0' -o -name 'libgodwit.a' \
	-o -path '*/completions/godwit' | sed 's,.*/,,' | sort >installed
same "installed" "godwit godwit.1 godwit.h libgodwit.a libgodwit.pc libgodwit.so.0" "$(tr '\n' ' ' <installed | sed 's/ $//')"
[ -x "$(find root -path '*/bin/godwit')" ] || failed "the command is not installed"
PKG_CONFIG_LIBDIR=$(dirname "$(find "$tmp/root" -name libgodwit.pc)")
export PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR="$tmp/root"
same "version" "$("$GODWIT" --version)" "godwit $(pkg-config --modversion libgodwit)"
sed -n '/^# EXAMPLE/,$p' "$SRC/man/libgodwit.3.scd" | sed -n '/^```$/,/^```$/p' | grep -v '^```' | sed 's/\\\\/\\/g' >example
{
	printf '#include <godwit.h>\n#include <stdio.h>\nint main(void)\n{\n'
	cat example
	printf 'return 0;\n}\n'
} >example.c
cp example.c example.cc
flags=$(pkg-config --cflags --libs libgodwit) || failed "pkg-config: $flags"
case $SANITIZE in
none) sanitize= ;;
*) sanitize=-fsanitize=$SANITIZE ;;
esac
# shellcheck disable=SC2086
cc -std=c17 -Wall -Wextra -pedantic -Werror $sanitize example.c -o example $flags 2>log || failed "cc example.c: $(cat log)"
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
for compiler in "cc example.c" "gcc example.c" "clang example.c" "c++ example.cc" "g++ example.cc" "clang++ example.cc"; do
	command -v "${compiler%% *}" >/dev/null || continue
	# shellcheck disable=SC2046,SC2086
	$compiler -fsyntax-only -Wall -Werror $(pkg-config --cflags libgodwit) 2>log || failed "$compiler: $(cat log)"
done
rm "$(find root -name libgodwit.so)" # leaves the static one
static=$(pkg-config --static --cflags --libs libgodwit)
# shellcheck disable=SC2086
cc -std=c17 $sanitize example.c -o example-static $static 2>log || failed "cc example.c, static: $(cat log)"
! nm -D example-static | grep -q ' U gw_' || failed "the static example wants the shared library"
finish
