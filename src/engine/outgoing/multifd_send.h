/* SPDX-License-Identifier: MIT */
/*
 * The workers that send an image's pages over multifd channels (docs/spec/multifd.md): one thread per channel while RAM is
 * being sent, all taking ranges of pages from one cursor. Each page is sent once, so the order between channels is free.
 * The syncs are the main thread's.
 */
#ifndef GW_ENGINE_OUTGOING_MULTIFD_SEND_H
#define GW_ENGINE_OUTGOING_MULTIFD_SEND_H

#include "engine/outgoing/connect.h"
#include "image/read/image.h"

struct gw__multifd_send_opts {
	uint32_t method; /* 0, GW__MULTIFD_ZLIB, GW__MULTIFD_ZSTD */
	int level;       /* of compression; 0: default of the method */
	bool name_zeros; /* in the packets; false: somebody else tells of zero pages */
};

struct gw__multifd_send;
/* Borrows the channels of `out`. */
int gw__multifd_send_new(struct gw__run *run, struct gw__outgoing *out, const struct gw__multifd_send_opts *o, struct gw__multifd_send **g);
void gw__multifd_send_free(struct gw__multifd_send *g); /* NULL is fine */

/* A SYNC packet on every channel. Main thread only, while no worker runs. */
int gw__multifd_send_sync(struct gw__multifd_send *g, uint64_t page_bytes);
/*
 * Start sending every page of the image, or of each block those whose bit is set (`only`: one bitmap per block; NULL: all); the main thread may do
 * other things meanwhile. What is borrowed stays as it is until the join.
 */
int gw__multifd_send_start(struct gw__multifd_send *g, const struct gw__image *image, const struct gw__bitmap *only);
/* Wait until all is written. The first failure of any worker. */
int gw__multifd_send_join(struct gw__multifd_send *g);

#endif
