#!/bin/sh
# SPDX-License-Identifier: MIT
#
# scripts/check-english can fail: plain text passes, each habit does not, in each kind of document; and limits only go down.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failures=0
sed '/^ALLOWED = {/,/^}/{/^ALLOWED/b;/^}/b;d}' "$here/../../scripts/check-english" >"$tmp/check-english" # without its exceptions

fail() {
	echo "FAILED: $1"
	failures=$((failures + 1))
}

tree() { # TEXT [PATH]: a tree with one document
	rm -rf "$tmp/tree"
	mkdir -p "$tmp/tree/docs" "$tmp/tree/man" "$tmp/tree/include" "$tmp/tree/scripts"
	add "$@"
}

add() { # TEXT [PATH]
	printf '%s\n' "$1" >"$tmp/tree/${2-README.md}"
}

run() { python3 "$tmp/check-english" "$@" "$tmp/tree" >"$tmp/out"; }

tree 'The source sends its pages. Godwit resumes an existing partial image.'
add 'What does a page hold? Type `godwit guest --workload=told`.' docs/x.md
add '*--workload*=_told|untold_ is an option, and _told_ is its value.' man/x.1.scd
add 'void told(int what);' include/x.h
run || fail "plain text is refused: $(cat "$tmp/out")"

habits='clause-as-subject: What was begun is resumed.
place-words: The pages follow behind.
speech-verbs: The source is told that.
private-verbs: The guest stands still.
hidden-actor: The source is waited for.
vague-reference: Godwit keeps that one.
inverted-negation: The host runs it not.
figure-of-speech: It waits for ever.
first-person: The image is ours.
joined-thoughts: First, a page: then, another; then none.
long-sentence: a b c d e f g h i j k l m n o p q r s t u v w x y z.'
tree "$(echo "$habits" | sed 's/^[a-z-]*: //; s/$/\n/')"
if run; then fail "a README with every habit passes"; fi
line=1
for habit in $(echo "$habits" | sed 's/:.*//'); do
	grep -q "^README.md:$line: $habit: " "$tmp/out" || fail "$habit is not found on line $line: $(cat "$tmp/out")"
	line=$((line + 2))
done
listed=$(sed -n '/^HABITS = {/,/^}/s/^    "\([a-z-]*\)": (.*/\1/p' "$tmp/check-english")
[ "$listed" = "$(echo "$habits" | sed 's/:.*//')" ] || fail "not every habit is tried here: $listed"

tree '| the source | is told |' docs/x.md
add 'The source is told that.' man/x.1.scd
add '/* The source is told that. */' include/x.h
if run; then fail "documents with a habit pass"; fi
for path in docs/x.md man/x.1.scd include/x.h; do
	grep -q "^$path:1: speech-verbs: told" "$tmp/out" || fail "nothing is found in $path: $(cat "$tmp/out")"
done

# The items of a list are sentences of their own, whether they end with a point or not.
long='- a b c d e f g h i j k l m n o p q r s t'
tree "$long
$long" man/x.1.scd
run || fail "two items of a list are taken for one sentence: $(cat "$tmp/out")"
tree "$long u v w x y z" man/x.1.scd
if run; then fail "an item of a list may be too long"; fi

# A limit allows as many as it says and no more, is lowered and not raised, and must name a document.
tree 'The source is told. It is told.'
run --tighten
run || fail "the limits do not allow what they were made for: $(cat "$tmp/out")"
add 'The source is told. It is told, and told.'
if run; then fail "three hits pass where two may be"; fi
run --tighten
if run; then fail "--tighten has raised a limit"; fi
add 'The source is told.'
run --tighten
grep -q '^README.md speech-verbs 1$' "$tmp/tree/scripts/check-english.limits" || fail "--tighten has not lowered a limit"
echo 'docs/gone.md speech-verbs 1' >>"$tmp/tree/scripts/check-english.limits"
if run; then fail "a limit of no document passes"; fi

# An exception holds for its phrase, and may not stay when it is not needed any more.
sed -i 's/^ALLOWED = {/&\n    "is told that": "a reason",/' "$tmp/check-english"
tree 'The source is told that.'
run || fail "an exception does not hold: $(cat "$tmp/out")"
tree 'The source sends.'
if run; then fail "an exception that is not needed passes"; fi
tree ''
rm "$tmp/tree/README.md"
if run; then fail "a tree without documents passes"; fi

[ "$failures" = 0 ] || { echo "$failures checks failed"; exit 1; }
