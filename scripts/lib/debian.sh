# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# Packages of a Debian suite, downloaded and unpacked without root and without touching the system. Sourced, after
# cache.sh, by get-qemu and get-guest.
#
# The mirror is one the system's apt already uses, or GODWIT_DEBIAN_MIRROR; apt itself checks signatures and sums,
# with Debian's keyring, so nothing unverified is ever unpacked. apt gets a configuration of its own: the system's
# hooks and package state stay out of the way, its proxy settings stay in force.

# Print the URIs of all enabled apt sources with a Debian suite name and component main, likely archives first.
deb_mirrors() {
	etc=${GODWIT_APT_ETC:-/etc/apt}
	if [ -n "${GODWIT_DEBIAN_MIRROR:-}" ]; then
		printf '%s\n' "$GODWIT_DEBIAN_MIRROR"
		return 0
	fi
	{
		cat "$etc/sources.list" "$etc"/sources.list.d/*.list 2>/dev/null | deb_read_list
		for f in "$etc"/sources.list.d/*.sources; do
			[ -r "$f" ] && deb_read_deb822 <"$f"
		done
	} | deb_resolve_lists | awk '
		{ sub(/\/+$/, "") }
		/\/debian$/ || /\/archive\/debian\/[0-9]+T[0-9]+Z$/ { print "1 " $0; next }
		{ print "2 " $0 }' | sort -s -k1,1 | cut -d' ' -f2- | awk '!seen[$0]++'
}

deb_suite_re='^(bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable)(-updates|-backports)?$'

deb_read_list() { # one-line format on stdin -> URIs
	awk -v re="$deb_suite_re" '
		$1 == "deb" {
			sub(/\[[^]]*\]/, "")
			main = 0
			for (i = 4; i <= NF && $i !~ /^#/; i++)
				main += $i == "main"
			if ($3 ~ re && main)
				print $2
		}'
}

deb_read_deb822() { # stanzas on stdin -> URIs
	awk -v re="$deb_suite_re" '
		function stanza(   n, w, i, ok) {
			n = split(f["suites"], w, " ")
			for (i = 1; i <= n; i++)
				ok += w[i] ~ re
			if (ok && " " f["types"] " " ~ / deb / && " " f["components"] " " ~ / main / &&
			    f["enabled"] !~ /^ *(no|false|0|off|without)/) {
				n = split(f["uris"], w, " ")
				for (i = 1; i <= n; i++)
					print w[i]
			}
			split("", f)
			key = ""
		}
		/^#/ { next }
		/^[ \t]*$/ { stanza(); next }
		/^[ \t]/ { f[key] = f[key] " " $0; next }
		{ key = tolower(substr($0, 1, index($0, ":") - 1)); f[key] = substr($0, index($0, ":") + 1) }
		END { stanza() }' | tr -d '\t'
}

deb_resolve_lists() { # replace mirror+file:PATH (cloud images) by the mirrors in that file
	while read -r uri; do
		case $uri in
		mirror+file:*)
			path=$(printf '%s\n' "$uri" | sed 's|^mirror+file:||; s|^//[^/]*||')
			[ -r "$path" ] && awk '!/^#/ && NF { print $1 }' "$path"
			;;
		*) printf '%s\n' "$uri" ;;
		esac
	done
}

deb_need_tools() {
	[ "$(uname -m)" = x86_64 ] || die 77 "Debian's amd64 packages are needed, and this machine is $(uname -m)"
	for t in apt-get apt-config dpkg-deb flock sha256sum; do
		command -v "$t" >/dev/null || die 77 "$t is missing: fetching needs a Debian or Ubuntu system"
	done
}

deb_keyring() { # print the path of Debian's archive keyring
	for k in ${GODWIT_DEBIAN_KEYRING:+"$GODWIT_DEBIAN_KEYRING"} /usr/share/keyrings/debian-archive-keyring.gpg \
		/usr/share/keyrings/debian-archive-keyring.pgp; do
		[ -r "$k" ] && printf '%s\n' "$k" && return 0
	done
	return 1
}

deb_apt() { APT_CONFIG=$deb_work/apt.conf apt-get -q -y "$@" >>"$deb_work/log" 2>&1 </dev/null; }

deb_configure() { # MIRROR SUITE...: an apt of our own in $deb_work
	mirror=$1
	shift
	rm -rf "$deb_work/lists"
	mkdir -p "$deb_work/lists/partial" "$deb_work/cache/archives/partial" "$deb_work/none"
	: >"$deb_work/status"
	for s; do echo "deb [arch=amd64 signed-by=$keyring] $mirror $s main"; done >"$deb_work/sources"
	{
		apt-config dump 2>/dev/null | grep '^Acquire::' || true
		cat <<-EOF
			Dir::Etc::main "$deb_work/none/conf";
			Dir::Etc::parts "$deb_work/none";
			Dir::Etc::sourcelist "$deb_work/sources";
			Dir::Etc::sourceparts "$deb_work/none";
			Dir::Etc::preferences "$deb_work/none/pref";
			Dir::Etc::preferencesparts "$deb_work/none";
			Dir::State::lists "$deb_work/lists";
			Dir::State::status "$deb_work/status";
			Dir::State::extended_states "$deb_work/states";
			Dir::Cache "$deb_work/cache";
			Dir::Log "$deb_work";
			APT::Architecture "amd64";
			APT::Architectures { "amd64"; };
			APT::Install-Recommends "false";
			APT::Sandbox::User "$(id -un)";
			Acquire::Languages "none";
			Acquire::Retries "2";
			Acquire::http::Timeout "30";
			Acquire::https::Timeout "30";
			Acquire::Check-Valid-Until "$deb_check_date";
			Debug::NoLocking "true";
		EOF
	} >"$deb_work/apt.conf"
}

# Make the package lists of these suites ready, from the first mirror that has them all. Leaves the script with 77
# if none can be reached. Later calls: deb_fetch_with_deps, deb_fetch.
deb_open() { # WORK SUITE...
	deb_work=$1
	shift
	deb_need_tools
	keyring=$(deb_keyring) ||
		die 77 "Debian's archive keyring is missing: install the package debian-archive-keyring"
	mirrors=$(deb_mirrors)
	[ -n "$mirrors" ] ||
		die 77 "no Debian mirror among the apt sources: name one in GODWIT_DEBIAN_MIRROR (http://HOST/debian)"
	mkdir -p "$deb_work"
	for m in $mirrors; do
		# A snapshot of the archive is out of date by nature.
		case $m in *[0-9]T[0-9]*Z) deb_check_date=false ;; *) deb_check_date=true ;; esac
		deb_configure "$m" "$@"
		say "asking $m for $*"
		deb_apt update && deb_has_lists "$@" && return 0
	done
	deb_explain "$@"
}

deb_has_lists() { # apt-get update succeeds even if it got nothing
	for s; do
		set -- "$deb_work"/lists/*_dists_"${s}"_main_binary-amd64_Packages*
		[ -e "$1" ] || return 1
	done
}

deb_explain() { # SUITE...: no mirror worked: the most telling line of apt's log, and leave
	line=$(grep -E '^(Err|E|W):' "$deb_work/log" | grep -vE 'Some index files|Problem unlinking' | tail -1)
	if grep -qE 'BADSIG|BAD signature' "$deb_work/log"; then
		die 1 "the mirror's signature is wrong, nothing was unpacked: $line"
	fi
	if grep -qE 'NO_PUBKEY|EXPKEYSIG|REVKEYSIG|is not signed|Missing key' "$deb_work/log"; then
		die 77 "the keyring $keyring does not know the mirror's key (is it too old?): $line"
	fi
	die 77 "no network, or the mirror does not have $*: $line"
}

deb_fetch_with_deps() { # SUITE PACKAGE...: into $deb_work/cache/archives, with all they depend on
	suite=$1
	shift
	deb_apt install --download-only -t "$suite" "$@" ||
		die 77 "cannot download $*: $(grep -E '^(Err|E):' "$deb_work/log" | tail -1)"
}

deb_fetch() { # PACKAGE...: only these
	(cd "$deb_work/cache/archives" && deb_apt download "$@") ||
		die 77 "cannot download $*: $(grep -E '^(Err|E):' "$deb_work/log" | tail -1)"
}

deb_unpack() { # DIR: every package downloaded so far
	for d in "$deb_work"/cache/archives/*.deb; do
		dpkg-deb -x "$d" "$1" || die 1 "cannot unpack ${d##*/}"
	done
}

