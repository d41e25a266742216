/* SPDX-License-Identifier: MIT */
/* Text from elsewhere, made fit to be shown; see text.h. */
#include "base/text.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"

/* Bytes of the well-formed UTF-8 character at `s`, 0 if there is none. */
static unsigned utf8_bytes(const unsigned char *s)
{
	if (s[0] < 0x80)
		return 1;
	unsigned n = s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : 0;
	for (unsigned i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
	bool beyond = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
	return overlong || beyond ? 0 : n;
}

static uint32_t code_point(const unsigned char *s, unsigned n)
{
	uint32_t c = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));
	for (unsigned i = 1; i < n; i++)
		c = c << 6 | (s[i] & 0x3f);
	return c;
}

/* What moves a cursor, changes the order of what is shown, ends a line, or cannot be seen. */
static bool is_unsafe(uint32_t c)
{
	static const struct {
		uint32_t first, last;
	} ranges[] = {
		{0, 0x1f},                                              /* C0 */
		{0x7f, 0x9f},                                           /* DEL, C1 */
		{0xad, 0xad},                                           /* a hyphen that is not shown */
		{0x61c, 0x61c},                                         /* direction */
		{0x180e, 0x180e},                                       /* no width */
		{0x200b, 0x200f},                                       /* no width, direction */
		{0x2028, 0x202e},                                       /* ends of lines, direction */
		{0x2060, 0x206f},                                       /* no width, direction */
		{0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe007f}, /* tags */
	};
	for (unsigned i = 0; i < GW__LEN(ranges); i++)
		if (c >= ranges[i].first && c <= ranges[i].last)
			return true;
	return false;
}

size_t gw__text_filter(char *to, size_t to_bytes, const char *from, bool many_lines)
{
	const unsigned char *s = (const unsigned char *)from;
	size_t at = 0;
	while (*s) {
		unsigned n = utf8_bytes(s);
		bool plain = n && ((many_lines && *s == '\n') || !is_unsafe(code_point(s, n)));
		if (at + (plain ? n : 4) >= to_bytes)
			break;
		if (plain) {
			memcpy(to + at, s, n);
			at += n;
			s += n;
		} else {
			at += (size_t)snprintf(to + at, to_bytes - at, "\\x%02x", *s++);
		}
	}
	to[at] = 0;
	return at;
}
