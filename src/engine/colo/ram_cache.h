/* SPDX-License-Identifier: MIT */
/*
 * The RAM cache of a COLO secondary that runs its guest between checkpoints (docs/spec/colo.md 6): a second copy of the guest's memory, as its primary
 * has it. What the primary sends lands here. A flush takes over every page that the primary sent since the flush before, and every page that the guest here
 * has written: so what only the secondary wrote is taken back, and what only the primary wrote comes in. It is filled by the first copy, and never
 * reset: it outlives epochs, channels, and the flush.
 *
 * `put` and `zeros` from any thread, a page from one of them at a time; all else from the thread of the call, while no other puts.
 */
#ifndef GW_ENGINE_COLO_RAM_CACHE_H
#define GW_ENGINE_COLO_RAM_CACHE_H

#include "engine/guest/dirty_pages.h"

struct gw__ram_cache;

int gw__ram_cache_new(struct gw__guest *guest, const struct gw__blocks *blocks, struct gw__ram_cache **c, struct gw__error *error);
void gw__ram_cache_free(struct gw__ram_cache *c); /* NULL is fine */

/* Pages that stand one after the other, here and in the block. `in_epoch`: they are the primary's, for the next flush. */
void gw__ram_cache_put(struct gw__ram_cache *c, uint32_t block, uint64_t off, const void *pages, uint64_t n, bool in_epoch);
void gw__ram_cache_put_zeros(struct gw__ram_cache *c, uint32_t block, uint64_t off, uint64_t n, bool in_epoch);

struct gw__ram_cache_flushed {
	uint64_t by_primary, by_secondary; /* pages; those of both are counted with the first */
};
/*
 * The guest stands still, and the epoch is whole. `written`: what the guest here wrote, which is harvested. On failure (its tracker's) nothing was
 * flushed.
 */
int gw__ram_cache_flush(struct gw__ram_cache *c, struct gw__dirty_pages *written, struct gw__ram_cache_flushed *flushed,
	struct gw__error *error);

#endif
