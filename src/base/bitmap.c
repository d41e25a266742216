/* SPDX-License-Identifier: MIT */
/* Bitmaps of pages; see bitmap.h. */
#include "base/bitmap.h"

#include <errno.h>
#include <stdlib.h>

static uint64_t word_count(uint64_t bits) { return bits / 64 + (bits % 64 != 0); }

/* The bits of the last word that belong to pages. */
static uint64_t tail_mask(uint64_t bits) { return bits % 64 ? (UINT64_C(1) << (bits % 64)) - 1 : ~UINT64_C(0); }

int gw__bitmap_init(struct gw__bitmap *b, uint64_t bits)
{
	uint64_t n = word_count(bits);
	b->bits = 0;
	b->words = NULL;
	if (n > SIZE_MAX / 8)
		return -ENOMEM;
	b->words = calloc(n ? n : 1, 8); /* large callocs are fresh mappings: untouched words cost nothing */
	if (!b->words)
		return -ENOMEM;
	b->bits = bits;
	return 0;
}

void gw__bitmap_fini(struct gw__bitmap *b)
{
	free(b->words);
	b->words = NULL;
	b->bits = 0;
}

void gw__bitmap_set_range(struct gw__bitmap *b, uint64_t first, uint64_t n)
{
	if (n == 0)
		return;
	for (uint64_t w = first / 64; w <= (first + n - 1) / 64; w++)
		b->words[w] |= gw__bitmap_mask(w, first, first + n);
}

void gw__bitmap_clear_range(struct gw__bitmap *b, uint64_t first, uint64_t n)
{
	if (n == 0)
		return;
	for (uint64_t w = first / 64; w <= (first + n - 1) / 64; w++) {
		uint64_t mask = gw__bitmap_mask(w, first, first + n);
		if (b->words[w] & mask) /* do not touch a word that costs nothing yet */
			b->words[w] &= ~mask;
	}
}

void gw__bitmap_invert(struct gw__bitmap *b)
{
	uint64_t n = word_count(b->bits);
	for (uint64_t w = 0; w < n; w++)
		b->words[w] = ~b->words[w];
	if (n)
		b->words[n - 1] &= tail_mask(b->bits);
}

uint64_t gw__bitmap_count(const struct gw__bitmap *b)
{
	uint64_t sum = 0;
	for (uint64_t w = 0; w < word_count(b->bits); w++)
		sum += (uint64_t)__builtin_popcountll(b->words[w]);
	return sum;
}

uint64_t gw__bitmap_count_range(const struct gw__bitmap *b, uint64_t first, uint64_t n)
{
	uint64_t sum = 0;
	for (uint64_t w = first / 64; n && w <= (first + n - 1) / 64; w++)
		sum += (uint64_t)__builtin_popcountll(b->words[w] & gw__bitmap_mask(w, first, first + n));
	return sum;
}

/* First bit in [from, end) that differs from `flip`'s bits, or `end`: flip 0 looks for ones, ~0 for zeros. */
static uint64_t next_bit(const struct gw__bitmap *b, uint64_t from, uint64_t end, uint64_t flip)
{
	if (end > b->bits)
		end = b->bits;
	if (from >= end)
		return end;
	uint64_t w = from / 64;
	uint64_t v = (b->words[w] ^ flip) & ~UINT64_C(0) << (from % 64);
	while (!v) {
		if (++w >= word_count(end))
			return end;
		v = b->words[w] ^ flip;
	}
	uint64_t i = w * 64 + (uint64_t)__builtin_ctzll(v);
	return i < end ? i : end;
}

uint64_t gw__bitmap_next_set(const struct gw__bitmap *b, uint64_t from) { return next_bit(b, from, b->bits, 0); }

uint64_t gw__bitmap_next_clear(const struct gw__bitmap *b, uint64_t from) { return next_bit(b, from, b->bits, ~UINT64_C(0)); }

uint64_t gw__bitmap_next_set_before(const struct gw__bitmap *b, uint64_t from, uint64_t end) { return next_bit(b, from, end, 0); }

uint64_t gw__bitmap_next_clear_before(const struct gw__bitmap *b, uint64_t from, uint64_t end)
{
	return next_bit(b, from, end, ~UINT64_C(0));
}

void gw__bitmap_wire_put(const struct gw__bitmap *b, uint64_t at, uint8_t *to, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)(b->words[(at + i) / 8] >> ((at + i) % 8 * 8));
}

bool gw__bitmap_wire_get(struct gw__bitmap *b, uint64_t at, const uint8_t *from, size_t n)
{
	bool clean = true;
	uint64_t last = word_count(b->bits) - 1;
	for (size_t i = 0; i < n; i += 8) {
		uint64_t w = (at + i) / 8, v = 0;
		for (unsigned k = 0; k < 8; k++)
			v |= (uint64_t)from[i + k] << (8 * k);
		if (w == last && v & ~tail_mask(b->bits)) {
			clean = false;
			v &= tail_mask(b->bits);
		}
		if (v || b->words[w])
			b->words[w] = v;
	}
	return clean;
}
