# SPDX-License-Identifier: MIT
# Bash completion for godwit. It asks the command itself, so it cannot fall behind: commands from `godwit help`,
# options from `godwit COMMAND --help`.

_godwit_commands() {
	godwit help 2>/dev/null | sed -n '/^commands:/,/^options:/s/^  \([a-z][a-z]*\) .*/\1/p'
}

_godwit_options() {
	godwit "$1" --help 2>/dev/null | sed -n 's/^  \(-., \|    \)\(--[a-z-]*=\{0,1\}\).*/\2/p'
}

_godwit_choices() { # COMMAND OPTION: the words between | in its help
	godwit "$1" --help 2>/dev/null | sed -n "s/^      $2=\([a-z]*|[a-z|]*\).*/\1/p" | tr '|' ' '
}

_godwit() {
	local cur prev word i command=
	COMPREPLY=()
	cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--) # the command line of a QEMU
			COMPREPLY=($(compgen -f -c -- "$cur"))
			return
			;;
		-*) ;;
		*) [[ $command ]] || command=$word ;;
		esac
	done
	if [[ ! $command ]]; then
		COMPREPLY=($(compgen -W "$(_godwit_commands) --help --version" -- "$cur"))
		return
	fi
	if [[ $command == help ]]; then
		COMPREPLY=($(compgen -W "$(_godwit_commands)" -- "$cur"))
		return
	fi
	# "--to=im" arrives as the words "--to", "=", "im".
	[[ $cur == "=" ]] && prev=$prev cur=
	[[ $prev == "=" ]] && prev=${COMP_WORDS[COMP_CWORD - 2]}
	if [[ $prev == --* ]]; then
		local choices=$(_godwit_choices "$command" "$prev")
		if [[ $choices ]]; then
			COMPREPLY=($(compgen -W "$choices" -- "$cur"))
			return
		fi
	fi
	if [[ $cur == -* ]]; then
		COMPREPLY=($(compgen -W "$(_godwit_options "$command")" -- "$cur"))
		[[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
		return
	fi
	compopt -o filenames
	COMPREPLY=($(compgen -f -- "$cur"))
}

complete -F _godwit godwit
