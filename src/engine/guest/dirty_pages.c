/* SPDX-License-Identifier: MIT */
/* The bitmap of pages that are still to be sent; see dirty_pages.h. */
#include "engine/guest/dirty_pages.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "guest/tracker.h"

enum {
	CHUNK_WORDS = 8, /* that a worker takes in one step: 512 pages */
};

struct block {
	struct gw__guest_block *guest;
	const uint8_t *host; /* where its pages are read */
	uint64_t *words;     /* workers write only those of a chunk they took */
	uint64_t words_n, pages;
	uint64_t first_chunk, chunks; /* in the order of all blocks */
};

/* A worker's place in the chunk that it took. */
struct taker {
	uint32_t block;
	uint64_t word, end; /* of the block's words; word == end: nothing is left */
} __attribute__((aligned(64)));

struct gw__dirty_pages {
	struct gw__guest *guest;
	bool tracks;                 /* writes are noticed */
	bool started;                /* the VMM's own tracker */
	struct gw__tracker *tracker; /* NULL: none of ours */
	uint64_t chunks;
	_Atomic uint64_t cursor; /* the next chunk */
	struct taker taker[GW__DIRTY_TAKERS_MAX];
	uint32_t n;
	struct block v[];
};

static int add(struct gw__dirty_pages *d, struct gw__guest_block *guest)
{
	struct block *b = &d->v[d->n];
	b->guest = guest;
	b->host = guest->host;
	b->pages = gw__guest_block_pages(d->guest, guest);
	b->words_n = gw__guest_block_words(d->guest, guest);
	b->chunks = (b->words_n + CHUNK_WORDS - 1) / CHUNK_WORDS;
	b->first_chunk = d->chunks;
	b->words = calloc(b->words_n, sizeof *b->words);
	d->chunks += b->chunks;
	d->n++;
	return b->words ? 0 : -ENOMEM;
}

int gw__dirty_pages_new(struct gw__guest *guest, const struct gw__blocks *blocks, struct gw__dirty_pages **dirty, struct gw__error *error)
{
	void *memory = NULL;
	size_t bytes = sizeof(struct gw__dirty_pages) + blocks->n * sizeof(struct block);
	if (posix_memalign(&memory, 64, bytes))
		return gw__error_set(error, -ENOMEM, "no memory for a bitmap of the guest");
	struct gw__dirty_pages *d = memset(memory, 0, bytes);
	int r = 0;
	d->guest = guest;
	for (uint32_t i = 0; !r && i < blocks->n; i++)
		r = add(d, gw__guest_find_block(guest, blocks->v[i].name));
	if (r) {
		gw__dirty_pages_free(d);
		return gw__error_set(error, r, "no memory for a bitmap of the guest");
	}
	*dirty = d;
	return 0;
}

void gw__dirty_pages_free(struct gw__dirty_pages *d)
{
	if (!d)
		return;
	if (d->tracks)
		atomic_store(&d->guest->tracking, false);
	gw__tracker_free(d->tracker);
	if (d->started && d->guest->ops.dirty_stop)
		d->guest->ops.dirty_stop(d->guest->ctx);
	for (uint32_t i = 0; i < d->n; i++)
		free(d->v[i].words);
	free(d);
}

static void set_all(struct block *b)
{
	memset(b->words, 0xff, b->words_n * sizeof *b->words);
	if (b->pages % 64)
		b->words[b->words_n - 1] = (UINT64_C(1) << b->pages % 64) - 1;
}

/* What was reported before counts no more: every page is read after this. */
static void forget_told(const struct block *b)
{
	for (uint64_t i = 0; i < b->words_n; i++)
		atomic_store_explicit(&b->guest->told[i], 0, memory_order_relaxed);
}

static int start_tracker(struct gw__dirty_pages *d, struct gw__error *error)
{
	struct gw__tracked *blocks = calloc(d->n, sizeof *blocks);
	if (!blocks)
		return gw__error_set(error, -ENOMEM, "no memory for a tracker");
	for (uint32_t i = 0; i < d->n; i++)
		blocks[i] = (struct gw__tracked){.host = d->v[i].guest->host, .bytes = d->v[i].guest->bytes};
	int r = gw__tracker_new_writes(&d->tracker, blocks, d->n, d->guest->page_bytes, d->guest->uffd, &d->guest->uffd_agreed, error);
	free(blocks);
	return r ? r : gw__tracker_start(d->tracker, error);
}

int gw__dirty_pages_start(struct gw__dirty_pages *d, struct gw__error *error)
{
	const struct gw__guest_ops *ops = &d->guest->ops;
	for (uint32_t i = 0; i < d->n; i++) {
		forget_told(&d->v[i]);
		set_all(&d->v[i]);
	}
	d->tracks = true;
	atomic_store(&d->guest->tracking, true); /* before the first page is read; see gw__guest_dirty */
	int r = d->guest->tracks_writes ? start_tracker(d, error) : 0;
	if (r)
		return r;
	r = ops->dirty_start ? ops->dirty_start(d->guest->ctx) : 0;
	d->started = !r;
	return r ? gw__error_set(error, r, "the guest's own tracker could not be started") : 0;
}

