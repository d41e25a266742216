/* SPDX-License-Identifier: MIT */
/*
 * A bitmap of pages, and its form on the wire and in files.
 *
 * Outside, bit i is bit (i mod 8) of byte (i div 8), and the length is rounded up to 8 bytes with zero bits after
 * the last page (docs/spec/mapped-ram.md 3, postcopy.md 6.3). Inside it is an array of 64-bit words. Words are
 * reserved, not touched, until a bit in them is set, so a bitmap of a huge guest costs what is used.
 * Owned by whoever called init; one thread at a time.
 */
#ifndef GW_BASE_BITMAP_H
#define GW_BASE_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gw__bitmap {
	uint64_t *words;
	uint64_t bits;
};

int gw__bitmap_init(struct gw__bitmap *b, uint64_t bits); /* 0 or -ENOMEM; all bits clear */
void gw__bitmap_fini(struct gw__bitmap *b);               /* also on a zeroed one, also twice */

static inline bool gw__bitmap_test(const struct gw__bitmap *b, uint64_t i) { return b->words[i / 64] >> (i % 64) & 1; }
static inline void gw__bitmap_set(struct gw__bitmap *b, uint64_t i) { b->words[i / 64] |= UINT64_C(1) << (i % 64); }
static inline void gw__bitmap_clear(struct gw__bitmap *b, uint64_t i) { b->words[i / 64] &= ~(UINT64_C(1) << (i % 64)); }

/* Of word number `word` the bits that lie in [first, end), which are some. */
static inline uint64_t gw__bitmap_mask(uint64_t word, uint64_t first, uint64_t end)
{
	uint64_t lo = word * 64 < first ? first % 64 : 0;
	uint64_t hi = word * 64 + 64 > end ? end % 64 : 64;
	uint64_t below_hi = hi == 64 ? ~UINT64_C(0) : (UINT64_C(1) << hi) - 1;
	return below_hi & ~UINT64_C(0) << lo;
}

void gw__bitmap_set_range(struct gw__bitmap *b, uint64_t first, uint64_t n);
void gw__bitmap_clear_range(struct gw__bitmap *b, uint64_t first, uint64_t n);
void gw__bitmap_invert(struct gw__bitmap *b); /* over exactly `bits` bits */
uint64_t gw__bitmap_count(const struct gw__bitmap *b);
uint64_t gw__bitmap_count_range(const struct gw__bitmap *b, uint64_t first, uint64_t n);

/* First set (clear) bit at or after `from`; `bits` if there is none. */
uint64_t gw__bitmap_next_set(const struct gw__bitmap *b, uint64_t from);
uint64_t gw__bitmap_next_clear(const struct gw__bitmap *b, uint64_t from);
/* The same without looking past `end`, which is the answer if there is none before; for runs that are taken in pieces. */
uint64_t gw__bitmap_next_set_before(const struct gw__bitmap *b, uint64_t from, uint64_t end);
uint64_t gw__bitmap_next_clear_before(const struct gw__bitmap *b, uint64_t from, uint64_t end);

/* Bytes of the outside form: 8 * ceil(bits / 64). */
static inline uint64_t gw__bitmap_wire_bytes(uint64_t bits) { return (bits / 64 + (bits % 64 != 0)) * 8; }

/*
 * Piecewise conversion, because a bitmap may be far larger than a buffer: `at` and `n` are bytes of the outside
 * form, both multiples of 8. `get` returns false when a bit after the last page is set (and leaves it clear inside).
 */
void gw__bitmap_wire_put(const struct gw__bitmap *b, uint64_t at, uint8_t *to, size_t n);
bool gw__bitmap_wire_get(struct gw__bitmap *b, uint64_t at, const uint8_t *from, size_t n);

#endif
