/* SPDX-License-Identifier: MIT */
/*
 * One epoch of a protected guest while it is received: its pages and its device state, next to the memory of the epoch before, which nothing
 * here touches. It is applied whole, or reset (docs/spec/colo.md 6). This is the cache of COLO for a standby that runs no guest: what the
 * secondary itself would have dirtied does not exist.
 *
 * Bounded: pages, their index and the device state together take at most the limit. Pages come over any number of lanes, one thread each; all
 * other calls are the main thread's, while no lane is in use. Of a page that comes twice the later one counts: within a lane in their order,
 * between lanes by the barriers (gw__epoch_barrier), between two of which a page is in one lane only.
 */
#ifndef GW_IMAGE_EPOCHS_EPOCH_H
#define GW_IMAGE_EPOCHS_EPOCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"

enum { GW__EPOCH_BUFFER_BYTES = 512 << 10 };

struct gw__epoch;
struct gw__epoch_lane;

/* NULL: no memory. */
struct gw__epoch *gw__epoch_new(uint64_t page_bytes, uint64_t limit_bytes);
void gw__epoch_free(struct gw__epoch *e); /* with all lanes; NULL is fine */

/* A way in for one thread. NULL: no memory. It lives as long as the epoch. */
struct gw__epoch_lane *gw__epoch_add_lane(struct gw__epoch *e);
/*
 * A buffer of GW__EPOCH_BUFFER_BYTES, aligned to 4096, to be filled by the caller: 0; -E2BIG at the limit, with a sentence; -ENOMEM. Borrowed
 * again without a submit it is the same one.
 */
int gw__epoch_borrow(struct gw__epoch_lane *lane, void **buffer, struct gw__error *error);
/* `n` pages that stand one after the other in the borrowed buffer; page i goes to off[i] of the block. They are not copied. */
int gw__epoch_submit(struct gw__epoch_lane *lane, uint32_t block, const uint64_t *off, uint32_t n, struct gw__error *error);
int gw__epoch_put_zeros(struct gw__epoch_lane *lane, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error);

/* All that came so far is older than all that follows. */
void gw__epoch_barrier(struct gw__epoch *e);

/* Room for the device state, to be filled by the caller; once. 0, -E2BIG with a sentence, -ENOMEM. */
int gw__epoch_reserve_devices(struct gw__epoch *e, uint64_t bytes, uint8_t **to, struct gw__error *error);
struct gw__view gw__epoch_devices(const struct gw__epoch *e);

/* Consecutive pages, with content or (pages NULL) of zeros. A negative errno ends the walk. */
typedef int gw__epoch_apply_fn(void *ctx, uint32_t block, uint64_t off, const uint8_t *pages, uint64_t n, struct gw__error *error);
/* Every page, older ones first. The epoch stays as it is. */
int gw__epoch_apply(const struct gw__epoch *e, gw__epoch_apply_fn *fn, void *ctx, struct gw__error *error);

struct gw__epoch_stats {
	uint64_t pages, zero_pages; /* as they came, repetitions too */
	uint64_t memory_bytes;      /* taken now */
	uint64_t memory_most_bytes; /* taken by any epoch so far */
};
struct gw__epoch_stats gw__epoch_stats(const struct gw__epoch *e);

/*
 * Forgets all pages and devices. If another epoch follows, memory is kept for it: as much as this one took, or most of what the ones before took, as
 * the first touch of new memory would be in a pause of the guest. Never more than the limit.
 */
void gw__epoch_reset(struct gw__epoch *e, bool another_follows);

#endif
