#!/bin/sh
# SPDX-License-Identifier: MIT
#
# plan with destinations that are described, and monitors that are not there; interop asks real QEMUs.
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"
needs zstd python3
capture 10.0-mapped.image 10.0-plain.stream 10.0-xbzrle.stream

way() { # STATUS WAY ARGS...
	want=$2
	status=$1
	shift 2
	run "$status" plan "$@"
	err_is_empty
	out_has "$want: "
	same "lines" 1 "$(grep -c . out)"
	run "$status" plan "$@" --json
	err_is_empty
	json "way" "len(lines) == 1 and lines[0]['event'] == 'plan' and lines[0]['way'] == '$want' and lines[0]['why']"
}
way 0 direct 10.0-mapped.image
way 0 direct 10.0-mapped.image --machine=pc-i440fx-10.0 --ram=8M
way 0 stream 10.0-mapped.image --machine=pc-i440fx-10.0 --old-qemu
way 0 stream 10.0-mapped.image --remote
way 0 stream 10.0-plain.stream
way 3 refused 10.0-mapped.image --machine=pc-q35-10.0
run 3 plan 10.0-mapped.image --machine=pc-q35-10.0
out_has "pc-i440fx-10.0"
way 3 refused 10.0-mapped.image --ram=16M
way 3 refused 10.0-xbzrle.stream
run 3 plan 10.0-xbzrle.stream
out_has "godwit convert"
run 1 plan 10.0-mapped.image nosocket
out_is_empty
err_is_messages
run 1 plan 10.0-mapped.image nosocket --json
json "failure" 'lines[-1]["event"] == "failed"'

# The table, and questions to it.
run 0 plan --table
err_is_empty
out_has "mapped-ram + xbzrle"
out_has "because: "
run 0 plan --table --json
err_is_empty
json "rows" 'len(lines) > 30 and all(o["why"] and o["operations"] and o["with"] + o["any"] for o in lines if o["event"] == "rule")'
json "every row refuses something" 'all("refused" in o["operations"].values() for o in lines[:-1])'
json "abilities" 'lines[-1]["event"] == "abilities" and {"mapped-ram", "tls", "exec"} <= set(lines[-1]["names"])'
asks() { # STATUS TEXT ARGS...
	want=$2
	status=$1
	shift 2
	run "$status" plan "$@"
	err_is_empty
	out_has "$want"
	run "$status" plan "$@" --json
	json "answer" "len(lines) == 1 and lines[0]['event'] == 'combination' and lines[0]['works'] == (not $status)"
}
asks 3 "one channel" --for=save --with=background-snapshot,multifd
asks 0 "works" --for=save --with=multifd,zstd,tls,unix
asks 0 "works" --for=qemu-source --with=multifd,xbzrle --qemu=7.2
asks 3 "XBZRLE" --for=qemu-source --with=multifd,xbzrle --qemu=10.0
asks 0 "works" --for=qemu-source --with=multifd,postcopy-ram --qemu=11.1
asks 3 "crash" --for=qemu-destination --with=mapped-ram,zlib --qemu=11.1
asks 0 "works" --for=send --with=

# What the table refuses, the commands refuse before they touch anything: no monitor, no address, no file is looked at.
refuses() { # SENTENCE-PART ARGS...
	want=$1
	shift
	run 3 "$@"
	out_is_empty
	err_is_messages
	err_has "$want"
	absent image made socket
}
refuses "one channel" save nomonitor image --at=start --channels=2
refuses "compression needs" save nomonitor image --compress=zlib
refuses "over a socket" save nomonitor image --listen="exec:touch made"
refuses "tcp, unix or vsock" save nomonitor image --listen="exec:touch made" --channels=2
refuses "tcp, unix or vsock" receive "exec:touch made" image --channels=2
refuses "tcp, unix or vsock" receive "exec:touch made" image --tls-creds=.
refuses "tcp, unix or vsock" send 10.0-mapped.image "exec:touch made" --channels=2
refuses "tcp, unix or vsock" send 10.0-mapped.image "file:made" --tls-creds=.
refuses "compression needs" send 10.0-mapped.image unix:socket --compress=zstd
refuses "godwit convert" send 10.0-plain.stream unix:socket --channels=2
refuses "offset" convert 10.0-mapped.image made --to=raw --to-offset=1M

# A monitor that somebody else holds, or that is none.
python3 -c 'import socket, os, sys
s = socket.socket(socket.AF_UNIX)
s.bind("monitor")
s.listen()
open("ready", "w").close()
c, _ = s.accept()
c.sendall(b"220 smtp ready\n")
c.recv(1000)' &
for _ in $(seq 100); do
	[ -e ready ] && break
	sleep 0.05
done
run 1 plan 10.0-mapped.image monitor
err_is_messages
wait
finish
