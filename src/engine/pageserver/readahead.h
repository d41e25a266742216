/* SPDX-License-Identifier: MIT */
/*
 * Reads ahead of the push: the disk brings what will be needed next while the main thread sends what is there and answers requests. A thread of
 * its own, because advising the kernel waits too when the disk has enough to do. It reads nothing; it starts when there is a working set, or
 * when a page of the push was not in memory, so that an image which is costs nothing.
 *
 * All calls are the main thread's.
 */
#ifndef GW_ENGINE_PAGESERVER_READAHEAD_H
#define GW_ENGINE_PAGESERVER_READAHEAD_H

#include "image/read/image.h"
#include "image/read/working_set.h"

/*
 * The i-th run of what a guest will probably ask for: the working set as it was recorded, then all of it again with what lies
 * around, which the push may have brought in time when it was recorded. False behind the last.
 */
bool gw__prefetch_run(const struct gw__working_set *ws, const struct gw__image *image, uint32_t i, struct gw__ws_pages *run);

struct gw__readahead;
/* Borrows both; the working set may be NULL. NULL: no memory. */
struct gw__readahead *gw__readahead_new(const struct gw__image *image, const struct gw__working_set *ws);
void gw__readahead_free(struct gw__readahead *a); /* joins the thread; NULL is fine */

/* Where the push is. */
struct gw__push_position {
	uint32_t block;
	uint64_t page;
	uint32_t run;  /* of gw__prefetch_run */
	bool prefetch; /* it goes through these runs, and not through memory in order */
};
/* The push is at this page, which is in memory or is not. */
void gw__readahead_move(struct gw__readahead *a, const struct gw__push_position *p, bool not_in_page_cache);
/* May the push wait for the disk now? It has tried long enough, or nobody reads ahead. */
bool gw__readahead_may_wait(struct gw__readahead *a);
/* The last page of the push was not in memory. */
bool gw__readahead_missed(const struct gw__readahead *a);

#endif
