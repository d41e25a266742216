#!/bin/sh
# SPDX-License-Identifier: MIT
#
# inspect says of captures from real QEMUs what their descriptions say.
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"
needs zstd python3

cat >check.py <<'EOP'
# Compares `inspect --json` with the capture's description.
import json, sys
want = json.load(open(sys.argv[1]))
lines = [json.loads(line) for line in open("out", encoding="utf-8")]
guest = [o for o in lines if o["event"] == "guest"]
blocks = [o for o in lines if o["event"] == "block"]
devices = [o for o in lines if o["event"] == "device"]
assert len(guest) == 1 and lines[0] is guest[0] and len(lines) == 1 + len(blocks) + len(devices)
g = guest[0]
def same(what, a, b):
    assert a == b, f"{what}: expected {a}, got {b}"
same("machine", want["machine"], g["machine"])
same("begin", want["start"], g["begin"])
same("size", want["size"], g["end"])
same("uuid", want["uuid"] if "validate-uuid" in want["capabilities"] else None, g["uuid"])
same("return path", want["return_path"], g["return_path"])
if want["run_state"] != "prelaunch" or g["run_state"] != "prelaunch":
    same("run state", want["run_state"], g["run_state"])
same("blocks", sorted((b["name"], b["used"]) for b in want["blocks"]), sorted((b["name"], b["used_bytes"]) for b in blocks))
same("number of blocks", len(blocks), g["blocks"])
same("ram", sum(b["used"] for b in want["blocks"]), g["ram_bytes"])
same("number of devices", len(devices), g["devices"])
if want["devices"] is not None:
    same("devices", [tuple(d) for d in want["devices"]], [(d["name"], d["instance"]) for d in devices])
main = [b for b in blocks if b["name"] == want["main_block"]["name"]][0]
if not want["main_block"]["in_stream"]:
    same("pages of a block left out", 0, main["pages"])
image = "mapped-ram" in want["capabilities"]
if image:
    same("main block left out", not want["main_block"]["in_stream"], main["ignored"])
same("format", "image" if image else "stream", g["format"])
for d in devices:
    if not g["described"]:
        assert "fields" not in d
        continue
    for f in d["fields"]:
        assert f["offset"] + f["bytes"] <= d["bytes"], (d["name"], f)
        assert f.get("struct") or len(f["hex"]) == 2 * f["bytes"], (d["name"], f)
total = g["bytes"]
assert total["all"] == g["end"] - g["begin"]
if not image:
    assert total["all"] == sum(v for k, v in total.items() if k != "all"), total
EOP

for name in 7.2-plain.stream 7.2-live.stream 7.2-background-snapshot.stream 10.0-plain.stream 10.0-uuid.stream \
	10.0-hugepage.stream 10.0-return-path.stream 10.0-suppress-vmdesc.stream 10.0-ignore-shared.stream \
	10.0-postcopy-advised.stream 10.0-mapped.image 10.0-mapped-offset.image 11.1-xbzrle.stream 11.1-virtio-mem.stream \
	11.1-many-devices.stream 11.1-two-cpus.stream 11.1-q35.stream 11.1-mapped-live.image 11.1-mapped-ignore-shared.image \
	11.1-mapped-multifd.image; do
	capture "$name"
	start=$(expected "${name%.*}" start)
	run 0 inspect "$name" --json "--offset=$start"
	err_is_empty
	python3 check.py "$SRC/tests/captures/${name%.*}.json" 2>why || failed "$name: $(tail -n 1 why)"
	run 0 inspect "$name" "--offset=$start"
	err_is_empty
	out_has "$(expected "${name%.*}" machine)"
	[ "$name" = 10.0-mapped.image ] || [ "$name" = 10.0-plain.stream ] || [ "$name" = 10.0-suppress-vmdesc.stream ] || rm "$name"
done

# A name without a scheme, a URI, standard input: the same guest.
run 0 inspect 10.0-plain.stream --devices
cp out plain
for from in file:10.0-plain.stream exec:"cat 10.0-plain.stream"; do
	run 0 inspect "$from" --devices
	cmp -s out plain || failed "$ran: not what the plain path gives"
done
"$GODWIT" inspect fd:0 --devices <10.0-plain.stream >out 2>err || failed "inspect fd:0"
cmp -s out plain || failed "inspect fd:0: not what the plain path gives"

# Only the tables asked for.
run 0 inspect 10.0-mapped.image --blocks
out_has "pc.bios"
out_lacks "i8259"
run 0 inspect 10.0-mapped.image --devices
out_has "i8259"
out_lacks "pc.bios"
run 0 inspect 10.0-mapped.image --blocks --json
json "blocks only" 'len(lines) == 6 and all(o["event"] == "block" for o in lines)'

