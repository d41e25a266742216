#!/bin/sh
# SPDX-License-Identifier: MIT
#
# doctor answers every row on every machine, changes nothing, and believes no program that is not QEMU.
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"
needs python3

checks="kernel qemu clones kvm userfaultfd pagemap-scan dirty-tracking io_uring tmpfile direct-io holes memlock hugepages lease brokers"
mkdir images
run 0 doctor images
err_is_empty
for check in $checks; do
	grep -qE "^$check +(ok|limited|missing) +[^ ]" out || failed "doctor has no row for $check"
	grep -q "^|*\[* *\*$check\*" "$SRC/man/godwit-doctor.1.scd" || failed "godwit-doctor(1) does not explain $check"
done
same "left in the folder" "" "$(ls -A images)"
run 0 doctor images --json
json "rows" "[o['name'] for o in lines] == '$checks'.split()"
json "findings" 'all(o["finding"] in ("ok", "limited", "missing") and o["text"] for o in lines)'

qemu() { # FINDING TEXT: of ./qemu
	run 0 doctor --qemu=./qemu --json
	json "qemu" "[(o['finding'], '$2' in o['text']) for o in lines if o['name'] == 'qemu'] == [('$1', True)]"
}
fake() {
	printf '#!/bin/sh\n%s\n' "$1" >qemu
	chmod +x qemu
}
qemu missing "No such file"
fake 'echo "QEMU emulator version 7.2.22 (Debian)"'
qemu limited "7.2.22"
fake 'echo "QEMU emulator version 10.0.2"; exit 0'
qemu ok "10.0.2"
fake 'echo hello'
qemu missing "does not report its version"
fake 'exit 3'
qemu missing "status 3"
fake 'yes'
qemu missing "does not report its version"
run 0 doctor --qmp=./nobody --json
json "its row" "[(o['finding'], 'nobody' in o['text']) for o in lines if o['name'] == 'qemu-userfaultfd'] == [('missing', True)]"
run 0 doctor nofolder
err_is_empty
out_has "nofolder"
finish
