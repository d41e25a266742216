#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The man pages explain every message id there is (DIAGNOSTICS), with the exit status that the table of places gives it, and no other.
. "$(dirname "$0")/lib.sh"

python3 - "$SRC" <<'EOT' >differing || failed "cannot compare the message ids"
import glob, re, sys
status = {"DONE": 0, "FAILED": 1, "USAGE": 2, "REFUSED": 3, "IN_DOUBT": 4, "RECOVERABLE": 5}
with open(sys.argv[1] + "/src/plan/guest_location.c") as f:
    table = {(i, status[s]) for s, i in re.findall(r"(?:EXIT\(|GW__STATUS_)([A-Z_]+)\)?, \"([a-z-]+)\"\}", f.read())}
explained = set()
for path in glob.glob(sys.argv[1] + "/man/godwit*.1.scd"):
    with open(path) as f:
        section = re.search(r"^# DIAGNOSTICS\n(.*?)^# ", f.read(), re.S | re.M)
    ids = re.findall(r"^\*([a-z-]+)\* \((\d)\)\n\t\S", section.group(1), re.M) if section else []
    for i, s in ids:
        explained.add((i, int(s)))
        if (i, int(s)) not in table:
            print(f"{path}: {i} with exit status {s} is not in the table")
if len(table) < 40:
    print(f"the table has only {len(table)} message ids; was it read?")
for i, s in sorted(table - explained):
    print(f"no man page explains {i}, exit status {s}")
EOT
[ ! -s differing ] || failed "$(cat differing)"

finish
