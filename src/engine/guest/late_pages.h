/* SPDX-License-Identifier: MIT */
/*
 * Pages of a guest of this process that runs before they are here, because its source switched to post-copy: which came, which are awaited by a
 * thread that touched them, and which are to be requested. Where they come from is the stream's to know.
 *
 * One thread, that of the stream, which may be another one after each break; a fault thread of its own (guest/demand.h) tells of pages that were touched.
 * Outlives the call in which a link broke: the guest waits at the first page that it lacks.
 */
#ifndef GW_ENGINE_GUEST_LATE_PAGES_H
#define GW_ENGINE_GUEST_LATE_PAGES_H

#include <sys/uio.h>

#include "base/bitmap.h"
#include "engine/core/run.h"
#include "guest/guest.h"

struct gw__late_pages;

/* As of gw__demand_new. Nothing has changed when it fails. */
int gw__late_pages_new(struct gw__run *run, struct gw__guest *guest, int uffd, bool user_mode, struct gw__late_pages **late);
/* What did not come reads as zeros: only of a guest that has all of it, or will not run again. NULL is fine; nulls the giver's pointer. */
void gw__late_pages_free(struct gw__late_pages **late);

/* Once, in the order of the stream. -EOPNOTSUPP: their memory cannot be had lazily. */
int gw__late_pages_add_blocks(struct gw__late_pages *l, struct gw__guest_block *const *blocks, uint32_t n, struct gw__error *error);
/* Before it is watched: these came, with content or as zeros; and what came of these is void. */
void gw__late_pages_came(struct gw__late_pages *l, uint32_t block, uint64_t first, uint64_t n);
void gw__late_pages_discard(struct gw__late_pages *l, uint32_t block, uint64_t first, uint64_t n);
/* Who touches a page that did not come waits from now on. The memory of all of these is emptied. */
int gw__late_pages_watch(struct gw__late_pages *l, struct gw__error *error);
bool gw__late_pages_is_watched(const struct gw__late_pages *l);
/* Afterwards: they come, and wake who waits for them. One each, none that came. */
int gw__late_pages_put(struct gw__late_pages *l, uint32_t block, uint64_t first, const struct iovec *pages, int n, struct gw__error *error);
int gw__late_pages_put_zeros(struct gw__late_pages *l, uint32_t block, uint64_t first, uint64_t n, struct gw__error *error);

/* Readable when there may be a request. The next one, of a page that is still missing; false: there is none now. */
int gw__late_pages_request_fd(const struct gw__late_pages *l);
bool gw__late_pages_next_request(struct gw__late_pages *l, uint32_t *block, uint64_t *page);
/* To a new connection: nothing counts as requested. */
void gw__late_pages_request_again(struct gw__late_pages *l);

/* It will never run: what is missing is zeros, and who waits goes on. Any thread. */
void gw__late_pages_give_up(struct gw__late_pages *l);
/* Nothing is missing: it is not watched any more. */
void gw__late_pages_end(struct gw__late_pages *l);

const struct gw__bitmap *gw__late_pages_received(const struct gw__late_pages *l, uint32_t block);
uint64_t gw__late_pages_faults(const struct gw__late_pages *l);

#endif
