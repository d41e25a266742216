# SPDX-License-Identifier: MIT
# shellcheck shell=sh
#
# For tests of the command. Sourced. Expects GODWIT (the command) and SRC (the source folder) in the environment; makes
# $tmp, which goes away at the end, and goes there. A test ends with `finish`.

tmp=$(mktemp -d "${TMPDIR:-/tmp}/godwit-cli-XXXXXX") || exit 1
children=
clean_up() {
	for child in $children; do
		kill -9 "$child" 2>/dev/null
	done
	rm -rf "$tmp"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
cd "$tmp" || exit 1
failures=0
unset GODWIT_TRACE

failed() { # WHAT
	printf 'FAILED: %s\n' "$*"
	sed 's/^/  out: /' out 2>/dev/null | head -n 20 | cut -c 1-160
	sed 's/^/  err: /' err 2>/dev/null | head -n 20
	failures=$((failures + 1))
}

skip() { # WHY
	echo "SKIPPED: ${0##*/}: $*" >&2
	exit 77
}

needs() { # PROGRAM...
	for program; do
		command -v "$program" >/dev/null || skip "needs $program"
	done
}

finish() {
	[ "$failures" -eq 0 ] || exit 1
	echo "ok: ${0##*/}"
	exit 0
}

# Runs `godwit ARGS...` into the files out and err and expects the status.
run() { # STATUS ARGS...
	expected=$1
	shift
	ran="godwit $*"
	"$GODWIT" "$@" >out 2>err </dev/null
	status=$?
	[ "$status" -eq "$expected" ] || failed "$ran: status $status, expected $expected"
}

out_has() { grep -qF -e "$1" out || failed "$ran: stdout lacks: $1"; }
err_has() { grep -qF -e "$1" err || failed "$ran: stderr lacks: $1"; }
out_lacks() { ! grep -qF -e "$1" out || failed "$ran: stdout has: $1"; }
out_is_empty() { [ ! -s out ] || failed "$ran: stdout is not empty"; }
err_is_empty() { [ ! -s err ] || failed "$ran: stderr is not empty"; }

# Every message is one line "godwit: a sentence".
err_is_messages() {
	! grep -qv '^godwit: [^ ]' err || failed "$ran: stderr has more than messages"
	[ -s err ] || failed "$ran: no message"
}

same() { [ "$2" = "$3" ] || failed "$1: expected \"$2\", got \"$3\""; } # WHAT EXPECTED GOT
absent() { # FILE...: not there, and nothing that looks like part of it
	for file; do
		[ ! -e "$file" ] || failed "$ran: $file exists"
	done
}

# Unpacks a golden capture into the current folder under its plain name.
capture() { # NAME...
	for name; do
		zstd -dqf --sparse "$SRC/tests/captures/$name.zst" -o "$name" || skip "cannot unpack $name"
	done
}

# Checks JSON lines in out with a Python expression over `lines`, the list of objects.
json() { # WHAT EXPRESSION
	python3 - "$2" <<-'EOF' || failed "$ran: JSON: $1"
		import json, sys
		lines = [json.loads(line) for line in open("out", encoding="utf-8")]
		ok = all(isinstance(o, dict) and "event" in o for o in lines) and eval(sys.argv[1])
		sys.exit(0 if ok else 1)
	EOF
}
expected() { # CAPTURE KEY: from the capture's description, which no decoder of ours has made
	python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$SRC/tests/captures/$1.json" "$2"
}

# Starts `godwit receive URI IMAGE...` in the background and waits until it listens: $receiver, $address.
start_receiver() { # URI IMAGE ARGS...
	mkfifo listens 2>/dev/null
	env --default-signal=INT,TERM,HUP "$GODWIT" receive "$@" --progress=9 9>listens >receiver.out 2>receiver.err &
	receiver=$!
	children="$children $receiver"
	exec 8<listens # stays open, so that the receiver keeps a reader
	read -r word address <&8 || failed "receive $*: ended before it listened: $(cat receiver.err)"
	[ "$word" = listening ] || failed "receive $*: first progress line is: $word $address"
}
end_receiver() { # STATUS
	wait "$receiver"
	status=$?
	exec 8<&-
	cp receiver.out out
	cp receiver.err err
	ran="godwit receive"
	[ "$status" -eq "$1" ] || failed "receive: status $status, expected $1"
}
