/* SPDX-License-Identifier: MIT */
/*
 * The pages that a guest of this process wrote in one epoch, copied while it runs: what is left to be copied when it stands still is what it wrote since the
 * last look (docs/ARCHITECTURE.md, "Protect"). What is written again is copied again. The copies have the places that the pages have in their blocks, in
 * memory that is touched only where there is one. One thread, the call's.
 */
#ifndef GW_ENGINE_GUEST_EPOCH_COPY_H
#define GW_ENGINE_GUEST_EPOCH_COPY_H

#include "engine/guest/dirty_pages.h"

struct gw__epoch_copy;

/* Borrows all. 0 or -ENOMEM. */
int gw__epoch_copy_new(struct gw__guest *guest, const struct gw__blocks *blocks, struct gw__dirty_pages *dirty, struct gw__epoch_copy **e,
	struct gw__error *error);
void gw__epoch_copy_free(struct gw__epoch_copy *e); /* NULL is fine */

/* What was written since the last time is copied. *fresh: pages that were copied now. */
int gw__epoch_copy_look(struct gw__epoch_copy *e, uint64_t *fresh, struct gw__error *error);
uint64_t gw__epoch_copy_pages(const struct gw__epoch_copy *e); /* of the epoch so far */
/* The epoch's pages, to be taken once. */
struct gw__dirty_pages *gw__epoch_copy_taken(struct gw__epoch_copy *e);
/* They were taken; a new epoch begins. Memory for more than `keep_pages` of them is given back. */
void gw__epoch_copy_begin(struct gw__epoch_copy *e, uint64_t keep_pages);

#endif
