#!/bin/sh
# SPDX-License-Identifier: MIT
#
# scripts/check-rooms can fail: a tree that is good passes, and with any one violation in it does not, by file and line.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failures=0

fail() {
	echo "FAILED: $1"
	failures=$((failures + 1))
}

allow() { # LINE...: a script that allows this and nothing else
	script=$tmp/check-rooms
	{
		sed '/^allowed() {/q' "$here/../../scripts/check-rooms"
		printf "	cat <<'EOT'\n"
		printf '%s\n' "$@" EOT
		sed '1,/^allowed() {/d' "$here/../../scripts/check-rooms" | sed '1,/^EOT$/d'
	} >"$script"
}
allow # what our own tree needs is not needed in this one

spdx='/* SPDX-License-Identifier: MIT */'

source_file() { # PATH INCLUDE...
	path=$tmp/tree/$1
	shift
	mkdir -p "$(dirname "$path")"
	{
		echo "$spdx"
		for header; do echo "#include $header"; done
	} >"$path"
}

rooms='base wire plan dissect io thread guest guest/mem qmp image/file image/epochs image/journal image/read image/write engine/core engine/sink engine/incoming
 engine/outgoing engine/pageserver engine/files engine/colo engine/proxy lib qemu cli/ui cli/cmd cli/doctor cli/guest cli/inspect cli'

make_good_tree() {
	source_file include/godwit.h '<stdint.h>'
	source_file include/godwit-qemu.h '<godwit.h>'
	for each in $rooms; do
		source_file "src/$each/x.h" '<stddef.h>'
		source_file "src/$each/x.c" "\"$each/x.h\"" '<string.h>'
	done
	source_file src/base/y.c '"base/x.h"' '<stdio.h>' '<sys/sdt.h>'
	source_file src/wire/y.c '"wire/x.h"' '"base/x.h"' '<jansson.h>'
	source_file src/io/y.c '"base/x.h"' '<sys/socket.h>' '<liburing.h>' '<gnutls/gnutls.h>'
	source_file src/image/write/y.c '"image/journal/x.h"' '<liburing.h>'
	source_file src/lib/y.c '"godwit.h"' '"engine/incoming/x.h"' '<pthread.h>'
	source_file src/qemu/y.c '<godwit-qemu.h>' '"qmp/x.h"' '<jansson.h>'
	source_file src/cli/cmd/y.c '<godwit-qemu.h>' '"cli/ui/x.h"' '<unistd.h>'
	source_file tests/test_x.c '"io/x.h"' '<cmocka.h>'
	source_file build/src/wire/made.c '<pthread.h>' # not ours
	echo '# SPDX-License-Identifier: MIT' >"$tmp/tree/meson.build"
	printf '#!/bin/sh\n# SPDX-License-Identifier: MIT\n' >"$tmp/tree/run"
	echo 'any text' >"$tmp/tree/README"
	mv "$tmp/tree" "$tmp/good"
}

good_tree() {
	rm -rf "$tmp/tree"
	cp -R "$tmp/good" "$tmp/tree"
}

refuses() { # NAME PART: the tree as it is now
	if sh "$script" "$tmp/tree" >"$tmp/out"; then
		fail "$1: passed"
	elif ! grep -qF -- "$2" "$tmp/out"; then
		fail "$1: does not say '$2' but: $(cat "$tmp/out")"
	else
		echo "ok: $1"
	fi
	good_tree
}

refuses_include() { # FILE HEADER PART: appended, so it is in the last line
	echo "#include $2" >>"$tmp/tree/$1"
	refuses "$1 includes $2" "$1:$(wc -l <"$tmp/tree/$1"): $3"
}

long_function() { # FILE LINES
	{
		echo
		echo 'static int'
		echo 'never_matched;'
		printf 'static int lengthy(int a,\n\tint b)\n{\n'
		yes '	a++;' | head -n $(($2 - 4))
		echo '}'
	} >>"$tmp/tree/$1"
}

make_good_tree
good_tree
if sh "$script" "$tmp/tree" >"$tmp/out" && grep -q ': every room keeps to itself' "$tmp/out"; then
	echo "ok: a good tree passes"
else
	fail "a good tree: $(cat "$tmp/out")"
fi

