#!/bin/sh
# SPDX-License-Identifier: MIT
#
# scripts/check-writers can fail: a tree whose fields have one writer passes, and each way to write from a second file does not.
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
	{
		sed '/^ALLOWED = {/q' "$here/../../scripts/check-writers"
		for line; do echo "    $line,"; done
		sed '1,/^ALLOWED = {/d' "$here/../../scripts/check-writers" | sed '1,/^}/{/^}/!d}'
	} >"$tmp/check-writers"
}

tree() { # STATEMENT: what the second file does
	mkdir -p "$tmp/tree/src/engine/x"
	cat >"$tmp/tree/src/engine/x/a.h" <<'EOT'
struct gw__a {
	int n, *p; /* shown */
	struct {
		int deep;
	} inner;
};
struct gw__b {
	struct gw__a *a;
	int n;
};
EOT
	printf 'void set(struct gw__a *a)\n{\n\ta->n = 1;\n\ta->inner.deep++;\n}\n' >"$tmp/tree/src/engine/x/a.c"
	printf 'struct own {\n\tint n;\n};\n\nint get(struct gw__b *b, struct own *o, const struct gw__a *a)\n{\n\t%s\n}\n' "$1" >"$tmp/tree/src/engine/x/b.c"
}

passes() { # STATEMENT
	tree "$1"
	python3 "$tmp/check-writers" "$tmp/tree" >"$tmp/out" || fail "$1: $(cat "$tmp/out")"
}

refuses() { # STATEMENT SENTENCE
	tree "$1"
	if python3 "$tmp/check-writers" "$tmp/tree" >"$tmp/out"; then
		fail "it is not refused: $1"
	elif ! grep -qF "$2" "$tmp/out"; then
		fail "$1 is refused without \"$2\": $(cat "$tmp/out")"
	fi
}

allow
passes 'return a->n == 1 && b->a->n <= 2;'
passes 'b->n = 2; o->n = 3;'
passes '*b->a = (struct gw__a){.n = 1};'
refuses 'b->a->n = 2;' 'gw__a.n is written by src/engine/x/a.c:3 and by src/engine/x/b.c:7'
refuses 'struct gw__a *to = b->a; to->n |= 2;' 'gw__a.n is written by'
refuses 'struct gw__a v[2]; v[1].n--;' 'gw__a.n is written by'
refuses 'b->a->inner.deep = 2;' 'gw__a.deep is written by'
allow '"gw__a.n": "a reason"'
passes 'b->a->n = 2;'
refuses 'return 0;' 'gw__a.n is allowed, but not needed'
allow
tree 'return 0;'
rm "$tmp/tree/src/engine/x/a.c"
if python3 "$tmp/check-writers" "$tmp/tree" >"$tmp/out"; then fail "a tree in which nothing is written passes"; fi

[ "$failures" = 0 ] || { echo "$failures checks failed"; exit 1; }