static int harvest_tracker(struct gw__dirty_pages *d, struct block *b, struct gw__error *error)
{
	const struct gw__guest_ops *ops = &d->guest->ops;
	if (d->tracker)
		return gw__tracker_take(d->tracker, (uint32_t)(b - d->v), b->words, error);
	int r = ops->dirty_take ? ops->dirty_take(d->guest->ctx, b->guest->name, 0, b->pages, b->words) : 0;
	if (r)
		return gw__error_set(error, r, "the guest's own tracker failed in block \"%s\"", b->guest->name);
	if (b->pages % 64) /* a hook's bits after the last page are nobody's */
		b->words[b->words_n - 1] &= (UINT64_C(1) << b->pages % 64) - 1;
	return 0;
}

/* The exchange comes before the page is read (acquire), and what is written later sets its bit again. */
static uint64_t harvest_told(struct block *b)
{
	uint64_t n = 0;
	for (uint64_t i = 0; i < b->words_n; i++) {
		if (atomic_load_explicit(&b->guest->told[i], memory_order_relaxed))
			b->words[i] |= atomic_exchange_explicit(&b->guest->told[i], 0, memory_order_acq_rel);
		n += (uint64_t)__builtin_popcountll(b->words[i]);
	}
	return n;
}

void gw__dirty_pages_rewind(struct gw__dirty_pages *d)
{
	atomic_store(&d->cursor, 0);
	for (uint32_t i = 0; i < GW__DIRTY_TAKERS_MAX; i++)
		d->taker[i].word = d->taker[i].end = 0;
}

int gw__dirty_pages_harvest(struct gw__dirty_pages *d, uint64_t *pages, struct gw__error *error)
{
	int r = 0;
	*pages = 0;
	for (uint32_t i = 0; !r && i < d->n; i++) {
		r = harvest_tracker(d, &d->v[i], error);
		*pages += harvest_told(&d->v[i]);
	}
	gw__dirty_pages_rewind(d);
	return r;
}

int gw__dirty_pages_forget(struct gw__dirty_pages *d, struct gw__error *error)
{
	uint64_t ignored;
	int r = gw__dirty_pages_harvest(d, &ignored, error);
	for (uint32_t i = 0; !r && i < d->n; i++)
		memset(d->v[i].words, 0, d->v[i].words_n * sizeof *d->v[i].words);
	return r;
}

/* The block of a chunk, from the one before on. */
static uint32_t find_block(const struct gw__dirty_pages *d, uint64_t chunk)
{
	uint32_t low = 0, high = d->n;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (d->v[middle].first_chunk <= chunk)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* The next chunk that nobody took. False: there is none. */
static bool take_chunk(struct gw__dirty_pages *d, struct taker *t)
{
	uint64_t chunk = atomic_fetch_add_explicit(&d->cursor, 1, memory_order_relaxed);
	if (chunk >= d->chunks)
		return false;
	t->block = find_block(d, chunk);
	const struct block *b = &d->v[t->block];
	t->word = (chunk - b->first_chunk) * CHUNK_WORDS;
	t->end = gw__min(t->word + CHUNK_WORDS, b->words_n);
	return true;
}

/* Pages of the chunk at hand; what is not taken stays in its word. */
static uint32_t take_of_chunk(struct gw__dirty_pages *d, struct taker *t, uint32_t most, uint64_t *off)
{
	uint32_t n = 0;
	uint64_t *words = d->v[t->block].words;
	while (t->word < t->end && n < most) {
		uint64_t bits = words[t->word];
		for (; bits && n < most; bits &= bits - 1)
			off[n++] = (t->word * 64 + (uint64_t)__builtin_ctzll(bits)) * d->guest->page_bytes;
		words[t->word] = bits;
		t->word += !bits;
	}
	return n;
}

uint32_t gw__dirty_pages_take(struct gw__dirty_pages *d, uint32_t taker, uint32_t most, uint32_t *block, uint64_t *off)
{
	assert(taker < GW__DIRTY_TAKERS_MAX);
	struct taker *t = &d->taker[taker];
	do {
		uint32_t n = take_of_chunk(d, t, most, off);
		*block = t->block;
		if (n)
			return n;
	} while (take_chunk(d, t));
	return 0;
}

const uint8_t *gw__dirty_pages_host(const struct gw__dirty_pages *d, uint32_t block) { return d->v[block].host; }
void gw__dirty_pages_set_host(struct gw__dirty_pages *d, uint32_t block, const uint8_t *host) { d->v[block].host = host; }

bool gw__dirty_pages_add(struct gw__dirty_pages *d, uint32_t block, uint64_t off)
{
	uint64_t page = off / d->guest->page_bytes, bit = UINT64_C(1) << page % 64;
	uint64_t *word = &d->v[block].words[page / 64];
	bool is_new = !(*word & bit);
	*word |= bit;
	return is_new;
}
