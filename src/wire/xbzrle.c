/* SPDX-License-Identifier: MIT */
/*
 * XBZRLE deltas: { zrun nzrun }, lengths of one or two bytes (docs/spec/stream.md 7.4).
 *
 * Not the record around a delta (ram.h) and not the judgement whether the receiver holds the base (the
 * engine's). No state: any thread, on its own buffers.
 */
#include "wire/xbzrle.h"

#include <errno.h>

/* Like the two below: NULL, or what is wrong. */
static const char *take_length(struct gw__rd *c, size_t *len)
{
	uint8_t b0 = gw__rd_u8(c);
	*len = b0 & 0x7f;
	if (b0 < 0x80)
		return c->cut ? "the delta ends where a length should be" : NULL;
	uint8_t b1 = gw__rd_u8(c);
	*len |= (size_t)b1 << 7;
	if (c->cut)
		return "the delta ends inside a length";
	return b1 < 0x80 ? NULL : "a length has a third byte";
}

static const char *take_unchanged(struct gw__rd *c, size_t page_left, size_t *len)
{
	bool first = gw__rd_used(c) == 0;
	const char *wrong = take_length(c, len);
	if (wrong)
		return wrong;
	if (*len == 0 && !first)
		return "an unchanged run of 0 bytes after the first pair";
	if (*len > page_left)
		return "an unchanged run goes past the end of the page";
	return NULL;
}

static const char *take_changed(struct gw__rd *c, size_t page_left, size_t *len)
{
	if (!gw__rd_left(c))
		return "an unchanged run with nothing after it";
	const char *wrong = take_length(c, len);
	if (wrong)
		return wrong;
	if (*len == 0)
		return "a changed run of 0 bytes";
	if (*len > page_left)
		return "a changed run goes past the end of the page";
	if (*len > gw__rd_left(c))
		return "a changed run goes past the end of the delta";
	return NULL;
}

int gw__xbzrle_decode(const uint8_t *delta, size_t n, uint8_t *page, size_t page_bytes, struct gw__error *error)
{
	struct gw__rd c = gw__rd_over(delta, n);
	const char *wrong = NULL;
	size_t at = 0, run_at = 0, len;

	if (n > page_bytes)
		return gw__error_set(error, -EPROTO, "xbzrle delta of %zu bytes is longer than its page of %zu", n, page_bytes);
	while (gw__rd_left(&c)) {
		run_at = gw__rd_used(&c);
		wrong = take_unchanged(&c, page_bytes - at, &len);
		if (wrong)
			break;
		at += len;
		run_at = gw__rd_used(&c);
		wrong = take_changed(&c, page_bytes - at, &len);
		if (wrong)
			break;
		memcpy(page + at, gw__rd_take(&c, len), len);
		at += len;
	}
	if (!wrong)
		return 0;
	return gw__error_set(error, -EPROTO, "xbzrle delta, byte %zu of %zu, page offset %zu of %zu: %s", run_at, n, at, page_bytes, wrong);
}

static uint64_t word_at(const uint8_t *p)
{
	uint64_t w;
	memcpy(&w, p, sizeof w);
	return w;
}

/* Whether one of the eight bytes is 0: only there does subtracting 1 turn the top bit on that was off. */
static bool has_zero_byte(uint64_t w) { return (w - UINT64_C(0x0101010101010101)) & ~w & UINT64_C(0x8080808080808080); }

static size_t equal_run(const uint8_t *a, const uint8_t *b, size_t n)
{
	size_t i = 0;
	while (n - i >= 8 && word_at(a + i) == word_at(b + i))
		i += 8;
	while (i < n && a[i] == b[i])
		i++;
	return i;
}

static size_t different_run(const uint8_t *a, const uint8_t *b, size_t n)
{
	size_t i = 0;
	while (n - i >= 8 && !has_zero_byte(word_at(a + i) ^ word_at(b + i)))
		i += 8;
	while (i < n && a[i] != b[i])
		i++;
	return i;
}

static void put_length(struct gw__wr *c, size_t len)
{
	if (len < 0x80) {
		gw__wr_u8(c, (uint8_t)len);
		return;
	}
	gw__wr_u8(c, (uint8_t)(len | 0x80));
	gw__wr_u8(c, (uint8_t)(len >> 7));
}

int gw__xbzrle_encode(const uint8_t *old_page, const uint8_t *new_page, size_t page_bytes, uint8_t *delta, size_t room)
{
	size_t most = page_bytes < UINT16_MAX ? page_bytes : UINT16_MAX;
	struct gw__wr c = gw__wr_over(delta, room < most ? room : most);
	size_t at = 0;

	for (;;) {
		size_t same = equal_run(old_page + at, new_page + at, page_bytes - at);
		if (at + same == page_bytes)
			return (int)gw__wr_used(&c);
		at += same;
		size_t changed = different_run(old_page + at, new_page + at, page_bytes - at);
		if (same > GW__XBZRLE_RUN_MAX || changed > GW__XBZRLE_RUN_MAX)
			return -1;
		put_length(&c, same);
		put_length(&c, changed);
		gw__wr_bytes(&c, new_page + at, changed);
		if (c.full)
			return -1;
		at += changed;
	}
}