# Fields of one device, or of one instance of it.
run 0 inspect 10.0-mapped.image --device i8259
same "instances of i8259" 2 "$(grep -c '^i8259 instance' out)"
run 0 inspect 10.0-mapped.image --device i8259/1
same "instances of i8259/1" 1 "$(grep -c '^i8259 instance' out)"
run 0 inspect 10.0-mapped.image --device 0000:00:01.1/ide # a name with a slash and no instance
out_has "0000:00:01.1/ide instance 0"
run 0 inspect 10.0-mapped.image --device apic/0 --json
json "apic base" '[f["value"] for f in lines[0]["fields"] if f["path"] == "apicbase"] == [0xfee00900]'
json "lvt" '[len(f["value"]) for f in lines[0]["fields"] if f["path"] == "lvt"] == [6]'
run 0 inspect 10.0-mapped.image --device fdc
out_has "state.drives[1].head"
run 0 inspect 10.0-mapped.image --device globalstate
out_has "runstate"
run 1 inspect 10.0-mapped.image --device nosuch
err_has 'no device "nosuch"'
run 1 inspect 10.0-mapped.image --device i8259/7
run 0 inspect 10.0-suppress-vmdesc.stream --device i8259
err_has "no VM description"

# What is legal but odd: shown by inspect, and by those who read it with --verbose.
"$GODWIT" convert 10.0-plain.stream odd.image -q || failed "convert to an image"
other_pages() { # FROM TO: the description names pages of 8 KiB
	python3 - "$1" "$2" <<'EOP'
import sys
data = open(sys.argv[1], "rb").read()
assert data.count(b'"page_size": 4096') == 1
open(sys.argv[2], "wb").write(data.replace(b'"page_size": 4096', b'"page_size": 8192'))
EOP
}
other_pages odd.image odd
run 0 inspect odd
out_has "warnings"
out_has "the VM description names "
run 0 inspect odd --json
json "warnings" 'lines[0]["warnings"] and all("page size" in w for w in lines[0]["warnings"])'
run 0 convert odd odd.out --to=stream
out_lacks "warning"
run 0 convert odd odd.out --to=stream -v
err_has "warning: "
err_has "the VM description names "

# A stream does not state its page size: the description does, in a file; else one has to say it.
other_pages 10.0-plain.stream odd
run 1 inspect odd
err_has "page size 8192"
run 0 inspect odd --page-size=4K
run 1 inspect 10.0-plain.stream --page-size=8K
run 2 inspect 10.0-plain.stream --page-size=5000
err_has "a power of two"
run 0 receive file:10.0-plain.stream odd.out -v
! grep -q warning err || failed "$ran: a warning for nothing"
run 0 inspect 10.0-plain.stream --json
json "no warnings" 'lines[0]["warnings"] == []'

# A short description can ask for more fields than there is memory for: what is kept is limited, and what is shown.
python3 - many <<'EOP'
import json, os, sys
sys.path.insert(0, os.environ["SRC"] + "/tests/lib")
from mfdsource import BLOCK_PAGES, be, end, head, part, start, str8, zero_record
BODY = 50000
parts = [{"name": "e" * 200, "type": "uint8", "size": 0}] * 10 + [{"name": "b", "type": "uint8", "size": 1}]
struct = {"vmsd_name": "n", "version": 1, "fields": parts}
device = {"name": "dev", "instance_id": 0, "vmsd_name": "dev", "version": 1,
    "fields": [{"name": "s" * 200, "array_len": BODY, "type": "struct", "size": 1, "struct": struct}]}
text = json.dumps({"page_size": 4096, "devices": [device]}).encode()
body = b"\x04" + be(7) + str8("dev") + be(0, 1) + bytes(BODY) + b"\x7e" + be(7)
pages = part(*[zero_record(p) for p in range(BLOCK_PAGES)])
with open(sys.argv[1], "wb") as f:
    f.write(head(return_path=False) + start(mark=False) + pages + end(mark=False) + body + b"\0\x06" + be(len(text)) + text)
EOP
for limit in 128K 32M; do
	run 0 inspect many --device=dev "--memory-limit=$limit"
	err_has "the fields of dev beyond what is shown need more memory than --memory-limit"
	grep -q ' struct ' out || failed "$ran: no field"
	[ "$(wc -l <out)" -lt 200000 ] || failed "$ran: $(wc -l <out) lines"
	run 0 inspect many --json "--memory-limit=$limit"
	err_has "need more memory than --memory-limit"
	json "a device with too many fields" '[o["bytes"] for o in lines if o["event"] == "device" and "fields" not in o] == [50000]'
done

# Damage is named, in JSON too, and the message is not on stdout.
head -c 300000 10.0-plain.stream >cut
run 1 inspect cut
out_is_empty
err_is_messages
run 1 inspect cut --json
json "failure" 'len(lines) == 1 and lines[0]["event"] == "failed" and lines[0]["status"] == 1 and "offset" in lines[0]["message"]'
run 1 inspect cut --json --device x
capture 10.0-mapped-background-snapshot.image
run 1 inspect 10.0-mapped-background-snapshot.image
err_has "background-snapshot"
printf 'not a guest, only some words' >words
run 1 inspect words
err_is_messages
: >empty
run 1 inspect empty
finish
