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
