/* SPDX-License-Identifier: MIT */
/*
 * What a page of the mem guest contains: a pure function of a seed, the page and how often it was written, and that a function of how many steps
 * the region's writer has made. So any byte can be judged on any machine without a history. No thread, no memory of its own.
 *
 * A cycle of a region of n pages is n steps, which visit each page once, in an order that a keyed permutation gives (a Feistel network over the
 * next power of four, walked until the result lies within the region; it can be inverted). After s steps page p has been written s / n times, and
 * once more if the inverse of the permutation puts it before s mod n.
 *
 * Of 13 versions of a page one is zero, of 7 one can be compressed, the others cannot. In a sparse region a step writes 8 bytes of its page.
 */
#ifndef GW_GUEST_MEM_FORMULA_H
#define GW_GUEST_MEM_FORMULA_H

#include <stdbool.h>
#include <stdint.h>

enum { GW__MEM_PAGE_BYTES = 4096 };

struct gw__mem_region {
	uint64_t seed;
	uint64_t first, pages; /* at least one page */
	bool in_order;         /* a sweep, without a permutation */
	bool sparse;
};

enum gw__mem_verdict {
	GW__MEM_RIGHT,
	GW__MEM_STALE,   /* it was right some versions ago */
	GW__MEM_FUTURE,  /* it will be right some versions later */
	GW__MEM_MISSING, /* zero, which it never was */
	GW__MEM_WRONG,   /* what it never was and soon will not be: a byte, or a mixture of two versions */
	GW__MEM_VERDICTS
};

/* The page that step number `step` writes, from 0 on. */
uint64_t gw__mem_visited(const struct gw__mem_region *r, uint64_t step);
/* How often `page` was written in the first `steps` steps. */
uint64_t gw__mem_version(const struct gw__mem_region *r, uint64_t page, uint64_t steps);
/* Is it zero in this version? */
bool gw__mem_is_zero(const struct gw__mem_region *r, uint64_t page, uint64_t version);
/*
 * What the step writes that makes this version of the page, or all of the page from nothing. By relaxed atomic words, as others read meanwhile.
 * `to`: the page, aligned to 8 bytes. Returns where in the page it wrote, and in *bytes how much.
 */
uint64_t gw__mem_write(const struct gw__mem_region *r, uint64_t page, uint64_t version, bool all, void *to, uint64_t *bytes);
/* Is this the page? *off: versions it is ahead (FUTURE) or behind (STALE); else 0. `bytes` is aligned to 8 bytes and does not change meanwhile. */
enum gw__mem_verdict gw__mem_judge(const struct gw__mem_region *r, uint64_t page, uint64_t version, const void *bytes, uint64_t *off);

#endif
