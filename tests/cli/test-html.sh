#!/bin/sh
# SPDX-License-Identifier: MIT
#
# inspect --html: the page says of an image what the test has put into it, whatever its names are, and stays small.
# (How it looks is for scripts/look-at-html.)
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"
needs python3

cat >guest.py <<'EOP'
# guest.py STREAM CONTENT [PAGES]: a guest whose names are an attack on the page. Pages 1, 64..127 and 300 of its first block have content.
import json, struct, sys

BLOCK = "</script><script>alert(1)</script>\"'&<!--\u202egpj.exe"
DEVICE = "0/<img src=x onerror=alert(2)>\u202e"
FIELD = "</ScRiPt><b>&amp;"
be32, be64 = (lambda v: struct.pack(">I", v)), (lambda v: struct.pack(">Q", v))
str8 = lambda s: bytes([len(s.encode())]) + s.encode()
content, pages = int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 512
foot = lambda i: b"\x7e" + be32(i)
machine = b"pc-i440fx-10.0"
out = [be32(0x5145564d), be32(3), b"\x07", be32(len(machine)), machine]
out += [b"\x01", be32(2), str8("ram"), be32(0), be32(4), be64((pages + 3) * 4096 | 4)]
out += [str8(BLOCK), be64(pages * 4096), str8("rom"), be64(3 * 4096), be64(0x10), foot(2), b"\x02", be32(2)]
for page in [1, *range(64, 128), 300]:
    out += [be64(page * 4096 | 8), str8(BLOCK), bytes([content if page == 100 else 7]) * 4096]
out += [be64(0x10), foot(2), b"\x03", be32(2), be64(0x10), foot(2)]
out += [b"\x04", be32(3), str8(DEVICE), be32(0), be32(1), be32(0x1234), foot(3), b"\0"]
text = json.dumps({"configuration": {"vmsd_name": "configuration", "version": 1, "fields": [
    {"name": "len", "type": "uint32", "size": 4}, {"name": "name", "type": "buffer", "size": len(machine)}]},
    "page_size": 4096, "devices": [{"name": DEVICE, "instance_id": 0, "vmsd_name": "x", "version": 1,
    "fields": [{"name": FIELD, "type": "uint32", "size": 4}]}]}).encode()
out += [b"\x06", be32(len(text)), text]
open(sys.argv[1], "wb").write(b"".join(out))
EOP

cat >page.py <<'EOP'
# page.py PAGE (WHAT EXPRESSION)...: the page is well-formed, loads nothing, and each expression holds of its data `d`.
import base64, hashlib, html.parser, json, re, sys

class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text, self.where = [], [], {}, None
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.tags.append((tag, a))
        for name in a:
            assert not name.startswith("on") and name not in ("src", "href", "style", "action"), (tag, a)
        if tag in ("script", "style"):
            self.where = a.get("id") or tag
            self.text.setdefault(self.where, "")
        if tag not in ("meta", "input"):
            self.open.append(tag)
    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> in {self.open}"
        self.open.pop()
        self.where = None
    def handle_data(self, text):
        if self.where:
            self.text[self.where] += text

def levels(text):
    steps = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return [steps.index(c) for c in text]