# --- rooms ------------------------------------------------------------------------------------------------------
# Every pair: all includes of one room at once, and each must be refused, or none of them be.
arrows=' wire>base plan>base dissect>base dissect>wire io>base guest>base guest>thread guest/mem>base qmp>base qmp>plan
 image/file>base image/epochs>base image/epochs>wire image/epochs>image/file image/epochs>image/journal image/journal>base image/journal>wire image/journal>image/file image/read>base image/read>wire image/read>image/file
 image/write>base image/write>wire image/write>image/file image/write>image/journal
 engine/core>base engine/core>io
 engine/sink>base engine/sink>wire engine/sink>plan engine/sink>io engine/sink>engine/core
 engine/sink>image/epochs engine/sink>image/file engine/sink>image/journal engine/sink>image/read engine/sink>image/write
 engine/incoming>base engine/incoming>wire engine/incoming>plan engine/incoming>io engine/incoming>engine/core
 engine/incoming>engine/sink engine/incoming>image/epochs engine/incoming>image/file engine/incoming>image/journal engine/incoming>image/read engine/incoming>image/write
 engine/outgoing>base engine/outgoing>wire engine/outgoing>plan engine/outgoing>io engine/outgoing>engine/core
 engine/outgoing>engine/sink engine/outgoing>image/read
 engine/pageserver>base engine/pageserver>wire engine/pageserver>plan engine/pageserver>io engine/pageserver>engine/core
 engine/pageserver>engine/outgoing engine/pageserver>image/read
 engine/files>base engine/files>wire engine/files>io engine/files>engine/core engine/files>engine/sink engine/files>engine/incoming
 engine/files>image/read engine/files>image/write
 engine/colo>base engine/colo>wire engine/colo>plan engine/colo>io engine/colo>engine/core engine/colo>engine/sink engine/colo>engine/incoming
 engine/colo>engine/outgoing engine/colo>engine/guest engine/colo>guest engine/colo>image/epochs engine/colo>image/file engine/colo>image/journal engine/colo>image/read engine/colo>image/write
 engine/proxy>base engine/proxy>wire engine/proxy>io engine/proxy>engine/core engine/proxy>dissect
 engine/incoming>thread engine/outgoing>thread engine/pageserver>thread engine/colo>thread engine/proxy>thread lib>thread
 lib>base lib>wire lib>plan lib>io lib>guest lib>image/epochs lib>image/file lib>image/journal lib>image/read lib>image/write
 lib>engine/core lib>engine/sink lib>engine/incoming lib>engine/outgoing lib>engine/pageserver lib>engine/files lib>engine/colo lib>engine/proxy lib>dissect
 qemu>base qemu>plan qemu>qmp qemu>thread
 cli/ui>base cli/cmd>base cli/cmd>cli/ui
 cli/doctor>base cli/doctor>cli/ui cli/doctor>cli/cmd cli/guest>base cli/guest>cli/ui cli/guest>cli/cmd cli/guest>guest/mem cli/inspect>base cli/inspect>cli/ui cli/inspect>cli/cmd
 cli>base cli>cli/ui cli>cli/cmd '
for from in $rooms; do
	for to in $rooms; do
		[ "$from" = "$to" ] || echo "#include \"$to/x.h\"" >>"$tmp/tree/src/$from/x.c"
	done
	sh "$script" "$tmp/tree" >"$tmp/out" || true
	for to in $rooms; do
		[ "$from" = "$to" ] && continue
		refused=0
		grep -qF "$from may not include $to/x.h;" "$tmp/out" && refused=1
		case $arrows in
		*" $from>$to"[[:space:]]*) [ $refused = 0 ] || fail "$from may include $to: $(cat "$tmp/out")" ;;
		*) [ $refused = 1 ] || fail "$from may not include $to, and nobody says so" ;;
		esac
	done
	good_tree
	case $from in
	lib | qemu | cli*) ;;
	*) refuses_include "src/$from/x.h" '<godwit.h>' "$from may not include godwit.h" ;;
	esac
done
sed 's|^room base$|room base lib|' "$here/../../scripts/check-rooms" >"$tmp/circle"
script=$tmp/circle
refuses "a circle in the table" 'the table has a circle'
script=$tmp/check-rooms
for line in 'printf("x");' 'fprintf(stderr, "x");' '	fputs("x", f);' 'perror("x");' 'write(STDERR_FILENO, "x", 1);' 'v = vfprintf(f, s, a);'; do
	echo "$line" >>"$tmp/tree/src/qemu/x.c"
	refuses "a library that prints: $line" 'qemu may not print'
done
for line in '"; give --this"' '"then godwit serve brings it"'; do
	echo "$line" >>"$tmp/tree/src/qemu/x.c"
	refuses "a library that knows the command line: $line" 'qemu may not name a command or its options'
done
for room in io guest engine/core lib qemu; do
	echo '	int err = pthread_create(&t, NULL, run, t);' >>"$tmp/tree/src/$room/x.c"
	refuses "a thread that takes signals, in $room" "$room may not call pthread_create"
done
for room in thread guest/mem cli/cmd; do
	echo '	int err = pthread_create(&t, NULL, run, t);' >>"$tmp/tree/src/$room/x.c"
done
for line in 'snprintf(a, 1, "x");' '"/tmp/godwit-XXXXXX"' 'gw__fprintf(f);' 'int my_stderr;'; do
	echo "$line" >>"$tmp/tree/src/qemu/x.c"
done
echo 'fprintf(stderr, "x");' >>"$tmp/tree/src/cli/cmd/x.c"
if sh "$script" "$tmp/tree" >"$tmp/out"; then
	echo "ok: what does not print passes, and so does a command that prints"
else
	fail "what does not print: $(cat "$tmp/out")"
