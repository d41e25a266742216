#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What scripts/lib promises to get-qemu and get-guest, without any network: mirrors are found in every format of apt
# sources, and a cache entry is whole or absent, whoever is killed or calls twice.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
lib=$here/../../scripts/lib
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
unset GODWIT_DEBIAN_MIRROR GODWIT_CACHE XDG_CACHE_HOME

failures=0
check() { # NAME EXPECTED GOT
	if [ "$2" = "$3" ]; then
		echo "ok: $1"
	else
		printf 'FAILED: %s\n  expected: %s\n  got:      %s\n' "$1" "$2" "$3"
		failures=$((failures + 1))
	fi
}

# shellcheck source-path=SCRIPTDIR/../../scripts/lib
. "$lib/cache.sh"
# shellcheck source-path=SCRIPTDIR/../../scripts/lib
. "$lib/debian.sh"

sources() { # NAME: a fresh apt configuration, file content on stdin
	rm -rf "${tmp:?}/etc"
	mkdir -p "$tmp/etc/sources.list.d"
	cat >"$tmp/etc/$1"
}
mirrors() { GODWIT_APT_ETC=$tmp/etc deb_mirrors | tr '\n' ' '; }

# --- mirrors --------------------------------------------------------------------------------------------------
sources sources.list <<-EOF
	# deb http://commented.example/debian bookworm main
	deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian/ bookworm main contrib # note
	deb http://a.example/debian bookworm-updates main
	deb http://sec.example/debian-security bookworm-security main
	deb-src http://src.example/debian bookworm main
EOF
check "one-line format" "http://a.example/debian " "$(mirrors)"

sources sources.list.d/debian.sources <<-EOF
	Types: deb deb-src
	# a comment inside
	URIs: http://b.example/debian
	Suites: trixie trixie-updates
	Components: main non-free-firmware
	Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

	Types: deb
	URIs: http://b.example/debian-security
	Suites: trixie-security
	Components: main

	Enabled: no
	Types: deb
	URIs: http://off.example/debian
	Suites: trixie
	Components: main
EOF
check "deb822 format" "http://b.example/debian " "$(mirrors)"

sources sources.list.d/x.sources <<-EOF
	types: deb
	uris:
	 http://c1.example/proxy/apt
	 http://c2.example/debian
	suites: stable
	components: main
EOF
check "deb822 continuation lines, likely archive first" \
	"http://c2.example/debian http://c1.example/proxy/apt " "$(mirrors)"

printf 'http://d.example/debian\tpriority:1\n' >"$tmp/list"
for form in "mirror+file:$tmp/list" "mirror+file://$tmp/list"; do
	printf 'Types: deb\nURIs: %s\nSuites: bookworm\nComponents: main\n' "$form" | sources sources.list.d/m.sources
	check "$form" "http://d.example/debian " "$(mirrors)"
done

sources sources.list <<-EOF
	deb http://u.example/ubuntu noble main universe
	deb http://pg.example/repos/apt bookworm-pgdg main
EOF
check "no Debian source" "" "$(mirrors)"
check "the variable rules" "http://v.example/debian " "$(GODWIT_DEBIAN_MIRROR=http://v.example/debian mirrors)"