raw = open(sys.argv[1], "rb").read()
assert len(raw) < 2 << 20, f"the page has {len(raw)} bytes"
p = Page()
p.feed(raw.decode())
p.close()
assert not p.open, p.open
assert [t for t, _ in p.tags if t == "script"] == ["script"] * 2 and not any(t in ("img", "b", "link", "iframe") for t, _ in p.tags)
assert set("<>&") & set(p.text["data"]) == set() and p.text["data"].isascii()
policy = next(a["content"] for t, a in p.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
assert policy.startswith("default-src 'none'") and "unsafe" not in policy
for where in ("script", "style"):
    known = base64.b64encode(hashlib.sha256(p.text[where].encode()).digest()).decode()
    assert f"{where}-src 'sha256-{known}'" in policy, f"the policy does not allow the page's own {where}"
assert not re.search(r"https?:|fetch\(|innerHTML|insertAdjacent|document\.write|eval\(", p.text["script"])
d = json.loads(p.text["data"])
for what, expression in zip(sys.argv[2::2], sys.argv[3::2]):
    assert eval(expression), f"{what}: {json.dumps(d)[:2000]}"
EOP

page() { # PAGE (WHAT EXPRESSION)...
	python3 page.py "$@" 2>why || failed "$1: $(tail -n 1 why)"
}

python3 guest.py a.stream 7
python3 guest.py b.stream 8
run 0 convert a.stream a.image -q
run 0 convert b.stream b.image -q

run 0 inspect a.image --html a.html
err_has "a.html"
out_is_empty
page a.html "names as they are" 'd["blocks"][0]["name"] == "</script><script>alert(1)</script>\"\x27&<!--\u202egpj.exe" and d["devices"][0]["name"] == "0/<img src=x onerror=alert(2)>\u202e"' \
	"value" 'd["devices"][0]["fields"][0][0] == "</ScRiPt><b>&amp;" and d["devices"][0]["fields"][0][6] == "0x1234 (4660)"' \
	"map" 'd["blocks"][0]["cell_pages"] == 1 and levels(d["blocks"][0]["present"]) == [63 * (i in (1, 300) or 64 <= i < 128) for i in range(512)]' \
	"second block" 'levels(d["blocks"][1]["present"]) == [0, 0, 0]' \
	"sums" 'd["blocks"][0]["pages"] == 66 and d["blocks"][0]["zero_pages"] == 446 and d["guest"]["ram_bytes"] == 515 * 4096' \
	"nothing compared" 'd["compare"] is None and "differing" not in d["blocks"][0] and d["working_set"] is None'
same "rights of the page" 600 "$(stat -c %a a.html)"

# A stream has a map, too; two images have their difference.
run 0 inspect a.stream --html s.html
page s.html "map of a stream" '[i for i, v in enumerate(levels(d["blocks"][0]["present"])) if v] == [1, *range(64, 128), 300]'
for other in b.image b.stream; do
	run 0 inspect a.image --html d.html --compare "$other" --json
	json "page" 'lines[-1]["event"] == "page" and lines[-1]["html"] == "d.html"'
	page d.html "difference" 'd["blocks"][0]["differing_pages"] == 1 and [i for i, v in enumerate(levels(d["blocks"][0]["differing"])) if v] == [100]' \
		"its sentence" 'len(d["differences"]) == 1 and "1 of 512 pages differ" in d["differences"][0]'
done
run 0 inspect a.image --html d.html --compare a.image -q
err_is_empty
page d.html "no difference" 'd["differences"] == [] and d["compare"] == "a.image" and d["blocks"][0]["differing_pages"] == 0'
run 1 inspect a.stream --html d.html --compare b.image
err_has "godwit convert"
run 1 inspect a.image --html d.html --compare a.html

# 64 GiB: the map is counted in steps, and the page stays small.
python3 guest.py large.stream 7 16777216
run 0 convert large.stream large.image -q
run 0 inspect large.image --html large.html
page large.html "steps" 'd["blocks"][0]["cell_pages"] == 1024 and len(d["blocks"][0]["present"]) == 16384 and levels(d["blocks"][0]["present"])[1:] == [0] * 16383' \
	"part of a step" 'levels(d["blocks"][0]["present"])[0] == 1 + 66 * 62 // 1024'
rm -f large.*

# A real guest.
capture 11.1-q35.stream 10.0-mapped.image
run 0 inspect 11.1-q35.stream --html q35.html
page q35.html "devices" 'len(d["devices"]) > 20 and all(v["fields"] for v in d["devices"] if v["bytes"] > 8) and sum(d["left_out"].values()) == 0'
run 0 inspect 10.0-mapped.image --html mapped.html
page mapped.html "every block" 'all(sum(v == 63 for v in levels(b["present"])) == b["pages"] for b in d["blocks"] if b["cell_pages"] == 1)'

# It replaces a page, but nothing that it shows; a failure leaves what was there.
cp a.html before
run 1 inspect nosuch --html a.html
cmp -s a.html before || failed "$ran: the page is another one"
run 2 inspect a.image --html a.image
err_has "would replace"
ln a.image link
run 2 inspect a.image --html link
run 2 inspect b.image --html a.image --compare a.image
run 0 verify a.image -q
run 1 inspect a.image --html nosuch/a.html
err_has "cannot write"
mkdir folder
run 1 inspect a.image --html folder
run 2 inspect a.image --compare b.image
run 2 inspect a.image --html a.html --blocks
same "temporary files" 0 "$(find . -name '.*.html.*' | wc -l)"
finish
