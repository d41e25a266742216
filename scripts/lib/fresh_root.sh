# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# The barest Debian there is (debootstrap --variant=minbase), in a mount and a process namespace. Sourced, after cache.sh and debian.sh, by
# check-fresh and check-packages.
#
# Mirror, proxy and certificates are those that this machine's apt uses; GODWIT_DEBIAN_MIRROR names another mirror. Network, kernel and
# devices are this machine's own. As all of it is in namespaces, nothing stays mounted and nobody runs on, however the script ends.
#
# Outside: fresh_check_machine, then fresh_inside SCRIPT ARGUMENTS... runs SCRIPT again in the namespaces. Inside: fresh_bootstrap SUITE
# INCLUDE, then fresh_mount for each root. $work is a folder of the caller's, $root the root that fresh_in works in.

fresh_check_machine() { # all that is missing is said at once
	missing=
	[ "$(id -u)" = 0 ] || die 77 "this needs root, for a chroot: run it again as root or with sudo"
	for tool in debootstrap git unshare chroot; do
		command -v "$tool" >/dev/null || missing="$missing $tool"
	done
	[ -z "$missing" ] || die 77 "these are missing:$missing. On Debian: apt-get install debootstrap git util-linux coreutils"
	unshare --mount --pid --fork true 2>/dev/null ||
		die 77 "this system forbids mount and process namespaces (in a container? start it privileged)"
	deb_keyring >/dev/null || die 77 "Debian's archive keyring is missing: install the package debian-archive-keyring"
	[ -n "$(deb_mirrors)" ] ||
		die 77 "no Debian mirror among the apt sources: name one in GODWIT_DEBIAN_MIRROR (http://HOST/debian)"
}

fresh_inside() { unshare --mount --pid --fork --kill-child --mount-proc "$@"; }

fresh_bootstrap() { # SUITE PACKAGE,...: the bare system in $root, from the first mirror that has it
	for mirror in $(deb_mirrors); do
		rm -rf "$root"
		mkdir -m 755 "$root"
		include=$2
		case $mirror in https:*) include=$include,ca-certificates ;; esac
		say "a bare $1, from $mirror"
		debootstrap --variant=minbase --include="$include" --keyring="$(deb_keyring)" "$1" "$root" "$mirror" \
			>"$work/debootstrap.log" 2>&1 || continue
		fresh_apt_settings "$1"
		return 0
	done
	die 77 "debootstrap cannot make a $1: $(tail -n 1 "$work/debootstrap.log")"
}

fresh_apt_settings() { # SUITE: what this machine's apt needs to reach its mirror
	rm -f "$root/etc/apt/sources.list"
	echo "deb $mirror $1 main" >"$root/etc/apt/sources.list.d/fresh.list"
	apt-config dump | grep '^Acquire::' >"$root/etc/apt/apt.conf.d/99host" || true
	for file in /etc/resolv.conf /etc/hosts; do
		[ ! -r "$file" ] || cp -L "$file" "$root$file"
	done
	case $mirror in
	https:*) cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt" ;;
	esac
}

fresh_mount() { # $root is a mount point too, or nothing inside could have mounts of its own
	mount --bind "$root" "$root"
	mount -t proc proc "$root/proc"
	mount --rbind /sys "$root/sys"
	mount --rbind /dev "$root/dev"
}

fresh_in() { # COMMAND...: in $root, with nothing of this machine's environment but the proxies
	set -- LANG=C.UTF-8 "$@"
	for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
		eval "value=\${$name-}"
		[ -z "$value" ] || set -- "$name=$value" "$@"
	done
	chroot "$root" env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