# --- statuses of the scripts ----------------------------------------------------------------------------------
status() {
	s=0
	"$@" >"$tmp/out" 2>"$tmp/err" </dev/null || s=$?
	echo "$s"
}
for script in get-qemu get-guest get-clang-format; do
	[ -x "$here/../../scripts/$script" ] || continue
	set -- "$here/../../scripts/$script"
	[ $script = get-qemu ] && set -- "$@" 7.2
	check "$script --offline with an empty cache" 77 "$(status "$@" "$tmp/empty" --offline)"
	check "$script prints no path then" "" "$(cat "$tmp/out")"
	check "$script says why" 1 "$(grep -c -e --offline "$tmp/err")"
	check "$script refuses unknown options" 2 "$(status "$@" --frob)"
	if ! deb_keyring >/dev/null; then
		echo "SKIPPED: $script with bad mirrors: no Debian keyring here"
		continue
	fi
	check "$script without a Debian source" 77 "$(GODWIT_APT_ETC=$tmp/etc status "$@" "$tmp/empty")"
	check "$script names the variable" 1 "$(grep -c GODWIT_DEBIAN_MIRROR "$tmp/err")"
	check "$script with a mirror that is not there" 77 \
		"$(GODWIT_DEBIAN_MIRROR=file:$tmp/nowhere/debian status "$@" "$tmp/empty")"
	check "$script leaves nothing behind" "" "$(find "$tmp/empty" -mindepth 1 ! -name '.*.lock')"
done
check "get-qemu refuses unknown releases" 2 "$(status "$here/../../scripts/get-qemu" 6.1)"

# --- a fresh machine: what is missing is said before anything is made ---------------------------------------------
cp -r "$here/../../scripts" "$tmp/scripts" # where everybody may read it
mkdir "$tmp/scratch"
chmod -R a+rX "$tmp"
chmod 777 "$tmp/scratch"
as_nobody=
[ "$(id -u)" != 0 ] || as_nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
for name in check-fresh check-packages; do
	fresh=$tmp/scripts/$name
	check "$name without a suite" 2 "$(status "$fresh")"
	check "$name refuses unknown suites" 2 "$(status "$fresh" sarge)"
	# shellcheck disable=SC2086 # words
	check "$name without root" 77 "$(TMPDIR=$tmp/scratch status $as_nobody "$fresh" bookworm)"
	check "... says so" 1 "$(grep -c 'needs root' "$tmp/err")"
	check "... and leaves nothing behind" "" "$(ls -A "$tmp/scratch")"
	[ "$(id -u)" != 0 ] || check "$name without a Debian source" 77 "$(GODWIT_APT_ETC=$tmp/etc TMPDIR=$tmp/scratch status "$fresh" trixie)"
	check "... leaves nothing behind" "" "$(ls -A "$tmp/scratch")"
done

# --- the cache ------------------------------------------------------------------------------------------------
cat >"$tmp/maker" <<-EOF
	#!/bin/sh
	set -eu
	. "$lib/cache.sh"
	cache_open "$tmp/c" thing
	if ! cache_holds; then
		cache_may_fetch 0 thing
		echo made >>"$tmp/made"
		cache_begin
		echo one >"\$cache_new/file"
		[ "\$1" = die ] && kill -9 \$\$
		[ "\$1" = term ] && kill -TERM \$\$
		cache_seal file
		cache_publish
	fi
	cat "\$cache_dir/file"
EOF
chmod +x "$tmp/maker"
check "killed while making" 137 "$(status "$tmp/maker" die)"
check "... the entry is absent" "" "$(find "$tmp/c" -name thing)"
check "interrupted while making" 143 "$(status "$tmp/maker" term)"
check "... nothing is left" "" "$(find "$tmp/c" -mindepth 1 ! -name '.thing.lock')"

rm -f "$tmp/made"
pids=
for i in 1 2 3 4; do
	"$tmp/maker" ok >"$tmp/out.$i" &
	pids="$pids $!"
done
for p in $pids; do wait "$p"; done
check "four calls at once make it once" made "$(cat "$tmp/made")"
check "... and all have it" "one one one one " "$(cat "$tmp"/out.[1-4] | tr '\n' ' ')"

echo two >"$tmp/c/thing/file"
check "a damaged entry is made again" "0 one" "$(status "$tmp/maker" ok) $(cat "$tmp/out")"
rm "$tmp/c/thing/manifest.sha256"
check "an entry without manifest is made again" "0 one" "$(status "$tmp/maker" ok) $(cat "$tmp/out")"

[ "$failures" = 0 ] || { echo "$failures checks failed"; exit 1; }
