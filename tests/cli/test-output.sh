#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Where output goes, and what happens when it cannot go there.
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"
needs zstd python3
capture 10.0-plain.stream

# A reader that leaves early is no failure, and nobody dies of it.
for args in "inspect 10.0-plain.stream" "inspect 10.0-plain.stream --json" "verify 10.0-plain.stream --json" "help"; do
	# shellcheck disable=SC2086
	{
		"$GODWIT" $args 2>err
		echo $? >status
	} | head -n 1 >out
	same "status of $args | head -n 1" 0 "$(cat status)"
	[ ! -s err ] || failed "$args | head -n 1 says: $(cat err)"
	[ -s out ] || failed "$args | head -n 1 prints nothing"
done
sh -c '"$GODWIT" inspect 10.0-plain.stream --json 2>err; echo $? >status' | true
same "status when nobody reads" 0 "$(cat status)"

# Output that is the result and gets lost is a failure; a guest that is kept stays kept.
if [ -w /dev/full ]; then
	for args in "inspect 10.0-plain.stream" "inspect 10.0-plain.stream --json" "doctor" "--version" "help"; do
		# shellcheck disable=SC2086
		"$GODWIT" $args >/dev/full 2>err
		same "status of $args >/dev/full" 1 $?
		grep -q "standard output" err || failed "$args >/dev/full: no message"
	done
	"$GODWIT" receive file:10.0-plain.stream image --json >/dev/full 2>err
	same "status of receive >/dev/full" 0 $?
	run 0 verify image
fi

# Closed standard streams do not become files of ours.
"$GODWIT" convert 10.0-plain.stream new >&- 2>&- <&-
same "status with closed streams" 0 $?
run 0 verify new
"$GODWIT" inspect 10.0-plain.stream >&- 2>err
"$GODWIT" inspect nosuch 2>&- >out
same "status with closed stderr" 1 $?
out_is_empty

# Control characters from outside reach neither terminal nor JSON.
evil=$(printf 'no\033[31m\nsuch\177\302\233\377file')
run 1 inspect "$evil"
err_has 'no\x1b[31m'
err_has 'such\x7f\xc2\x9b\xfffile'
run 1 inspect "$evil" --json
json "evil name" 'lines[0]["event"] == "failed" and len(lines) == 1'
! LC_ALL=C grep -q "$(printf '[\033\177]')" out err || failed "$ran: a control character got through"

# Progress lines: a reader that is gone does not matter, one that does not read neither.
mkfifo lines
"$GODWIT" verify 10.0-plain.stream --progress=7 7>lines >out 2>err &
verifier=$!
children="$children $verifier"
: <lines
wait $verifier
same "status when the reader of progress is gone" 0 $?
run 0 verify 10.0-plain.stream --progress=1
out_has "progress phase=done"
run 0 inspect 10.0-plain.stream --progress=2
err_has "progress phase="

# Trace on request only.
GODWIT_TRACE=1 "$GODWIT" verify 10.0-plain.stream >out 2>err
ran="GODWIT_TRACE=1 godwit verify"
err_is_messages
err_has "godwit: trace "
GODWIT_TRACE=0 "$GODWIT" verify 10.0-plain.stream >out 2>err
err_is_empty

# On a terminal: a bar, which is wiped; with -q none.
cat >terminal.py <<'EOP'
import os, pty, sys
def run(*args):
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["COLUMNS"] = "80"
        os.execv(os.environ["GODWIT"], ["godwit", *args])
    seen = b""
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    return os.waitpid(pid, 0)[1], seen
status, seen = run("convert", "10.0-plain.stream", "bar", "-v", "--max-nothing") # usage: no bar
assert os.WEXITSTATUS(status) == 2 and b"\x1b[K" not in seen, seen
status, seen = run("convert", "10.0-plain.stream", "bar", "-v")
assert status == 0, seen
assert b"[" in seen and b"%" in seen, seen
last = seen.rsplit(b"\x1b[K", 1)[1]
assert last.startswith(b"godwit: bar was written"), last
for line in seen.replace(b"\x1b[K", b"").replace(b"\r", b"\n").split(b"\n"):
    assert len(line) < 80, line
status, seen = run("convert", "10.0-plain.stream", "bar", "-q")
assert status == 0 and seen == b"", seen
EOP
python3 terminal.py 2>why || failed "on a terminal: $(tail -n 1 why)"
finish
