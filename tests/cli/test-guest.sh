#!/bin/sh
# SPDX-License-Identifier: MIT
#
# godwit guest: wrong use is refused, a guest runs and is checked, and one that is not there is named. Moves are in tests/interop/test-guest-command.py.
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"

run 2 guest
run 2 guest dance
err_has "dance"
run 2 guest run --memory=16M
err_has "--control"
run 2 guest run --control=c
err_has "--memory"
run 2 guest run --memory=16M --control=c more
run 2 guest run --memory=4095 --control=c
err_has "4095 bytes"
run 2 guest run --memory=16M --control=c --writers=17
err_has "17 writers"
run 2 guest run --memory=16M --control=c --workload=nothing
run 2 guest send c
run 2 guest check
run 2 guest check c --offset=1
run 2 guest stop
absent c
for verb in check stop "send c tcp:127.0.0.1:1"; do
	[ "$verb" = "send c tcp:127.0.0.1:1" ] && run 1 guest $verb || run 1 guest $verb c
	err_has "cannot reach a guest at c"
done

guest() { # OPTIONS...: in the background, until its socket is there
	"$GODWIT" guest run --memory=4M --control=c --report -q "$@" >guest.out 2>guest.err &
	children="$children $!"
	until [ -S c ]; do
		kill -0 "${children##* }" 2>/dev/null || { failed "the guest did not start: $(cat guest.err)"; return; }
		sleep 0.05
	done
}
guest --workload=burst
run 0 guest check c
out_has "1024 pages are right"
err_is_empty
run 1 guest run --memory=4M --control=c
err_has "another guest already uses c"
run 0 guest check c --json
json "the answer" "lines[0]['status'] == 0 and lines[0]['pages'] == 1024 and lines[0]['where'] == 'here'"
run 1 guest send c unix:nobody
err_has "the guest is here"
head -c 1048576 /dev/zero >copy # not all of these are zero in the guest, two may be
run 6 guest check c --copy=copy --offset=8K
err_has "not right"
run 1 guest check c --copy=nothing
run 0 guest check c
run 0 guest stop c
out_has "the guest is stopped"
wait
absent c
run 1 guest check c
run 2 guest run --memory=4M --control=c --lazy
err_has "--lazy needs a guest that comes: --incoming"
run 1 guest run --memory=4M --control=c --incoming=file:nothing --lazy
err_has "no guest came, and the image is as it was"
absent c

# A guest in an image, and out of it; lazily where a userfaultfd can be had.
"$GODWIT" receive unix:in image -q 2>receive.err &
receiver=$!
children="$children $receiver"
until [ -S in ]; do sleep 0.05; done
guest --workload=uniform --rate=5000 --seed=3
run 0 guest send c unix:in
wait $receiver || failed "the guest was not kept: $(cat receive.err)"
run 0 guest stop c
wait
for way in "" --lazy; do
	"$GODWIT" guest run --memory=4M --control=c --report -q --incoming=file:image $way 2>guest.err &
	child=$!
	children="$children $child"
	until [ -S c ] || ! kill -0 $child 2>/dev/null; do sleep 0.05; done
	ran="godwit guest check c, of a guest of an image $way"
	if "$GODWIT" guest check c >out 2>err; then
		out_has "1024 pages are right"
		run 0 guest stop c
	elif [ -z "$way" ] || ! grep -q "userfaultfd" guest.err; then
		failed "$ran: $(cat guest.err)"
	fi
	wait $child
done
: >c
run 1 guest run --memory=4M --control=c --report
err_has "cannot listen at c"
finish
