#!/bin/sh
# SPDX-License-Identifier: MIT
#
# verify: whole or not, same or not; and convert: what it makes is the same guest in every form and place.
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"
needs zstd python3
export TMPDIR="$tmp"

capture 10.0-mapped.image 10.0-plain.stream 10.0-xbzrle.stream 10.0-mapped-offset.image 11.1-mapped-live.image

# --- one file -------------------------------------------------------------------------------------------------
run 0 verify 10.0-mapped.image
err_is_empty
out_has "whole and consistent"
out_has "30 sections"
run 0 verify 10.0-plain.stream --json
json "verified" '[o["format"] for o in lines if o["event"] == "verified"] == ["stream"]'
json "last is the answer" 'lines[-1]["event"] == "verified" and lines[-1]["devices"] == 30'
run 0 verify 10.0-mapped-offset.image --offset=0x100123
run 1 verify 10.0-mapped-offset.image
out_is_empty
err_is_messages
err_has "magic"
for size in 1 100 5000 700000 774179; do
	head -c $size 10.0-plain.stream >cut
	run 1 verify cut
	out_is_empty
	err_is_messages
done
printf trailing >behind
cat 10.0-plain.stream behind >longer
run 0 verify longer
out_has "warning: "

# --- two files ------------------------------------------------------------------------------------------------
run 0 verify 10.0-mapped.image 10.0-mapped.image
out_has "the same guest"
run 6 verify 10.0-mapped.image 10.0-xbzrle.stream
err_is_empty
out_has 'RAM block "m0"'
out_has 'device "timer"'
run 6 verify 10.0-mapped.image 10.0-xbzrle.stream --differences=1
same "lines" 2 "$(grep -c . out)"
run 6 verify 10.0-xbzrle.stream 10.0-mapped.image --json
json "differences" 'len([o for o in lines if o["event"] == "difference"]) > 3 and lines[-1] == {"event": "compared", "first": "10.0-xbzrle.stream", "second": "10.0-mapped.image", "same": False}'
run 6 verify 10.0-plain.stream 11.1-mapped-live.image
out_has "machine type"
run 1 verify 10.0-plain.stream cut
run 1 verify cut 10.0-plain.stream --json
json "failure" 'lines[-1]["event"] == "failed" and lines[-1]["status"] == 1'

# --- convert --------------------------------------------------------------------------------------------------
alike() { # FILE FILE: the same guest
	run 0 verify "$1" "$2"
	out_has "the same guest"
}
run 0 convert 10.0-xbzrle.stream xbzrle.image
out_is_empty
err_is_empty
alike xbzrle.image 10.0-xbzrle.stream
run 0 convert xbzrle.image xbzrle.stream --to=stream --json
json "done" 'lines[-1] == {"event": "done", "from": "xbzrle.image", "to": "xbzrle.stream", "format": "stream"}'
alike xbzrle.image xbzrle.stream
run 0 convert 10.0-mapped-offset.image moved.image --offset=0x100123
run 0 verify moved.image
printf 'somebody else owns the first bytes' >keeps
cp keeps kept.image
run 0 convert 10.0-mapped.image kept.image --to-offset=34 -v
err_has "kept.image"
same "head of kept.image" "$(cat keeps)" "$(head -c 34 kept.image)"
run 0 inspect kept.image --offset=34 --json --blocks
run 0 convert kept.image back.image --offset=34
alike back.image 10.0-mapped.image

# The raw block is the guest's own RAM file.
run 0 convert 10.0-mapped.image ram --to=raw
same "raw memory" "$(expected 10.0-mapped main_block | sed "s/.*'sha256': '\([0-9a-f]*\)'.*/\1/")" "$(sha256sum <ram | cut -d ' ' -f 1)"
run 0 convert xbzrle.image ram --to=raw --block=m0
same "raw memory of deltas" "$(expected 10.0-xbzrle main_block | sed "s/.*'sha256': '\([0-9a-f]*\)'.*/\1/")" "$(sha256sum <ram | cut -d ' ' -f 1)"
cp ram before
run 1 convert 10.0-mapped.image ram --to=raw --block=nosuch
err_has 'no RAM block "nosuch"'
cmp -s ram before || failed "a failed convert changed its target"

# A failed conversion leaves what was there, and nothing else.
mkdir target
cp keeps target/image
for to in image stream; do
	run 1 convert cut target/image --to=$to
	err_is_messages
	err_has "nothing was written"
	cmp -s target/image keeps || failed "$ran: changed its target"
	same "files beside it" image "$(ls -A target)"
done
run 1 convert 10.0-mapped.image nofolder/image
absent nofolder
same "left in TMPDIR" "" "$(find . -maxdepth 1 -name 'godwit-*')"
finish
