/* SPDX-License-Identifier: MIT */
/*
 * Pages that come when they are touched: memory of a guest that a userfaultfd watches, the state of each of its pages, and a thread that is told of
 * each fault. Where pages come from is not known here.
 *
 *                          claim                 place
 *        MISSING  -------------------> PLACING ---------> PLACED
 *           |     <-------------------    (who waits is woken)  |
 *           |           unclaim                                 |
 *           +----------------------> ZERO <---------------------+      discard; or a promise, before it is watched
 *
 * A page that is ZERO is not placed before it is touched, and what is not placed when the watch ends reads as zeros. The fault thread allocates
 * nothing and takes no lock; it must outlive each thread that may touch a page.
 *
 * Owned by one thread, except where it is said.
 */
#ifndef GW_GUEST_DEMAND_H
#define GW_GUEST_DEMAND_H

#include "guest/guest.h"

struct gw__demand;

/*
 * A page that is MISSING was touched. From the fault thread: claims and places it, or has another thread do that, without waiting for it. 0, or a
 * negative errno with a sentence: then the thread ends.
 */
typedef int gw__demand_wanted(void *ctx, uint32_t block, uint64_t page, struct gw__error *error);

/*
 * `uffd`: one to use, whose API is not agreed on, which is made non-blocking and not closed; -1: one of our own. `user_mode`: of our own one for faults
 * of user mode does. -EPERM, and the sentence says how to get one.
 */
int gw__demand_new(struct gw__demand **d, uint64_t page_bytes, int uffd, bool user_mode, struct gw__error *error);
/* Ends the thread and the watch. NULL is fine. */
void gw__demand_free(struct gw__demand *d);

/* The blocks are borrowed and keep their numbers; all of their pages are MISSING. -EOPNOTSUPP: their memory cannot be had lazily. */
int gw__demand_add_blocks(struct gw__demand *d, struct gw__guest_block *const *blocks, uint32_t n, struct gw__error *error);
void gw__demand_promise_zeros(struct gw__demand *d, uint32_t block, uint64_t first, uint64_t n);
/* Before it is watched: these pages are in their memory, the memory of all others is empty. */
void gw__demand_mark_placed(struct gw__demand *d, uint32_t block, uint64_t first, uint64_t n);
/* The memory is empty. Who touches it from now on waits. */
int gw__demand_watch(struct gw__demand *d, struct gw__error *error);
/* May be called again after a stop: waiting threads are then reported again. */
int gw__demand_start(struct gw__demand *d, gw__demand_wanted *wanted, void *ctx, struct gw__error *error);
/* What was begun is ended first. The memory stays watched: who touches what is missing waits. 0, or why the thread had ended by itself. NULL is fine. */
int gw__demand_stop(struct gw__demand *d, struct gw__error *error);
bool gw__demand_has_failed(const struct gw__demand *d);
/* Any thread: threads that wait for a page are reported again. */
void gw__demand_repeat(struct gw__demand *d);

/* Any thread: the next page that is MISSING from `page` on and before `end`, which is the answer if there is none. */
uint64_t gw__demand_next_missing(const struct gw__demand *d, uint32_t block, uint64_t page, uint64_t end);
/* Any thread: pages from `first` on, as many as are MISSING in a row, at most n, are the caller's now, to be placed. */
uint64_t gw__demand_claim(struct gw__demand *d, uint32_t block, uint64_t first, uint64_t n);
void gw__demand_unclaim(struct gw__demand *d, uint32_t block, uint64_t first, uint64_t n);
/* What was claimed is there from now on; on failure some of it, and the rest is MISSING again. */
int gw__demand_place(struct gw__demand *d, uint32_t block, uint64_t first, uint64_t n, const uint8_t *bytes, struct gw__error *error);
/* Any thread: whole pages are zero from now on. Waits for pages that are being placed; their memory is released by the caller, afterwards. */
void gw__demand_discard(struct gw__demand *d, const struct gw__guest_block *block, uint64_t off, uint64_t bytes);

/* Any thread: pages that are neither there nor promised; and how often the thread was told of a fault. */
uint64_t gw__demand_missing(const struct gw__demand *d);
uint64_t gw__demand_requests(const struct gw__demand *d);

#endif
