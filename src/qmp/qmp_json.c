/* SPDX-License-Identifier: MIT */
/*
 * JSON from outside: parsing one line, and reading members of which nothing is certain.
 *
 * Pure: no socket, no state. jansson bounds the depth; the length was bounded by the line reader.
 */
#include "qmp/parts.h"

#include <string.h>

static const char largest[] = "9223372036854775807"; /* INT64_MAX */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_fraction(char c) { return c == '.' || c == 'e' || c == 'E'; }

/* The digits p..end: when they exceed INT64_MAX, write that instead, and blanks in what is left of the room.
 */
static void clamp_digits(char *p, char *end)
{
	size_t n = (size_t)(end - p), most = sizeof largest - 1;
	if (n < most || (n == most && memcmp(p, largest, most) <= 0))
		return;
	memset(p, ' ', n);
	memcpy(p, largest, most);
}

/*
 * QEMU's integers reach 2^64-1 and it says so (`max-bandwidth` set to "unlimited"); jansson's end at 2^63-1
 * and refuses the whole line. Nothing we read differs in meaning between the two.
 */
static void clamp_integers(char *line, size_t n)
{
	char *end = line + n;
	bool string = false;
	for (char *p = line; p < end; p++) {
		if (string && *p == '\\') {
			p++;
			continue;
		}
		if (*p == '"')
			string = !string;
		if (string || !is_digit(*p))
			continue;
		char *from = p;
		while (p < end && is_digit(*p))
			p++;
		bool whole = !(p < end && is_fraction(*p)) && !(from > line && is_fraction(from[-1]));
		if (whole)
			clamp_digits(from, p);
		p--;
	}
}

json_t *gw__qmp_parse(char *line, size_t n)
{
	json_t *j = json_loadb(line, n, 0, NULL);
	if (!j) {
		clamp_integers(line, n);
		j = json_loadb(line, n, 0, NULL);
	}
	if (json_is_object(j))
		return j;
	json_decref(j);
	return NULL;
}

void gw__qmp_text(char *out, size_t room, const char *text)
{
	size_t n = strnlen(text, room);
	if (n == room) {
		n = room - 1;
		while (n && ((unsigned char)text[n] & 0xc0) == 0x80) /* not inside a UTF-8 sequence */
			n--;
	}
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		out[i] = c == '\n' || c == '\t' ? ' ' : c < 0x20 || c == 0x7f ? '?' : (char)c;
	}
	out[n] = 0;
}

void gw__qmp_get_text(char *out, size_t room, const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	gw__qmp_text(out, room, text ? text : "");
}

uint64_t gw__qmp_get_u64(const json_t *object, const char *key)
{
	const json_t *v = json_object_get(object, key);
	if (json_is_integer(v))
		return json_integer_value(v) < 0 ? 0 : (uint64_t)json_integer_value(v);
	double d = json_real_value(v);
	return d > 0 && d < 9e18 ? (uint64_t)d : 0;
}

double gw__qmp_get_real(const json_t *object, const char *key) { return json_number_value(json_object_get(object, key)); }
