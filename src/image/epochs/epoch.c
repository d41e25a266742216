/* SPDX-License-Identifier: MIT */
/*
 * The pages of one epoch; see epoch.h.
 *
 * Memory is taken in chunks, from which lanes cut their buffers: what a packet leaves of a buffer is lent again. A run is an entry of the index:
 *
 *   lane 0   chunk [packet][packet]....      entries {block, off, n, pages} {zeros} {barrier 1} ...
 *   lane 1   chunk [packet]..............    entries ...
 */
#include "image/epochs/epoch.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/math.h"

typedef unsigned long long ull;

enum {
	CHUNK_BYTES = 4 << 20,
	HUGE_BYTES = 2 << 20, /* of a huge page; a chunk is some of them */
	CHUNK_ALIGN = 4096,
	ENTRIES_FIRST = 256,
	FORGET = 8, /* of what is kept for the next epoch and was not needed, one part in so many is given back */
};

struct chunk {
	struct chunk *next;
	uint8_t *bytes;
};

struct entry {
	uint64_t off, n;      /* n pages */
	const uint8_t *pages; /* NULL: zeros */
	uint32_t block;
	uint32_t generation; /* barriers before it */
};

/* Its thread's, but for what the epoch does between epochs. */
struct gw__epoch_lane {
	struct gw__epoch *epoch;
	struct gw__epoch_lane *next;
	struct chunk *chunks; /* the first one is being cut */
	size_t used_bytes;    /* of it */
	struct entry *entry;
	size_t entries_n, entries_room;
	uint64_t pages, zero_pages;
};

struct gw__epoch {
	uint64_t page_bytes, limit_bytes;
	uint32_t generation; /* changes while no lane is in use */
	struct gw__epoch_lane *lanes;
	uint8_t *devices;
	uint64_t devices_bytes;
	uint64_t memory_most_bytes;
	uint64_t keep_bytes; /* of chunks, for the next epoch */

	pthread_mutex_t lock; /* of what follows */
	struct chunk *spare;
	uint64_t memory_bytes; /* chunks in use, entries, devices; not the spare ones */
};

struct gw__epoch *gw__epoch_new(uint64_t page_bytes, uint64_t limit_bytes)
{
	struct gw__epoch *e = calloc(1, sizeof *e);
	if (!e)
		return NULL;
	e->page_bytes = page_bytes;
	e->limit_bytes = limit_bytes;
	pthread_mutex_init(&e->lock, NULL);
	return e;
}

static void free_chunk(struct chunk *c)
{
	munmap(c->bytes, CHUNK_BYTES);
	free(c);
}

static void free_chunks(struct chunk *c)
{
	for (struct chunk *next; c; c = next) {
		next = c->next;
		free_chunk(c);
	}
}

