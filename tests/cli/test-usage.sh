#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What is not understood is status 2, with a sentence on stderr and nothing on stdout.
# shellcheck source-path=SCRIPTDIR
. "$SRC/tests/cli/lib.sh"

misuse() { # SENTENCE-PART ARGS...
	part=$1
	shift
	run 2 "$@"
	out_is_empty
	err_is_messages
	err_has "$part"
}

misuse "which command"
misuse 'no command "nonsense"' nonsense
misuse 'no command "nonsense"' help nonsense
misuse "options come after" --json inspect x
for command in $("$GODWIT" help | sed -n '/^commands:/,/^options:/s/^  \([a-z][a-z]*\) .*/\1/p' | grep -vx help); do
	misuse "--nonsense" "$command" --nonsense
	misuse "-Z" "$command" -Z
	[ "$command" = doctor ] || misuse "argument is missing" "$command"
	misuse 'unexpected argument' "$command" a b c d
done
misuse "--offset needs an argument" inspect file --offset
misuse "--device needs an argument" inspect file --device
misuse "--json" inspect file --json=yes
for size in "" x 12x -1 1.5G 99999999999999999999 9000000T 0x 1KB; do
	misuse "--offset" inspect file "--offset=$size"
done
for seconds in "" x -1 0 1s nan inf 99999999999; do
	misuse "--idle-timeout" receive unix:x image "--idle-timeout=$seconds"
done
misuse '"picture" is not image|stream|raw' convert a b --to=picture
misuse '"" is not image|stream|raw' convert a b --to=
misuse "--progress" verify file --progress=77
misuse "--progress" verify file --progress=x
misuse "--differences" verify a b --differences=-1
misuse "--block needs --to=raw" convert a b --block=pc.ram
misuse "--offset is for one file" verify a b --offset=1
misuse "at most 255" save qmp image --channels=256
misuse "at most 255" receive unix:x image --channels=300
misuse "at most 255" send image unix:x --channels=99999
misuse "at most 255" restore image --qmp=qmp --channels=256
misuse "--level needs" save qmp image --level=3 --channels=2
misuse "keeps the options" save qmp image --postcopy --resume --offset=4096
misuse "keeps the options" save qmp image --postcopy --resume --way=direct
misuse "leave out --stop" save qmp image --postcopy --abandon --stop
misuse "writes no image" save qmp image --postcopy --abandon --max-bandwidth=1M
misuse "--level needs" send image unix:x --level=3 --channels=2
misuse "no capability" plan --for=save --with=multifd,flying
misuse "no operation" plan --for=flying --with=multifd
misuse "not a release" plan --for=save --with=multifd --qemu=new
misuse "need each other" plan --for=save
misuse "need each other" plan --with=multifd --qemu=10.0
misuse "no other options" plan --table image
misuse "no other options" plan --table --for=save --with=multifd
misuse "describe a destination without QMP" plan image qmp --machine=pc
misuse "unknown migration protocol" receive nonsense:1 image
misuse "unknown migration protocol" proxy unix:a nonsense:1
misuse "both ways" proxy file:a unix:b
misuse "both ways" proxy unix:a exec:true
misuse "one connection" proxy fd:0 unix:b --keep
for fault in "" x main: main:forward: forward:main:1 main:sideways:1 a:b:c:1 1Q :1; do
	misuse "--cut-after: \"$fault\" is not of the form" proxy unix:a unix:b "--cut-after=$fault"
	misuse "--rate: \"$fault\" is not of the form" proxy unix:a unix:b "--rate=$fault"
done
for fault in "" main: main:forward:3:PING; do
	misuse "--cut-at: \"$fault\" is not of the form" proxy unix:a unix:b "--cut-at=$fault"
done
misuse 'no channel "side"' proxy unix:a unix:b --cut-after=side:return:1
misuse 'no channel "multifd255"' proxy unix:a unix:b --rate=multifd255:1
misuse 'no channel "PING"' proxy unix:a unix:b --cut-at=PING:3:3
misuse 'no message "3"' proxy unix:a unix:b --cut-at=3
misuse 'no message "PINGPONG"' proxy unix:a unix:b --cut-at=ping --cut-at=PINGPONG
misuse "counted from 1" proxy unix:a unix:b --cut-at=PING:0
misuse "lets nothing through" proxy unix:a unix:b --rate=main:0
absent image
for size in 4096 0x1000 4K 4k 1M 2G 1T; do # all fine: what fails is the file
	run 1 inspect file "--offset=$size"
	err_has "file"
done

# No file, no folder, a folder for a file.
run 1 inspect file
err_is_messages
err_has "No such file or directory"
run 1 verify file
run 1 verify file file
run 1 convert file new
absent new
run 1 send file unix:socket
run 1 plan file
mkdir folder
run 1 inspect folder
err_is_messages
run 1 receive unix:socket nofolder/image
err_has "nofolder"
absent socket
finish
