/* SPDX-License-Identifier: MIT */
/* What a guest of this process consists of, and what it reports of itself; see guest.h. */
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "guest/demand.h"

typedef unsigned long long ull;

struct gw__guest *gw__guest_new(void) { return calloc(1, sizeof(struct gw__guest)); }

static void free_block(struct gw__guest_block *b)
{
	if (b)
		free((void *)b->told);
	free(b);
}

void gw__guest_free(struct gw__guest *g)
{
	if (!g)
		return;
	for (uint32_t i = 0; i < g->blocks_n; i++)
		free_block(g->block[i]);
	for (uint32_t i = 0; i < g->removed_n; i++)
		free_block(g->removed[i]);
	free(g->removed);
	free(g->device);
	free(g);
}

/* --- blocks --- */

struct gw__guest_block *gw__guest_next_block(const struct gw__guest *g, uint32_t *i)
{
	uint32_t n = atomic_load_explicit(&g->blocks_n, memory_order_acquire);
	while (*i < n) {
		struct gw__guest_block *b = atomic_load_explicit(&g->block[(*i)++], memory_order_acquire);
		if (!atomic_load_explicit(&b->removed, memory_order_relaxed))
			return b;
	}
	return NULL;
}

struct gw__guest_block *gw__guest_find_block(const struct gw__guest *g, const char *name)
{
	struct gw__guest_block *b;
	for (uint32_t i = 0; (b = gw__guest_next_block(g, &i));)
		if (!strcmp(b->name, name))
			return b;
	return NULL;
}

static int check_new(const struct gw__guest *g, const struct gw__guest_block *block, struct gw__error *error)
{
	const struct gw__guest_block *b;
	if (gw__guest_find_block(g, block->name))
		return gw__error_set(error, -EEXIST, "there is a block \"%s\" already", block->name);
	for (uint32_t i = 0; (b = gw__guest_next_block(g, &i));)
		if (block->host < b->host + b->bytes && b->host < block->host + block->bytes)
			return gw__error_set(error, -EEXIST, "the memory of block \"%s\" overlaps that of block \"%s\"", block->name,
				b->name);
	return 0;
}

/* A place of a block that was removed, or a new one; the limit: GW__GUEST_BLOCKS_MAX. */
static uint32_t find_place(const struct gw__guest *g)
{
	uint32_t i = 0;
	while (i < g->blocks_n && !g->block[i]->removed)
		i++;
	return i;
}

/* Who looks a block up may still read one that was removed: it is kept. */
static int keep_removed(struct gw__guest *g, struct gw__guest_block *b)
{
	struct gw__guest_block **removed = realloc(g->removed, (g->removed_n + 1) * sizeof *removed);
	if (!removed)
		return -ENOMEM;
	g->removed = removed;
	g->removed[g->removed_n++] = b;
	return 0;
}

static int publish(struct gw__guest *g, struct gw__guest_block *b, uint32_t place)
{
	if (place < g->blocks_n && keep_removed(g, g->block[place]))
		return -ENOMEM;
	atomic_store_explicit(&g->block[place], b, memory_order_release);
	if (place == g->blocks_n)
		atomic_store_explicit(&g->blocks_n, place + 1, memory_order_release);
	return 0;
}

int gw__guest_add_block(struct gw__guest *g, const struct gw__guest_block *block, struct gw__error *error)
{
	int r = check_new(g, block, error);
	uint32_t place = find_place(g);
	if (!r && place == GW__GUEST_BLOCKS_MAX)
		r = gw__error_set(error, -E2BIG, "more than %d blocks", GW__GUEST_BLOCKS_MAX);
	if (r)
		return r;
	struct gw__guest_block *b = malloc(sizeof *b);
	_Atomic uint64_t *told = calloc(gw__guest_block_words(g, block), sizeof *told);
	if (b) {
		memcpy(b, block, sizeof *b);
		b->told = told;
	}
	if (!b || !told || publish(g, b, place)) {
		free((void *)told);
		free(b);
		return gw__error_set(error, -ENOMEM, "no memory for a bitmap of block \"%s\"", block->name);
	}
	return 0;
}

int gw__guest_remove_block(struct gw__guest *g, const char *name, struct gw__error *error)
{
	struct gw__guest_block *b = gw__guest_find_block(g, name);
	if (!b)
		return gw__error_set(error, -ENOENT, "there is no block \"%s\"", name);
	b->removed = true;
	return 0;
}

/* --- devices --- */

static uint32_t find_device(const struct gw__guest *g, const char *name, uint32_t instance)
{
	uint32_t i = 0;
	while (i < g->devices_n && (g->device[i].instance != instance || strcmp(g->device[i].name, name)))
		i++;
	return i;
}

int gw__guest_add_device(struct gw__guest *g, const struct gw__guest_device *device, struct gw__error *error)
{
	if (find_device(g, device->name, device->instance) < g->devices_n)
		return gw__error_set(error, -EEXIST, "there is a device \"%s\" with instance %u already", device->name, device->instance);
	if (g->devices_n == GW__GUEST_DEVICES_MAX)
		return gw__error_set(error, -E2BIG, "more than %d devices", GW__GUEST_DEVICES_MAX);
	if (g->devices_n == g->devices_room) {
		uint32_t room = g->devices_room ? 2 * g->devices_room : 8;
		struct gw__guest_device *devices = realloc(g->device, room * sizeof *devices);
		if (!devices)
			return gw__error_set(error, -ENOMEM, "no memory for device \"%s\"", device->name);
		g->device = devices;
		g->devices_room = room;
	}
	g->device[g->devices_n++] = *device;
	return 0;
}

