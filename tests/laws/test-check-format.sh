#!/bin/sh
# SPDX-License-Identifier: MIT
#
# scripts/check-format can fail, and --fix mends what it found.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
script=$here/../../scripts/check-format
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

fail() {
	echo "FAILED: $1"
	exit 1
}

mkdir "$tmp/src" "$tmp/include" "$tmp/tests" "$tmp/bench" "$tmp/fuzz"
cp "$here/../../.clang-format" "$tmp"
printf 'int main(void)\n{\n\tint r = 0;\n\treturn r;\n}\n' >"$tmp/src/good.c"
printf 'int main(void) {\n  int r=0;\n  return r;\n}\n' >"$tmp/tests/other.c"
status=0
"$script" "$tmp" >"$tmp/out" 2>&1 || status=$?
if [ $status = 77 ]; then
	cat "$tmp/out" >&2
	exit 77
fi
[ $status != 0 ] || fail "a file of another style passed"
grep -q 'tests/other.c:1' "$tmp/out" || fail "it did not say which line"
if grep -q 'good.c' "$tmp/out"; then fail "it found fault with a good file"; fi
"$script" --fix "$tmp" || fail "--fix"
"$script" "$tmp" || fail "what --fix made"
cmp "$tmp/src/good.c" "$tmp/tests/other.c" || fail "--fix made something else"
