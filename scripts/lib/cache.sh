# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# A cache entry: a folder that is either whole or absent. Sourced by get-qemu and get-guest.
#
# It knows locking, manifests and swapping; not where the content comes from. Everything that changes an entry
# happens between cache_open and the end of the script, under an exclusive lock on ROOT/.NAME.lock:
#
#   ROOT/NAME        the entry; appears by rename, so it is never seen half made
#   ROOT/.NAME.new   being made; what a killed call left here is removed by the next one
#   ROOT/.NAME.old   the broken entry while it is being replaced
#
# Exit status of the scripts: 0 path printed, 1 failed, 2 usage, 77 cannot be had here (the message says why).

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
	status=$1
	shift
	say "$*"
	exit "$status"
}

cache_root() { # [CACHE_DIR] -> the folder that holds the entries
	printf '%s\n' "${1:-${GODWIT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}}/godwit}"
}

cache_open() { # ROOT NAME: take the lock, set cache_dir and cache_new
	mkdir -p "$1" 2>/dev/null || [ -d "$1" ] || die 1 "cannot make the cache folder $1"
	root=$(cd "$1" && pwd) || die 1 "cannot enter the cache folder $1"
	cache_dir=$root/$2 cache_new=$root/.$2.new cache_old=$root/.$2.old
	# A read-only cache can be used but not mended; without a lock there is nothing to be harmed.
	[ -w "$root" ] || { cache_readonly=1; return 0; }
	cache_readonly=
	exec 9>>"$root/.$2.lock" || die 1 "cannot open the lock $root/.$2.lock"
	flock 9 || die 1 "cannot lock $root/.$2.lock"
	trap 'rm -rf "$cache_new"' EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

cache_holds() { # are all files of the manifest there, unchanged?
	[ -s "$cache_dir/manifest.sha256" ] || return 1
	(cd "$cache_dir" && sha256sum --quiet --strict -c manifest.sha256) >/dev/null 2>&1
}

cache_may_fetch() { # OFFLINE(0|1) WHAT: leave, with the reason, if nothing new may be made
	[ "$1" = 0 ] || die 77 "$2 is not (whole) in $cache_dir and --offline forbids fetching it"
	[ -z "$cache_readonly" ] || die 77 "$2 is not (whole) in $cache_dir and that cache is read-only"
}

cache_begin() { # an empty cache_new
	rm -rf "$cache_new" "$cache_old"
	mkdir "$cache_new" || die 1 "cannot make $cache_new"
}

cache_seal() { # FILE...: write the manifest of these files (relative to the entry); the last step inside cache_new
	(cd "$cache_new" && sha256sum -- "$@" >manifest.sha256) || die 1 "cannot write the manifest of $cache_new"
}

cache_publish() {
	if [ -e "$cache_dir" ]; then
		mv -T "$cache_dir" "$cache_old" || die 1 "cannot move the broken $cache_dir aside"
	fi
	mv -T "$cache_new" "$cache_dir" || die 1 "cannot rename $cache_new to $cache_dir"
	rm -rf "$cache_old"
}
