#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The command's table of options, its man pages and its completion say the same.
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"

commands=$("$GODWIT" help | sed -n '/^commands:/,/^options:/s/^  \([a-z][a-z]*\) .*/\1/p' | grep -vx help)
[ -n "$commands" ] || failed "godwit help lists no commands"

help_options() { sed -n 's/^  \(-., \|    \)\(--[a-z-]*\)\(=\([^ ]*\)\)\{0,1\}.*/\1\2 \4/p' | sed 's/^ *//' | sort; }
page_options() { # PAGE: the bold terms of its OPTIONS section
	sed -n '/^# OPTIONS/,/^# EXIT/p' "$1" |
		sed -n 's/^\*\(-.\)\*, \*\(--[a-z-]*\)\*\(=_\(.*\)_\)\{0,1\}$/\1, \2 \4/p; s/^\*\(--[a-z-]*\)\*\(=_\(.*\)_\)\{0,1\}$/\1 \3/p' | sort
}

for command in $commands; do
	run 0 "$command" --help
	err_is_empty
	help_options <out >of_help
	[ -s of_help ] || failed "godwit $command --help shows no options"
	page=$SRC/man/godwit-$command.1.scd
	[ -f "$page" ] || { failed "no man page for $command"; continue; }
	page_options "$page" >of_page
	cmp -s of_help of_page || failed "options of $command: --help and man page differ:
$(diff of_help of_page)"
	out_has "usage: godwit $command "
	awk 'length > 80 && !/\|/' out | grep -v '^usage' >wide
	[ ! -s wide ] || failed "godwit $command --help is wider than 80 columns: $(cat wide)"
	cp out by_option
	run 0 help "$command"
	cmp -s out by_option || failed "godwit help $command is not godwit $command --help"
	grep -q "^\*godwit-$command\*(1)" "$SRC/man/godwit.1.scd" || failed "godwit(1) does not name godwit-$command(1)"
	run 0 "$command" -h
done

for page in "$SRC"/man/godwit-*.1.scd; do
	command=${page##*/godwit-}
	command=${command%.1.scd}
	echo "$commands" | grep -qx "$command" || failed "a man page for $command, which is no command"
done

run 0 --version
same "--version" "godwit $(sed -n "s/.*version: '\([0-9.]*\)',/\1/p" "$SRC/meson.build" | head -n 1)" "$(cat out)"
run 0 --help
out_has "exit status"

if command -v bash >/dev/null; then
	ln -s "$GODWIT" godwit
	complete() { # WORDS...: what the completion offers for the last
		PATH="$tmp:$PATH" bash -c '. "$SRC/completions/godwit.bash"
			COMP_WORDS=(godwit "$@") COMP_CWORD=$#
			compopt() { :; }
			_godwit
			printf "%s\n" "${COMPREPLY[@]}"' bash "$@"
	}
	for command in $commands; do
		complete "$command" | grep -qx "$command" || failed "completion does not offer $command"
		"$GODWIT" "$command" --help | help_options | sed 's/^-., //; s/ .*//' | sort >of_help
		complete "$command" -- | sed 's/=$//' | sort >of_completion
		cmp -s of_help of_completion || failed "completion of $command: $(diff of_help of_completion)"
	done
	same "completion of convert --to" "stream" "$(complete convert --to = s)"
fi
finish