# Write DIR/NAME, a script that runs DIR/usr/bin/PROGRAM with the libraries unpacked beside it, whatever the system has. It finds itself,
# so DIR may be moved. What is on stdin stands before the call and may use $d, as may each WORD, which stand before the caller's.
# The loader is called by its real place, left in $deb_loader: the links in lib64 are absolute in some suites and would name the system's.
deb_wrap() { # DIR NAME PROGRAM [WORD...]
	wrapper=$1/$2 program=$3
	for deb_loader in usr/lib/x86_64-linux-gnu lib/x86_64-linux-gnu; do
		deb_loader=$deb_loader/ld-linux-x86-64.so.2
		[ -f "$1/$deb_loader" ] && break
	done
	shift 3
	{
		cat <<-'EOF'
			#!/bin/sh
			self=$0
			[ -L "$self" ] && self=$(readlink -f "$self")
			d=$(cd "${self%/*}" && pwd) || exit 127
		EOF
		cat
		cat <<-EOF
			exec "\$d/$deb_loader" --inhibit-cache --library-path "\$d/lib/x86_64-linux-gnu:\$d/usr/lib/x86_64-linux-gnu" \\
				"\$d/usr/bin/$program" $* "\$@"
		EOF
	} >"$wrapper"
	chmod +x "$wrapper"
}
