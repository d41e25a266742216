/* SPDX-License-Identifier: MIT */
/*
 * Which pages of a guest of this process are still to be sent: one bit each, ORed together from its tracker and from what it reports.
 *
 * The main thread harvests while no worker takes. Between two harvests any number of workers take pages: each takes words of the bitmap by an atomic
 * cursor, so that a page belongs to one worker, and nobody waits. A harvest re-arms before it returns, and pages are read after it.
 */
#ifndef GW_ENGINE_GUEST_DIRTY_PAGES_H
#define GW_ENGINE_GUEST_DIRTY_PAGES_H

#include "base/error.h"
#include "guest/guest.h"
#include "wire/ram.h"

enum { GW__DIRTY_TAKERS_MAX = 256 };

struct gw__dirty_pages;

/* Of the guest's blocks as they are now; `blocks` are the same in the stream. 0 or -ENOMEM. */
int gw__dirty_pages_new(struct gw__guest *guest, const struct gw__blocks *blocks, struct gw__dirty_pages **d, struct gw__error *error);
void gw__dirty_pages_free(struct gw__dirty_pages *d); /* NULL is fine; stops */

/* Writes are noticed from now on, and every page is to be sent. */
int gw__dirty_pages_start(struct gw__dirty_pages *d, struct gw__error *error);
/* All that was written since the last time, and re-armed, is to be sent too. *pages: how many are. */
int gw__dirty_pages_harvest(struct gw__dirty_pages *d, uint64_t *pages, struct gw__error *error);

/* All that was written until now is as if it had not been: nothing is to be sent. */
int gw__dirty_pages_forget(struct gw__dirty_pages *d, struct gw__error *error);

/*
 * Up to `most` pages of one block that nobody else has, in ascending order; 0: there are no more until the next harvest. `taker` is the number
 * of the worker.
 */
uint32_t gw__dirty_pages_take(struct gw__dirty_pages *d, uint32_t taker, uint32_t most, uint32_t *block, uint64_t *off);
const uint8_t *gw__dirty_pages_host(const struct gw__dirty_pages *d, uint32_t block);

/* --- of copies: nothing is harvested here, and pages are read from other memory than the guest's --- */

void gw__dirty_pages_set_host(struct gw__dirty_pages *d, uint32_t block, const uint8_t *host);
bool gw__dirty_pages_add(struct gw__dirty_pages *d, uint32_t block, uint64_t off); /* false: it was in the set already */
void gw__dirty_pages_rewind(struct gw__dirty_pages *d);                            /* between the last add and the first take */

#endif