int gw__guest_remove_device(struct gw__guest *g, const char *name, uint32_t instance, struct gw__error *error)
{
	uint32_t i = find_device(g, name, instance);
	if (i == g->devices_n)
		return gw__error_set(error, -ENOENT, "there is no device \"%s\" with instance %u", name, instance);
	g->devices_n--;
	memmove(&g->device[i], &g->device[i + 1], (g->devices_n - i) * sizeof g->device[0]);
	return 0;
}

int gw__out_write(struct gw_out *out, const void *bytes, size_t n)
{
	if (out->failed)
		return out->failed;
	if (n > out->max_bytes - out->n)
		return out->failed = -E2BIG;
	if (n > out->room - out->n) {
		size_t room = out->n + n < 4096 ? 4096 : 2 * (out->n + n);
		uint8_t *more = realloc(out->bytes, room);
		if (!more)
			return out->failed = -ENOMEM;
		out->bytes = more;
		out->room = room;
	}
	if (n)
		memcpy(out->bytes + out->n, bytes, n);
	out->n += n;
	return 0;
}

int gw__guest_device_save(const struct gw__guest_device *d, struct gw_out *out, size_t most, bool *hook, struct gw__error *error)
{
	int r = d->save(d->ctx, out);
	if (out->failed == -E2BIG)
		return gw__error_set(error, -E2BIG, "device \"%s\": more than %zu bytes of device state; raise memory_limit", d->name,
			most);
	if (out->failed)
		return gw__error_set(error, out->failed, "device \"%s\": no memory for its state", d->name);
	if (!r)
		return 0;
	*hook = true;
	return gw__error_set(error, r > 0 ? -EPROTO : r, "the hook that saves device \"%s\" failed", d->name);
}

/* --- what it reports of itself --- */

/* Set after the write and taken before the page is read (release, acquire): what is taken was written, and what is written later is set again. */
static void set_told(const struct gw__guest_block *b, uint64_t first, uint64_t last)
{
	for (uint64_t word = first / 64; word <= last / 64; word++) {
		uint64_t from = word == first / 64 ? first % 64 : 0, to = word == last / 64 ? last % 64 : 63;
		uint64_t mask = (~UINT64_C(0) >> (63 - to)) & (~UINT64_C(0) << from);
		atomic_fetch_or_explicit(&b->told[word], mask, memory_order_acq_rel);
	}
}

static int find_range(struct gw__guest *g, const char *name, uint64_t off, uint64_t bytes, struct gw__guest_block **b)
{
	*b = gw__guest_find_block(g, name);
	if (!*b)
		return -ENOENT;
	return off > (*b)->bytes || bytes > (*b)->bytes - off ? -ERANGE : 0;
}

int gw__guest_dirty(struct gw__guest *g, const char *block, uint64_t off, uint64_t bytes)
{
	struct gw__guest_block *b;
	int r = find_range(g, block, off, bytes, &b);
	if (r || !bytes)
		return r;
	atomic_thread_fence(memory_order_seq_cst); /* the write comes before the look: who starts tracking later reads what was written */
	if (atomic_load_explicit(&g->tracking, memory_order_relaxed))
		set_told(b, off / g->page_bytes, (off + bytes - 1) / g->page_bytes);
	return 0;
}

int gw__guest_block_empty(const struct gw__guest_block *b, uint64_t off, uint64_t bytes)
{
	if (b->fd >= 0) {
		if (fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(b->fd_offset + off), (off_t)bytes))
			return -errno;
		return 0;
	}
	return madvise(b->host + off, bytes, MADV_DONTNEED) ? -errno : 0;
}

/* A page that is on its way must not come after it was released. */
static int empty(struct gw__guest *g, const struct gw__guest_block *b, uint64_t off, uint64_t bytes)
{
	atomic_fetch_add(&g->discarding, 1);
	struct gw__demand *demand = atomic_load(&g->demand);
	if (demand)
		gw__demand_discard(demand, b, off, bytes);
	int r = gw__guest_block_empty(b, off, bytes);
	atomic_fetch_sub(&g->discarding, 1);
	return r;
}

int gw__guest_discard(struct gw__guest *g, const char *block, uint64_t off, uint64_t bytes)
{
	struct gw__guest_block *b;
	int r = find_range(g, block, off, bytes, &b);
	if (r || !bytes)
		return r;
	if (off % b->page_bytes || bytes % b->page_bytes)
		return -EINVAL;
	r = empty(g, b, off, bytes);
	return r ? r : gw__guest_dirty(g, block, off, bytes);
}

void gw__guest_set_demand(struct gw__guest *g, struct gw__demand *demand)
{
	atomic_store(&g->demand, demand);
	while (!demand && atomic_load(&g->discarding))
		sched_yield();
}
