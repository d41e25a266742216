#!/bin/sh
# SPDX-License-Identifier: MIT
#
# scripts/check-rooms can fail: a tree that is good passes, and with any one violation in it does not, by file and line.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
script=$here/../../scripts/check-rooms
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failures=0

fail() {
	echo "FAILED: $1"
	failures=$((failures + 1))
}

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

make_good_tree() {
	source_file include/godwit.h '<stdint.h>'
	for each in base wire plan io guest image engine lib qmp cli; do
		source_file "src/$each/$each.h" '<stddef.h>'
	done
	source_file src/base/base.c '"base/base.h"' '<stdio.h>' '<sys/sdt.h>'
	source_file src/wire/wire.c '"wire/wire.h"' '"base/base.h"' '<jansson.h>'
	source_file src/plan/plan.c '"base/base.h"' '<string.h>'
	source_file src/io/io.c '"base/base.h"' '<sys/socket.h>' '<liburing.h>' '<gnutls/gnutls.h>'
	source_file src/guest/guest.c '"base/base.h"' '<linux/userfaultfd.h>'
	source_file src/image/read/image.c '"wire/wire.h"' '"base/base.h"' '<fcntl.h>'
	source_file src/engine/engine.c '"wire/wire.h"' '"plan/plan.h"' '"io/io.h"' '"guest/guest.h"' '"image/read/image.h"'
	source_file src/lib/lib.c '"godwit.h"' '"engine/engine.h"' '"plan/plan.h"' '<pthread.h>'
	source_file src/qmp/qmp.c '"base/base.h"' '<jansson.h>'
	source_file src/cli/cli.c '<godwit.h>' '"qmp/qmp.h"' '"base/base.h"' '<unistd.h>'
	source_file tests/test_x.c '"io/io.h"' '<cmocka.h>'
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
rooms='base wire plan io guest image engine lib qmp cli'
arrows=' wire>base plan>base io>base guest>base image>base image>wire qmp>base cli>base cli>qmp
 engine>base engine>wire engine>plan engine>io engine>guest engine>image
 lib>base lib>wire lib>plan lib>io lib>guest lib>image lib>engine '
for from in $rooms; do
	for to in $rooms; do
		case $from$to in "$from$from") continue ;; esac
		case $arrows in
		*" $from>$to"[[:space:]]*)
			echo "#include \"$to/$to.h\"" >>"$tmp/tree/src/$from/$from.c"
			sh "$script" "$tmp/tree" >"$tmp/out" || fail "$from may include $to: $(cat "$tmp/out")"
			good_tree
			;;
		*) refuses_include "src/$from/$from.c" "\"$to/$to.h\"" "$from may not include $to/$to.h" ;;
		esac
	done
	case $from in
	lib | cli) ;;
	*) refuses_include "src/$from/$from.h" '<godwit.h>' "$from may not include godwit.h" ;;
	esac
done
refuses_include src/wire/wire.c '<io/io.h>' 'wire may not include io/io.h'
refuses_include src/wire/wire.c '"wire/../io/io.h"' '"wire/../io/io.h" hides its room'
refuses_include src/wire/wire.c '"./wire.h"' '"./wire.h" hides its room'
refuses_include src/wire/wire.c '"/usr/include/pthread.h"' '"/usr/include/pthread.h" hides its room'
refuses_include src/io/io.c '"wait.h"' 'there is no src/wait.h'
refuses_include src/io/io.c 'HEADER' 'cannot tell what is included'
printf '  #\tinclude_next   <pthread.h> /* why */\n' >>"$tmp/tree/src/plan/plan.c"
refuses "an include in disguise" "src/plan/plan.c:4: plan may not include <pthread.h>"

# --- headers of the system --------------------------------------------------------------------------------------
for room in base wire plan; do
	for header in sys/socket.h pthread.h unistd.h fcntl.h linux/fs.h poll.h time.h threads.h sys/mman.h signal.h; do
		refuses_include "src/$room/$room.c" "<$header>" "$room may not include <$header>"
	done
done
refuses_include src/wire/wire.c '"pthread.h"' 'there is no src/pthread.h'
refuses_include src/plan/plan.c '<jansson.h>' 'plan may not include <jansson.h>'
refuses_include src/engine/engine.c '<jansson.h>' 'engine may not include <jansson.h>; that library belongs to wire, qmp, cli'
refuses_include src/engine/engine.c '<liburing.h>' 'engine may not include <liburing.h>; that library belongs to io, image'
refuses_include src/lib/lib.c '<gnutls/x509.h>' 'lib may not include <gnutls/x509.h>; that library belongs to io'
refuses_include include/godwit.h '<unistd.h>' 'include may not include <unistd.h>'
refuses_include include/godwit.h '"base/base.h"' 'include may not include base/base.h'

# --- files ------------------------------------------------------------------------------------------------------
source_file src/util/x.c '<string.h>'
refuses "a room nobody knows" 'src/util/x.c:1: src/util is not a room'
source_file src/x.c '<string.h>'
refuses "a source without a room" 'src/x.c:1: src/x.c is not a room'
source_file src/wire/x.inc '<pthread.h>'
refuses "a file that is not seen" 'src/wire/x.inc:1: not a .c or .h file'
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
long_function src/io/io.c 101
refuses "a long function" 'src/io/io.c:9: lengthy has 101 lines, at most 100'
long_function src/io/io.c 100
sh "$script" "$tmp/tree" >"$tmp/out" || fail "a function of 100 lines: $(cat "$tmp/out")"
good_tree
yes 'int x;' | head -n 899 >>"$tmp/tree/include/godwit.h"
refuses "a long file" 'include/godwit.h:1: 901 lines, at most 900'
yes '# x' | head -n 900 >>"$tmp/tree/meson.build"
refuses "a long script" 'meson.build:1: 901 lines, at most 900'

# --- the allow list ---------------------------------------------------------------------------------------------
allow() { # LINE...: a script that allows this
	script=$tmp/check-rooms
	{
		sed '/^allowed() {/q' "$here/../../scripts/check-rooms"
		printf "cat <<'EOT'\n"
		printf '%s\n' "$@" EOT
		sed '1,/^allowed() {/d' "$here/../../scripts/check-rooms" | sed 1,2d
	} >"$script"
}
allow 'function src/io/io.c:lengthy it is a table' 'file meson.build  generated'
long_function src/io/io.c 150
yes '# x' | head -n 950 >>"$tmp/tree/meson.build"
if sh "$script" "$tmp/tree" >"$tmp/out" && grep -q 'lengthy has 150 lines, because it is a table' "$tmp/out" &&
	grep -q 'meson.build: 951 lines, because generated' "$tmp/out"; then
	echo "ok: what is allowed is printed"
else
	fail "the allow list: $(cat "$tmp/out")"
fi
good_tree
refuses "what is allowed for nothing" 'function src/io/io.c:lengthy is allowed to be long, but is not'
allow 'file meson.build'
refuses "what is allowed without a reason" 'file meson.build is allowed without a reason'

[ "$failures" = 0 ] || { echo "$failures checks failed"; exit 1; }
