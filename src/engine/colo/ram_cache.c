/* SPDX-License-Identifier: MIT */
/* What the primary has, next to what the guest here has; see ram_cache.h. */
#include "engine/colo/ram_cache.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bitmap.h"

enum { AT_ONCE = 128 };

struct block {
	uint8_t *host, *copy; /* the guest's memory, and the cache */
	uint64_t bytes, words_n;
	_Atomic uint64_t *filled; /* a bit per page that has had content in the cache: it may have to be cleared */
	_Atomic uint64_t *sent;   /* by the primary since the last flush */
};

struct gw__ram_cache {
	uint64_t page_bytes;
	uint32_t n;
	struct block v[];
};

static int add(struct gw__ram_cache *c, const struct gw__guest *guest, const struct gw__guest_block *from)
{
	struct block *b = &c->v[c->n];
	void *copy = mmap(NULL, from->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (copy == MAP_FAILED)
		return -ENOMEM;
	*b = (struct block){.host = from->host, .copy = copy, .bytes = from->bytes, .words_n = gw__guest_block_words(guest, from)};
	c->n++;
	b->filled = calloc(b->words_n, sizeof *b->filled);
	b->sent = calloc(b->words_n, sizeof *b->sent);
	return b->filled && b->sent ? 0 : -ENOMEM;
}

int gw__ram_cache_new(struct gw__guest *guest, const struct gw__blocks *blocks, struct gw__ram_cache **made, struct gw__error *error)
{
	struct gw__ram_cache *c = calloc(1, sizeof *c + blocks->n * sizeof c->v[0]);
	int r = c ? 0 : -ENOMEM;
	for (uint32_t i = 0; !r && i < blocks->n; i++)
		r = add(c, guest, gw__guest_find_block(guest, blocks->v[i].name));
	if (r) {
		gw__ram_cache_free(c);
		return gw__error_set(error, r, "no memory for a second copy of the guest");
	}
	c->page_bytes = guest->page_bytes;
	*made = c;
	return 0;
}

void gw__ram_cache_free(struct gw__ram_cache *c)
{
	if (!c)
		return;
	for (uint32_t i = 0; i < c->n; i++) {
		munmap(c->v[i].copy, c->v[i].bytes);
		free((void *)c->v[i].filled);
		free((void *)c->v[i].sent);
	}
	free(c);
}

static void set(_Atomic uint64_t *words, uint64_t first, uint64_t n)
{
	for (uint64_t word = first / 64; word <= (first + n - 1) / 64; word++) {
		uint64_t mask = gw__bitmap_mask(word, first, first + n);
		if ((atomic_load_explicit(&words[word], memory_order_relaxed) & mask) != mask)
			atomic_fetch_or_explicit(&words[word], mask, memory_order_relaxed);
	}
}

void gw__ram_cache_put(struct gw__ram_cache *c, uint32_t block, uint64_t off, const void *pages, uint64_t n, bool in_epoch)
{
	struct block *b = &c->v[block];
	memcpy(b->copy + off, pages, n * c->page_bytes);
	set(b->filled, off / c->page_bytes, n);
	if (in_epoch)
		set(b->sent, off / c->page_bytes, n);
}

/* What never had content is zero already, and is not touched. */
void gw__ram_cache_put_zeros(struct gw__ram_cache *c, uint32_t block, uint64_t off, uint64_t n, bool in_epoch)
{
	struct block *b = &c->v[block];
	uint64_t first = off / c->page_bytes;
	for (uint64_t i = first; i < first + n; i++)
		if (atomic_load_explicit(&b->filled[i / 64], memory_order_relaxed) >> (i % 64) & 1)
			memset(b->copy + i * c->page_bytes, 0, c->page_bytes);
	if (in_epoch)
		set(b->sent, first, n);
}

/* --- flush --- */

static void take_over(const struct gw__ram_cache *c, const struct block *b, uint64_t page)
{
	memcpy(b->host + page * c->page_bytes, b->copy + page * c->page_bytes, c->page_bytes);
}

/* Those that the primary sent too are left to it. */
static uint64_t take_back_written(struct gw__ram_cache *c, struct gw__dirty_pages *written)
{
	uint64_t off[AT_ONCE], pages = 0;
	uint32_t block, n;
	while ((n = gw__dirty_pages_take(written, 0, AT_ONCE, &block, off)))
		for (uint32_t i = 0; i < n; i++) {
			uint64_t page = off[i] / c->page_bytes;
			if (atomic_load_explicit(&c->v[block].sent[page / 64], memory_order_relaxed) >> (page % 64) & 1)
				continue;
			take_over(c, &c->v[block], page);
			pages++;
		}
	return pages;
}

static uint64_t take_over_sent(struct gw__ram_cache *c, struct block *b)
{
	uint64_t pages = 0;
	for (uint64_t i = 0; i < b->words_n; i++) {
		uint64_t bits = atomic_exchange_explicit(&b->sent[i], 0, memory_order_relaxed);
		for (; bits; bits &= bits - 1, pages++)
			take_over(c, b, i * 64 + (uint64_t)__builtin_ctzll(bits));
	}
	return pages;
}

int gw__ram_cache_flush(struct gw__ram_cache *c, struct gw__dirty_pages *written, struct gw__ram_cache_flushed *flushed,
	struct gw__error *error)
{
	uint64_t ignored;
	int r = gw__dirty_pages_harvest(written, &ignored, error);
	*flushed = (struct gw__ram_cache_flushed){0};
	if (r)
		return r;
	flushed->by_secondary = take_back_written(c, written);
	for (uint32_t i = 0; i < c->n; i++)
		flushed->by_primary += take_over_sent(c, &c->v[i]);
	return gw__dirty_pages_forget(written, error); /* what we wrote ourselves is none of its writes */
}
