/* SPDX-License-Identifier: MIT */
/*
 * A lane: one worker's way into an image that many fill at once. It lends page-aligned buffers, so that a payload is
 * read from the socket right where it is written from, and puts their pages at their places.
 *
 * A lane belongs to one thread; different lanes of a writer run at the same time. Between two flushes no page may be in two
 * lanes (the engine's barriers see to that). With direct I/O a buffer is written by io_uring while the worker reads the next
 * one, past the page cache; where io_uring is forbidden, and without direct I/O, by plain pwritev.
 */
#ifndef GW_IMAGE_LANE_H
#define GW_IMAGE_LANE_H

#include "image/writer.h"

struct gw__lane;

enum { GW__LANE_BUFFER_BYTES = 512 << 10 };

/* The writer's `direct` option decides how. 0, -ENOMEM, ... */
int gw__lane_new(struct gw__image_writer *w, struct gw__lane **lane, struct gw__why *why);
void gw__lane_free(struct gw__lane *lane); /* waits for what is under way; NULL is fine */

/*
 * A buffer of GW__LANE_BUFFER_BYTES, aligned for direct I/O; waits until one is free. The lane owns it; the worker fills it
 * and gives it back with the next gw__lane_put (or takes again without putting, which gives the same one).
 */
int gw__lane_take(struct gw__lane *lane, void **buffer, struct gw__why *why);
/*
 * `n` pages that stand one after the other in the buffer taken last; page i goes to off[i] of the block. Pages of zeros are
 * left out as by gw__image_put_pages. The offsets were checked; the array is not kept. An error may be that of an earlier put.
 */
int gw__lane_put(struct gw__lane *lane, uint32_t block, const uint64_t *off, uint32_t n, struct gw__why *why);
/* Everything put is in the file (not necessarily on the disk): what a barrier between rounds needs. */
int gw__lane_flush(struct gw__lane *lane, struct gw__why *why);

#endif
