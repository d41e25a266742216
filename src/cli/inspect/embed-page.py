# SPDX-License-Identifier: MIT
"""embed-page.py HTML CSS JS OUT: puts style and script into the page, and the page into a C file, in two halves around its data.

The page's policy lets a browser run this script and style, known by their hashes, and nothing else: nothing is loaded, and what an image
is able to smuggle in does not run.
"""
import base64
import hashlib
import sys

html, css, js = (open(name, encoding="utf-8").read() for name in sys.argv[1:4])


def known(text):
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


for word, text in (("STYLE", css), ("SCRIPT", js)):
    if "</" in text:
        sys.exit(f"the {word.lower()} has a closing tag in it, and would end there")
    html = html.replace(f"{{{word}_HASH}}", known(text)).replace(f"{{{word}}}", text)
halves = html.split("{DATA}")
if len(halves) != 2:
    sys.exit(f"the page has {len(halves) - 1} places for its data, expected 1")
with open(sys.argv[4], "w", encoding="utf-8") as out:
    out.write('#include "cli/inspect/page.h"\n')
    for name, text in zip(("head", "tail"), halves):
        data = text.encode()
        out.write(f"const unsigned char gw__page_{name}[] = {{")
        for at in range(0, len(data), 24):
            out.write("\n" + ",".join(str(b) for b in data[at:at + 24]) + ",")
        out.write(f"\n}};\nconst size_t gw__page_{name}_bytes = sizeof gw__page_{name};\n")
