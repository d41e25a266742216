/* SPDX-License-Identifier: MIT */
/*
 * Which pages the destination lacks, and which of them go next: what is requested, the working set and what is near it, then everything else in
 * order. Each page is sent once. What the push will need is read ahead. The main thread's.
 */
#ifndef GW_ENGINE_PAGESERVER_PAGE_SCHEDULER_H
#define GW_ENGINE_PAGESERVER_PAGE_SCHEDULER_H

#include "engine/pageserver/page_out.h"
#include "engine/pageserver/pageserver.h"

struct gw__page_scheduler;

/* Borrows all of it; counts what it sends in `stats`. 0 or a negative errno with run->error. */
int gw__page_scheduler_new(struct gw__run *run, const struct gw__page_source *source, const struct gw__pageserver_opts *o,
	struct gw__page_out *out, struct gw__pageserver_stats *stats, struct gw__page_scheduler **s);
void gw__page_scheduler_free(struct gw__page_scheduler *s); /* NULL is fine */

uint64_t gw__page_scheduler_unsent_pages(const struct gw__page_scheduler *s);
uint64_t gw__page_scheduler_page_summary(const struct gw__page_scheduler *s); /* of POSTCOPY_ADVISE: all page sizes, or-ed */
/* By block: the destination's pages where they are larger than the target page, else 0. */
const uint64_t *gw__page_scheduler_host_page_bytes(const struct gw__page_scheduler *s);
/* The next range of unsent pages of a block from *at on, which moves after it; false: there is none. */
bool gw__page_scheduler_next_unsent(const struct gw__page_scheduler *s, uint32_t block, uint64_t *at, struct gw__page_run *run);

/*
 * The destination says which pages of a block it has: bits into the bitmap this lends, then take. -EPROTO where they split one of its pages.
 * When the last block was taken, what is unsent is known.
 */
struct gw__bitmap *gw__page_scheduler_bitmap(struct gw__page_scheduler *s, uint32_t block);
int gw__page_scheduler_take_bitmap(struct gw__page_scheduler *s, uint32_t block);

/* A request, which was judged: the pages of it that are still unsent, immediately. */
int gw__page_scheduler_request(struct gw__page_scheduler *s, uint32_t block, uint64_t start_off, uint64_t bytes);
/* Before the guest runs: the beginning of the working set, as much as takes no time; at least one page stays unsent. */
int gw__page_scheduler_send_first(struct gw__page_scheduler *s);
/* The next piece of the background push. GW__WOULD_BLOCK: it is not in memory, and the disk is given a moment. */
int gw__page_scheduler_push(struct gw__page_scheduler *s);

#endif