void gw__epoch_free(struct gw__epoch *e)
{
	if (!e)
		return;
	for (struct gw__epoch_lane *l = e->lanes, *next; l; l = next) {
		next = l->next;
		free_chunks(l->chunks);
		free(l->entry);
		free(l);
	}
	free_chunks(e->spare);
	free(e->devices);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

struct gw__epoch_lane *gw__epoch_add_lane(struct gw__epoch *e)
{
	struct gw__epoch_lane *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	l->epoch = e;
	l->next = e->lanes;
	e->lanes = l;
	return l;
}

/* Charges the limit. */
static int charge(struct gw__epoch *e, uint64_t bytes, struct gw__error *error)
{
	pthread_mutex_lock(&e->lock);
	bool fits = bytes <= e->limit_bytes && e->memory_bytes <= e->limit_bytes - bytes;
	e->memory_bytes += fits ? bytes : 0;
	pthread_mutex_unlock(&e->lock);
	if (fits)
		return 0;
	return gw__error_set(error, -E2BIG, "an epoch takes more than %llu bytes; raise --memory-limit, or take checkpoints more often",
		(ull)e->limit_bytes);
}

static struct chunk *take_spare(struct gw__epoch *e)
{
	pthread_mutex_lock(&e->lock);
	struct chunk *c = e->spare;
	if (c)
		e->spare = c->next;
	pthread_mutex_unlock(&e->lock);
	return c;
}

/* Its first touch is in a pause of the guest, where two faults cost less than a thousand. */
static struct chunk *map_chunk(void)
{
	struct chunk *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	uint8_t *room = mmap(NULL, CHUNK_BYTES + HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED) {
		free(c);
		return NULL;
	}
	size_t before = gw__round_up((uintptr_t)room, HUGE_BYTES) - (uintptr_t)room;
	c->bytes = room + before;
	if (before)
		munmap(room, before);
	munmap(c->bytes + CHUNK_BYTES, HUGE_BYTES - before);
	madvise(c->bytes, CHUNK_BYTES, MADV_HUGEPAGE); /* a kernel that has none gives small ones */
	return c;
}

static int add_chunk(struct gw__epoch_lane *l, struct gw__error *error)
{
	int r = charge(l->epoch, CHUNK_BYTES, error);
	if (r)
		return r;
	struct chunk *c = take_spare(l->epoch);
	if (!c)
		c = map_chunk();
	if (!c)
		return gw__error_set(error, -ENOMEM, "no memory for the pages of an epoch");
	c->next = l->chunks;
	l->chunks = c;
	l->used_bytes = 0;
	return 0;
}

int gw__epoch_borrow(struct gw__epoch_lane *l, void **buffer, struct gw__error *error)
{
	if (!l->chunks || CHUNK_BYTES - l->used_bytes < GW__EPOCH_BUFFER_BYTES) {
		int r = add_chunk(l, error);
		if (r)
			return r;
	}
	*buffer = l->chunks->bytes + l->used_bytes;
	return 0;
}

static int add_entry(struct gw__epoch_lane *l, const struct entry *new, struct gw__error *error)
{
	if (l->entries_n == l->entries_room) {
		size_t room = l->entries_room ? l->entries_room * 2 : ENTRIES_FIRST;
		int r = charge(l->epoch, (room - l->entries_room) * sizeof *l->entry, error);
		if (r)
			return r;
		struct entry *entry = realloc(l->entry, room * sizeof *entry);
		if (!entry)
			return gw__error_set(error, -ENOMEM, "no memory for the index of an epoch");
		l->entry = entry;
		l->entries_room = room;
	}
	l->entry[l->entries_n++] = *new;
	return 0;
}

int gw__epoch_submit(struct gw__epoch_lane *l, uint32_t block, const uint64_t *off, uint32_t n, struct gw__error *error)
{
	const struct gw__epoch *e = l->epoch;
	const uint8_t *pages = l->chunks->bytes + l->used_bytes;
	int r = 0;
	assert(n * e->page_bytes <= GW__EPOCH_BUFFER_BYTES);
	for (uint32_t i = 0, run; !r && i < n; i += run) {
		for (run = 1; i + run < n && off[i + run] == off[i] + run * e->page_bytes; run++)
			;
		struct entry entry = {.off = off[i],
			.n = run,
			.pages = pages + i * e->page_bytes,
			.block = block,
			.generation = e->generation};
		r = add_entry(l, &entry, error);
	}
	l->used_bytes = gw__round_up(l->used_bytes + n * e->page_bytes, CHUNK_ALIGN);
	l->pages += n;
	return r;
}

int gw__epoch_put_zeros(struct gw__epoch_lane *l, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	const struct gw__epoch *e = l->epoch;
	struct entry *last = l->entries_n ? &l->entry[l->entries_n - 1] : NULL;
	l->zero_pages += pages;
	if (last && !last->pages && last->block == block && last->generation == e->generation &&
		last->off + last->n * e->page_bytes == off) {
		last->n += pages;
		return 0;
	}
	struct entry entry = {.off = off, .n = pages, .block = block, .generation = e->generation};
	return add_entry(l, &entry, error);
}

void gw__epoch_barrier(struct gw__epoch *e) { e->generation++; }

int gw__epoch_reserve_devices(struct gw__epoch *e, uint64_t bytes, uint8_t **to, struct gw__error *error)
{
	int r = charge(e, bytes, error);
	if (r)
		return r;
	e->devices = malloc(bytes ? bytes : 1);
	if (!e->devices)
		return gw__error_set(error, -ENOMEM, "no memory for %llu bytes of device state", (ull)bytes);
	e->devices_bytes = bytes;
	*to = e->devices;
	return 0;
}

struct gw__view gw__epoch_devices(const struct gw__epoch *e) { return (struct gw__view){e->devices, e->devices_bytes}; }

/* The entries of a lane are in the order of their generations; *at is where the next one begins. */
static int apply_generation(const struct gw__epoch_lane *l, uint32_t generation, size_t *at, gw__epoch_apply_fn *fn, void *ctx,
	struct gw__error *error)
{
	int r = 0;
	for (; !r && *at < l->entries_n && l->entry[*at].generation == generation; ++*at) {
		const struct entry *e = &l->entry[*at];
		r = fn(ctx, e->block, e->off, e->pages, e->n, error);
	}
	return r;
}

int gw__epoch_apply(const struct gw__epoch *e, gw__epoch_apply_fn *fn, void *ctx, struct gw__error *error)
{
	size_t lanes = 0, i;
	for (const struct gw__epoch_lane *l = e->lanes; l; l = l->next)
		lanes++;
	size_t *at = calloc(lanes + 1, sizeof *at);
	if (!at)
		return gw__error_set(error, -ENOMEM, "no memory to apply an epoch");
	int r = 0;
	for (uint32_t generation = 0; !r && generation <= e->generation; generation++) {
		i = 0;
		for (const struct gw__epoch_lane *l = e->lanes; !r && l; l = l->next, i++)
			r = apply_generation(l, generation, &at[i], fn, ctx, error);
	}
	free(at);
	return r;
}

struct gw__epoch_stats gw__epoch_stats(const struct gw__epoch *e)
{
	struct gw__epoch_stats s = {.memory_bytes = e->memory_bytes, .memory_most_bytes = gw__max(e->memory_most_bytes, e->memory_bytes)};
	for (const struct gw__epoch_lane *l = e->lanes; l; l = l->next) {
		s.pages += l->pages;
		s.zero_pages += l->zero_pages;
	}
	return s;
}

/* Into the spare ones, as long as those are fewer than is kept. */
static void give_back(struct gw__epoch *e, struct chunk *c, uint64_t *kept, uint64_t keep_bytes)
{
	for (struct chunk *next; c; c = next) {
		next = c->next;
		if (*kept + CHUNK_BYTES > keep_bytes) {
			free_chunk(c);
			continue;
		}
		c->next = e->spare;
		e->spare = c;
		*kept += CHUNK_BYTES;
	}
}

void gw__epoch_reset(struct gw__epoch *e, bool another_follows)
{
	struct chunk *old = e->spare;
	uint64_t kept = 0;
	e->memory_most_bytes = gw__max(e->memory_most_bytes, e->memory_bytes);
	e->keep_bytes = another_follows ? gw__max(e->memory_bytes, e->keep_bytes - e->keep_bytes / FORGET) : 0;
	e->spare = NULL;
	for (struct gw__epoch_lane *l = e->lanes; l; l = l->next) {
		give_back(e, l->chunks, &kept, e->keep_bytes);
		free(l->entry);
		l->chunks = NULL;
		l->entry = NULL;
		l->used_bytes = l->entries_n = l->entries_room = 0;
		l->pages = l->zero_pages = 0;
	}
	give_back(e, old, &kept, e->keep_bytes);
	free(e->devices);
	e->devices = NULL;
	e->devices_bytes = 0;
	e->memory_bytes = 0;
	e->generation = 0;
}