fi
good_tree
refuses_include include/godwit.h '<godwit-qemu.h>' 'include may not include godwit-qemu.h'
refuses_include src/lib/x.c '<godwit-qemu.h>' 'lib may not include godwit-qemu.h'
refuses_include src/wire/x.c '<io/x.h>' 'wire may not include io/x.h'
refuses_include src/wire/x.c '"wire/../io/x.h"' '"wire/../io/x.h" hides its room'
refuses_include src/wire/x.c '"./x.h"' '"./x.h" hides its room'
refuses_include src/wire/x.c '"/usr/include/pthread.h"' '"/usr/include/pthread.h" hides its room'
refuses_include src/io/x.c '"wait.h"' 'there is no src/wait.h'
refuses_include src/io/x.c 'HEADER' 'cannot tell what is included'
printf '  #\tinclude_next   <pthread.h> /* why */\n' >>"$tmp/tree/src/plan/x.c"
refuses "an include in disguise" "src/plan/x.c:4: plan may not include <pthread.h>"

# --- headers of the system --------------------------------------------------------------------------------------
for room in base wire plan; do
	for header in sys/socket.h pthread.h unistd.h fcntl.h linux/fs.h poll.h time.h threads.h sys/mman.h signal.h; do
		refuses_include "src/$room/x.c" "<$header>" "$room may not include <$header>"
	done
done
refuses_include src/wire/x.c '"pthread.h"' 'there is no src/pthread.h'
refuses_include src/plan/x.c '<jansson.h>' 'plan may not include <jansson.h>'
refuses_include src/engine/core/x.c '<jansson.h>' 'engine/core may not include <jansson.h>; that library belongs to wire, qmp, store, qemu, cli'
refuses_include src/engine/core/x.c '<liburing.h>' 'engine/core may not include <liburing.h>; that library belongs to io, image'
refuses_include src/lib/x.c '<gnutls/x509.h>' 'lib may not include <gnutls/x509.h>; that library belongs to io'
refuses_include include/godwit.h '<unistd.h>' 'include may not include <unistd.h>'
refuses_include include/godwit.h '"base/x.h"' 'include may not include base/x.h'

# --- files ------------------------------------------------------------------------------------------------------
source_file src/util/x.c '<string.h>'
refuses "a room nobody knows" 'src/util/x.c:1: src/util is not a room'
source_file src/x.c '<string.h>'
refuses "a source without a room" 'src/x.c:1: src/x.c is not a room'
source_file src/wire/x.inc '<pthread.h>'
refuses "a file that is not seen" 'src/wire/x.inc:1: not a .c or .h file'
source_file src/wire/x.js '<pthread.h>'
refuses "a part of a page outside the command" 'src/wire/x.js:1: not a .c or .h file'
echo >"$tmp/tree/tests/test_x.c"
refuses "a source without a licence" 'tests/test_x.c:1: the first line must be'
for name in meson.build src/io/meson.build Makefile tests/x.py tests/x.sh; do
	echo 'nothing' >"$tmp/tree/$name"
	refuses "$name without a licence" "$name:1: one of the first three lines must be"
done
printf '#!/bin/sh\n\n\n# SPDX-License-Identifier: MIT\n' >"$tmp/tree/run"
refuses "a script whose licence comes late" 'run:1: one of the first three lines'
rm -rf "$tmp/tree/src"
refuses "a tree without sources" 'is this the root of the sources?'

# --- sizes ------------------------------------------------------------------------------------------------------
long_function src/io/x.c 101
refuses "a long function" 'src/io/x.c:7: lengthy has 101 lines, at most 100'
long_function src/io/x.c 100
sh "$script" "$tmp/tree" >"$tmp/out" || fail "a function of 100 lines: $(cat "$tmp/out")"
good_tree
yes 'int x;' | head -n 899 >>"$tmp/tree/include/godwit.h"
refuses "a long file" 'include/godwit.h:1: 901 lines, at most 900'
yes '# x' | head -n 900 >>"$tmp/tree/meson.build"
refuses "a long script" 'meson.build:1: 901 lines, at most 900'

# --- the allow list ---------------------------------------------------------------------------------------------
allow 'function src/io/x.c:lengthy it is a table' 'file meson.build  generated'
long_function src/io/x.c 150
yes '# x' | head -n 950 >>"$tmp/tree/meson.build"
if sh "$script" "$tmp/tree" >"$tmp/out" && grep -q 'lengthy has 150 lines, because it is a table' "$tmp/out" &&
	grep -q 'meson.build: 951 lines, because generated' "$tmp/out"; then
	echo "ok: what is allowed is printed"
else
	fail "the allow list: $(cat "$tmp/out")"
fi
good_tree
refuses "what is allowed for nothing" 'function src/io/x.c:lengthy is allowed, but not needed'
allow 'file meson.build'
refuses "what is allowed without a reason" 'file meson.build is allowed without a reason'

[ "$failures" = 0 ] || { echo "$failures checks failed"; exit 1; }
