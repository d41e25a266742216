/* SPDX-License-Identifier: MIT */
/* Checked arithmetic on sizes that came from outside: true means it did not fit, and `*r` must not be used. */
#ifndef GW_BASE_MATH_H
#define GW_BASE_MATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GW__LEN(array) (sizeof(array) / sizeof((array)[0]))

static inline bool gw__add_overflows(uint64_t a, uint64_t b, uint64_t *r) { return __builtin_add_overflow(a, b, r); }
static inline bool gw__mul_overflows(uint64_t a, uint64_t b, uint64_t *r) { return __builtin_mul_overflow(a, b, r); }

/* `unit` is a power of two. */
static inline bool gw__is_aligned(uint64_t v, uint64_t unit) { return (v & (unit - 1)) == 0; }
static inline bool gw__is_power_of_2(uint64_t v) { return v && (v & (v - 1)) == 0; }
static inline uint64_t gw__round_down(uint64_t v, uint64_t unit) { return v & ~(unit - 1); }

static inline bool gw__round_up_overflows(uint64_t v, uint64_t unit, uint64_t *r)
{
	if (gw__add_overflows(v, unit - 1, r))
		return true;
	*r = gw__round_down(*r, unit);
	return false;
}

/* Rounded up, for values that were checked before. */
static inline uint64_t gw__round_up(uint64_t v, uint64_t unit) { return gw__round_down(v + unit - 1, unit); }

static inline uint64_t gw__min(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t gw__max(uint64_t a, uint64_t b) { return a > b ? a : b; }

#endif
