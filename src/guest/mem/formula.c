/* SPDX-License-Identifier: MIT */
/* The content of the mem guest's pages; see formula.h. */
#include "guest/mem/formula.h"

enum { WORDS = GW__MEM_PAGE_BYTES / 8, ROUNDS = 4, SEARCHED_VERSIONS = 4096 };
enum { ZERO_EVERY = 13, COMPRESSIBLE_EVERY = 7, REPEATED_WORDS = 64 };

static const uint64_t GOLDEN = UINT64_C(0x9e3779b97f4a7c15);

/* The finalizer of SplitMix64: each bit of the result depends on each of the argument. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* --- Which page ---------------------------------------------------------------------------------------------------- */

struct permutation {
	uint64_t key, pages;
	unsigned half; /* bits */
};

static struct permutation permutation_of(const struct gw__mem_region *r, uint64_t cycle)
{
	struct permutation p = {mix(r->seed ^ mix(cycle + GOLDEN)), r->pages, 1};
	while (p.half < 31 && UINT64_C(1) << 2 * p.half < p.pages)
		p.half++;
	return p;
}

static uint64_t round_of(const struct permutation *p, unsigned round, uint64_t half)
{
	return mix(p->key + round * GOLDEN + half) & ((UINT64_C(1) << p->half) - 1);
}

static uint64_t permute_once(const struct permutation *p, uint64_t x)
{
	uint64_t left = x >> p->half, right = x & ((UINT64_C(1) << p->half) - 1);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t next = left ^ round_of(p, i, right);
		left = right;
		right = next;
	}
	return left << p->half | right;
}

static uint64_t unpermute_once(const struct permutation *p, uint64_t x)
{
	uint64_t left = x >> p->half, right = x & ((UINT64_C(1) << p->half) - 1);
	for (unsigned i = ROUNDS; i-- > 0;) {
		uint64_t before = right ^ round_of(p, i, left);
		right = left;
		left = before;
	}
	return left << p->half | right;
}

uint64_t gw__mem_visited(const struct gw__mem_region *r, uint64_t step)
{
	uint64_t x = step % r->pages;
	struct permutation p = permutation_of(r, step / r->pages);
	if (!r->in_order)
		do
			x = permute_once(&p, x);
		while (x >= r->pages);
	return r->first + x;
}

uint64_t gw__mem_version(const struct gw__mem_region *r, uint64_t page, uint64_t steps)
{
	uint64_t x = page - r->first;
	struct permutation p = permutation_of(r, steps / r->pages);
	if (!r->in_order)
		do
			x = unpermute_once(&p, x);
		while (x >= r->pages);
	return steps / r->pages + (x < steps % r->pages);
}

/* --- What is in it ------------------------------------------------------------------------------------------------- */

struct content {
	uint64_t key;
	bool zero;
	unsigned same_words; /* how many words in a row are equal */
};

static uint64_t key_of(const struct gw__mem_region *r, uint64_t page, uint64_t version)
{
	return mix(r->seed + mix(page * GOLDEN + mix(version + 1)));
}

static struct content content_of(const struct gw__mem_region *r, uint64_t page, uint64_t version)
{
	uint64_t class = mix(r->seed ^ page) % (ZERO_EVERY * COMPRESSIBLE_EVERY) + version;
	return (struct content){key_of(r, page, version), class % ZERO_EVERY == 0, class % COMPRESSIBLE_EVERY == 0 ? REPEATED_WORDS : 1};
}

/* Never 0, so that a word that was not written is told from each that was. */
static uint64_t word_of(const struct content *c, unsigned i) { return c->zero ? 0 : mix(c->key + i / c->same_words * GOLDEN) | 1; }

static unsigned sparse_place(uint64_t version) { return (unsigned)(version % WORDS); }

/* Word i of a sparse page: version v > 0 writes word v mod WORDS, all other words are those of version 0. */
static uint64_t sparse_word_of(const struct gw__mem_region *r, uint64_t page, uint64_t version, const struct content *base, unsigned i)
{
	uint64_t behind = (version - i) % WORDS; /* of the last version that wrote it; WORDS divides 2^64 */
	if (behind >= version)
		return word_of(base, i);
	return key_of(r, page, version - behind) | 1;
}

bool gw__mem_is_zero(const struct gw__mem_region *r, uint64_t page, uint64_t version)
{
	return content_of(r, page, r->sparse ? 0 : version).zero && (!r->sparse || version == 0);
}

uint64_t gw__mem_write(const struct gw__mem_region *r, uint64_t page, uint64_t version, bool all, void *to, uint64_t *bytes)
{
	uint64_t *words = to;
	struct content c = content_of(r, page, r->sparse ? 0 : version);
	if (r->sparse && !all) {
		unsigned i = sparse_place(version);
		__atomic_store_n(&words[i], sparse_word_of(r, page, version, &c, i), __ATOMIC_RELAXED);
		*bytes = 8;
		return i * UINT64_C(8);
	}
	for (unsigned i = 0; i < WORDS; i++)
		__atomic_store_n(&words[i], r->sparse ? sparse_word_of(r, page, version, &c, i) : word_of(&c, i), __ATOMIC_RELAXED);
	*bytes = GW__MEM_PAGE_BYTES;
	return 0;
}

static bool matches(const struct gw__mem_region *r, uint64_t page, uint64_t version, const uint64_t *words)
{
	struct content c = content_of(r, page, r->sparse ? 0 : version);
	for (unsigned i = 0; i < WORDS; i++)
		if (words[i] != (r->sparse ? sparse_word_of(r, page, version, &c, i) : word_of(&c, i)))
			return false;
	return true;
}

static bool all_zero(const uint64_t *words)
{
	uint64_t any = 0;
	for (unsigned i = 0; i < WORDS && !any; i++)
		any |= words[i];
	return !any;
}

enum gw__mem_verdict gw__mem_judge(const struct gw__mem_region *r, uint64_t page, uint64_t version, const void *bytes, uint64_t *off)
{
	*off = 0;
	if (matches(r, page, version, bytes))
		return GW__MEM_RIGHT;
	for (uint64_t n = 1; n <= version && n <= SEARCHED_VERSIONS; n++)
		if (matches(r, page, version - n, bytes)) {
			*off = n;
			return GW__MEM_STALE;
		}
	if (all_zero(bytes)) /* some later version is zero too: it says nothing */
		return GW__MEM_MISSING;
	for (uint64_t n = 1; n <= SEARCHED_VERSIONS; n++)
		if (matches(r, page, version + n, bytes)) {
			*off = n;
			return GW__MEM_FUTURE;
		}
	return GW__MEM_WRONG;
}
