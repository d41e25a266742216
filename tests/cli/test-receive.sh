#!/bin/sh
# SPDX-License-Identifier: MIT
#
# receive and send with each other: addresses, events, progress lines, failures, signals.
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"
needs zstd python3 env mkfifo

capture 10.0-plain.stream 10.0-mapped.image
mkdir kept

# --- over a unix socket, told as JSON ---------------------------------------------------------------------------
start_receiver unix:socket kept/image --json
same "address" unix:socket "$address"
run 1 receive unix:socket kept/other
err_is_messages
err_has "unix:socket"
absent kept/other
run 0 send 10.0-mapped.image unix:socket
out_is_empty
err_is_messages
err_has "has loaded the guest"
end_receiver 0
json "listening first" 'lines[0] == {"event": "listening", "uri": "unix:socket"}'
json "done last" 'lines[-1]["event"] == "done" and lines[-1]["devices"] == 30 and lines[-1]["source_notified"] is True'
json "phases" '[o["phase"] for o in lines if o["event"] == "progress"][-1] == "done"'
err_has "the source is notified"
run 0 verify kept/image 10.0-mapped.image
absent socket
same "files" image "$(ls -A kept)"

# --- over TCP, with progress lines ------------------------------------------------------------------------------
for host in 127.0.0.1 '[::1]'; do
	[ "$host" = 127.0.0.1 ] || [ -e /proc/net/if_inet6 ] || continue
	mkfifo lines
	: >lines.seen
	cat lines >>lines.seen &
	"$GODWIT" receive "tcp:$host:0" kept/tcp --progress=7 -q 7>lines >receiver.out 2>receiver.err &
	receiver=$!
	children="$children $receiver"
	for _ in $(seq 200); do
		grep -q '^listening' lines.seen && break
		kill -0 "$receiver" 2>/dev/null || break
		sleep 0.05
	done
	address=$(sed -n 's/^listening //p' lines.seen)
	run 0 send 10.0-plain.stream "$address" -q --json
	json "send says done" 'lines[-1]["event"] == "done" and lines[-1]["confirmed"] is True'
	err_is_empty
	wait "$receiver"
	same "receive over $host" 0 $?
	wait
	[ ! -s receiver.err ] || failed "receive -q says: $(cat receiver.err)"
	! grep -vE '^(listening tcp:.*:[1-9][0-9]*|progress phase=(waiting|ram|devices|sync|done)( [a-z]+=[0-9]+)+)$' lines.seen ||
		failed "progress lines have another form: $(cat lines.seen)"
	same "last line" done "$(sed -n '$s/^progress phase=\([a-z]*\) .*/\1/p' lines.seen)"
	same "total" "$(stat -c %s kept/tcp >/dev/null && "$GODWIT" inspect kept/tcp --json | sed -n '1s/.*"ram_bytes":\([0-9]*\).*/\1/p')" \
		"$(sed -n '$s/.* total=\([0-9]*\) .*/\1/p' lines.seen)"
	rm lines
done

# --- from pipes and files ---------------------------------------------------------------------------------------
ran="receive fd:0"
"$GODWIT" receive fd:0 kept/pipe <10.0-plain.stream >out 2>err || failed "$ran"
out_is_empty
run 0 receive "exec:cat 10.0-plain.stream" kept/exec
run 0 receive file:10.0-plain.stream kept/file --offset=4096
run 0 verify kept/pipe kept/exec
run 0 verify kept/file --offset=4096
run 0 send kept/pipe "exec:cat >sent.stream"
err_has "was written to"
run 0 verify sent.stream kept/pipe
run 0 send kept/pipe file:sent2.stream
cmp -s sent.stream sent2.stream || failed "send to a file and to a pipe differ"

# --- what fails leaves no image ---------------------------------------------------------------------------------
rm -rf kept
mkdir kept
echo precious >kept/image
intact() {
	same "the image that was there" precious "$(cat kept/image)"
	same "files" image "$(ls -A kept)"
}
head -c 300000 10.0-plain.stream >cut
run 1 receive file:cut kept/image
err_has "no image was written"
intact
run 1 receive "exec:exit 3" kept/image --json
json "failure" 'lines[-1]["event"] == "failed" and lines[-1]["status"] == 1'
json "place" '(lines[-1]["place"], lines[-1]["next_step"], lines[-1]["message_id"]) == ("kept-whole", "try-again", "image-as-before")'
intact
run 1 receive unix:nofolder/socket kept/image
err_is_messages
intact
run 1 receive tcp:127.0.0.1:0 kept/image --connect-timeout=0.2
err_has "nobody connected"
intact
run 1 send 10.0-mapped.image unix:nosocket
err_has "nothing was sent"
run 1 send cut unix:nosocket
run 1 send 10.0-mapped.image "exec:exit 7"
err_is_messages

start_receiver unix:socket kept/image # a source that goes away in the middle
python3 -c 'import socket
s = socket.socket(socket.AF_UNIX)
s.connect("socket")
s.sendall(open("cut", "rb").read())'
end_receiver 1
err_has "the source still runs its guest"
intact
absent socket
start_receiver unix:socket kept/image --json # the same, as programs are told it
python3 -c 'import socket
s = socket.socket(socket.AF_UNIX)
s.connect("socket")
s.sendall(open("cut", "rb").read())'
end_receiver 1
json "place" '(lines[-1]["place"], lines[-1]["message_id"]) == ("source-runs", "source-runs")'

start_receiver unix:socket kept/image --idle-timeout=0.3 # a source that falls silent
python3 -c 'import socket
s = socket.socket(socket.AF_UNIX)
s.connect("socket")
s.sendall(open("cut", "rb").read())
s.recv(1)'
end_receiver 1
intact

# --- signals ----------------------------------------------------------------------------------------------------
for signal in INT TERM HUP; do
	start_receiver unix:socket kept/image --json
	kill -$signal "$receiver"
	end_receiver 1
	err_has "stopped by SIG$signal"
	json "failure" 'lines[-1]["event"] == "failed" and lines[-1]["status"] == 1'
	intact
	absent socket
done

# A stop in the middle of a stream.
mkfifo stream
start_receiver unix:socket kept/image
python3 -c 'import socket
s = socket.socket(socket.AF_UNIX)
s.connect("socket")
s.sendall(open("cut", "rb").read())
open("stream", "w").close()
s.recv(1)' &
: <stream
kill -TERM "$receiver"
end_receiver 1
wait
err_has "stopped by SIGTERM"
intact

# The wish of nohup is respected: SIGHUP goes unnoticed.
mkfifo listens 2>/dev/null
env --ignore-signal=HUP "$GODWIT" receive unix:socket kept/image --progress=9 9>listens >receiver.out 2>receiver.err &
receiver=$!
children="$children $receiver"
exec 8<listens
read -r word address <&8
kill -HUP "$receiver"
run 0 send 10.0-mapped.image unix:socket
end_receiver 0
finish
