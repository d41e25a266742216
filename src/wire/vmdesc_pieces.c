/* SPDX-License-Identifier: MIT */
/* Finding devices by quotes, brackets and commas; see vmdesc_pieces.h. */
#include "wire/vmdesc_pieces.h"

#include <string.h>

static const char KEY[] = "\"devices\"";

static size_t skip_spaces(const uint8_t *text, size_t at, size_t to)
{
	while (at < to && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r'))
		at++;
	return at;
}

/* After the string that begins at `at`, at most `to`. */
static size_t skip_string(const uint8_t *text, size_t at, size_t to)
{
	for (at++; at < to && text[at] != '"'; at++)
		at += text[at] == '\\';
	return at < to ? at + 1 : to;
}

/* Where the value at `at` ends: at a comma, or at a bracket that closes more than was opened, of whatever kind. */
static size_t skip_value(const uint8_t *text, size_t at, size_t to)
{
	size_t depth = 0;
	while (at < to) {
		uint8_t c = text[at];
		bool closes = c == '}' || c == ']';
		if (depth == 0 && (closes || c == ','))
			return at;
		if (c == '"') {
			at = skip_string(text, at, to);
			continue;
		}
		depth += c == '{' || c == '[';
		depth -= closes;
		at++;
	}
	return to;
}

/* After `c`, if it comes next. */
static bool skip_one(const uint8_t *text, size_t *at, size_t to, uint8_t c)
{
	*at = skip_spaces(text, *at, to);
	if (*at >= to || text[*at] != c)
		return false;
	++*at;
	return true;
}

static bool is_key(const uint8_t *text, size_t from, size_t to)
{
	return to - from == sizeof KEY - 1 && !memcmp(text + from, KEY, sizeof KEY - 1);
}

/* After the last piece; the bracket there may be the wrong one, but there is one. */
static bool find_end(const uint8_t *text, size_t n, size_t from, struct gw__vmdesc_pieces *p)
{
	size_t to = skip_value(text, from, n);
	while (to < n && text[to] == ',')
		to = skip_value(text, to + 1, n);
	bool any = skip_spaces(text, from, to) < to;
	*p = (struct gw__vmdesc_pieces){.text = text, .from = from, .to = to, .at = any ? from : to + 1};
	return to < n;
}

bool gw__vmdesc_find_devices(const uint8_t *text, size_t n, struct gw__vmdesc_pieces *p)
{
	size_t at = 0;
	if (!skip_one(text, &at, n, '{'))
		return false;
	for (;;) {
		size_t key = skip_spaces(text, at, n);
		if (key >= n || text[key] != '"')
			return false;
		at = skip_string(text, key, n);
		bool found = is_key(text, key, at);
		if (!skip_one(text, &at, n, ':'))
			return false;
		size_t from = at;
		if (found && skip_one(text, &from, n, '['))
			return find_end(text, n, from, p);
		at = skip_value(text, at, n);
		if (!skip_one(text, &at, n, ','))
			return false;
	}
}

bool gw__vmdesc_next_piece(struct gw__vmdesc_pieces *p, size_t *from, size_t *to)
{
	if (p->at > p->to) /* the last one had no comma after it */
		return false;
	*from = skip_spaces(p->text, p->at, p->to);
	*to = skip_value(p->text, *from, p->to);
	p->at = *to + 1;
	return true;
}
