#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What the name of a file means, in every command; and what is said of a file that is no image and no stream.
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"
needs zstd gzip python3
capture 10.0-plain.stream 10.0-mapped.image

# A pattern of the shell never becomes a command, a descriptor or another file.
for name in "exec:touch ran" fd:0 file:nosuch; do
	cp 10.0-mapped.image "$name"
	run 0 verify "$name" </dev/null
	run 0 inspect "$name" </dev/null
	run 0 convert "$name" "made" </dev/null
	cp 10.0-mapped.image old
	run 0 convert old "$name"
	rm "$name" made
	ln -s nowhere "$name"
	run 1 inspect "$name" </dev/null
	rm "$name"
done
absent ran
run 0 inspect "exec:cat 10.0-plain.stream"
run 0 inspect file:10.0-mapped.image

# Where an image is written, served or restored, a name is never a command, and file: is a path.
for name in "exec:touch ran" fd:0 tcp:127.0.0.1:1 unix:x vsock:1:1; do
	run 2 receive file:10.0-plain.stream "$name"
	err_has "write ./$name"
	run 2 save nosuch "$name"
	run 2 drain nosuch "$name"
	run 2 serve "$name" --qmp nosuch
	run 2 restore "$name" --qmp nosuch
	run 2 convert 10.0-plain.stream "$name"
	absent "$name" ran
done
run 0 receive file:10.0-plain.stream file:kept
run 0 verify kept
absent file:kept
run 0 convert 10.0-plain.stream "./exec:x"
run 0 verify "exec:x"
run 2 receive file:10.0-plain.stream file:kept,offset=4
err_has "with --offset"

# Files that people keep guests in.
gzip -k 10.0-plain.stream
zstd -q 10.0-plain.stream -o packed.zst
for f in "10.0-plain.stream.gz gzip" "packed.zst zstd"; do
	for command in inspect verify; do
		run 1 $command "${f% *}"
		err_has "${f% *} is compressed with ${f#* }: give 'exec:${f#* } -dc ${f% *}' instead of it"
	done
	run 1 send "${f% *}" exec:true
	run 1 receive "file:${f% *}" image
	err_has "it is compressed with ${f#* }"
	run 0 inspect "exec:${f#* } -dc ${f% *}"
done
python3 - <<'EOP'
import struct
stream = open("10.0-plain.stream", "rb").read()
for name, magic, order, fmt, body in (("save", b"Save", "<", 0, stream), ("big", b"Save", ">", 0, stream), ("part", b"Part", "<", 0, stream),
                                      ("zst", b"Save", "<", 5, open("packed.zst", "rb").read()), ("bad", b"Save", "<", 9, stream)):
    xml = b"<domain/>\n\0" + bytes(1024)
    head = b"LibvirtQemud" + magic + struct.pack(order + "5I", 2, len(xml), 1, fmt, 0)
    open("libvirt." + name, "wb").write(head.ljust(92, b"\0") + xml + body)
open("x.ws", "wb").write(b"GWWS\r\n\x1a\n" + bytes(100))
EOP
for name in save big; do
	run 1 inspect libvirt.$name
	err_has "libvirt.$name is a save file of libvirt (virsh save); its guest begins at offset 1127: give --offset=1127"
	run 0 inspect libvirt.$name --offset=1127
	run 0 verify libvirt.$name --offset=1127
	run 0 convert libvirt.$name made --offset=1127
	run 1 restore libvirt.$name --qmp nosuch
	err_has "--offset=1127"
done
run 1 inspect libvirt.part
err_has "an unfinished save file of libvirt"
run 1 inspect libvirt.zst
err_has "give 'exec:tail -c +1128 libvirt.zst | zstd -dc' instead of it"
run 0 inspect "exec:tail -c +1128 libvirt.zst | zstd -dc"
run 1 inspect libvirt.zst --offset=1127
err_has "'exec:tail -c +1128 libvirt.zst | zstd -dc'"
run 1 inspect libvirt.bad
err_has "its head is damaged or newer than version 2"
run 1 inspect x.ws
err_has "x.ws is a working set"

# Each thing is named once, and only what is there is called untouched.
run 1 inspect .
err_has "godwit: . is a folder, expected an image or a stream"
run 1 send nosuch exec:true
! grep -q untouched err || failed "$ran: what is not there is called untouched"

# A pipe nobody writes to is not waited for without end; one that somebody writes to is read.
mkfifo pipe
run 1 inspect pipe
err_has "pipe is a pipe, and nobody wrote to it for 10 s"
cat 10.0-plain.stream >pipe &
children="$children $!"
run 0 inspect pipe

# Control characters, directions of text and what cannot be seen pass neither into text nor into JSON, whoever put them there.
python3 - <<'EOP'
data = open("10.0-plain.stream", "rb").read()
name = b"/rom@etc/acpi/tables"
assert name in data
open("evil.stream", "wb").write(data.replace(name, "\u202e\u009b\u200b".encode().ljust(len(name), b"m")))
open("a\u202e\u009b31m\u2028\x7f\nb", "wb").write(data)
EOP
evil=$(printf 'a\342\200\256\302\23331m\342\200\250\177\nb')
unsafe() { # FILE
	python3 - "$1" <<'EOP'
import sys, unicodedata
text = open(sys.argv[1], "rb").read().decode()
sys.exit(not any(unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c != "\n" for c in text))
EOP
}
for f in evil.stream "$evil"; do
	for args in "inspect" "verify" "inspect --json" "verify --json" "inspect --devices"; do
		# shellcheck disable=SC2086
		run 0 $args "$f"
		! unsafe out || failed "$ran: an unsafe character in its output"
		! unsafe err || failed "$ran: an unsafe character in its messages"
		! grep -q "^b" out err || failed "$ran: a name on two lines"
	done
done
run 0 inspect --json "$evil"
json "a name in JSON is what it was" 'lines[0]["file"] == "a\u202e\x9b31m\u2028\x7f\nb"'
run 1 inspect "no$evil"
! unsafe err || failed "$ran: an unsafe character in its message"
same "lines of the message" 1 "$(wc -l <err)"

finish
