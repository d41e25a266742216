/* SPDX-License-Identifier: MIT */
/*
 * The workers that send pages over multifd channels (docs/spec/multifd.md): one thread per channel while RAM is being sent, all taking
 * pages from one source, an image or what else there is. Between two syncs each page is sent once, so the order between channels is free.
 * The syncs are the main thread's.
 */
#ifndef GW_ENGINE_OUTGOING_MULTIFD_SEND_H
#define GW_ENGINE_OUTGOING_MULTIFD_SEND_H

#include "engine/outgoing/connect.h"
#include "wire/ram.h"

struct gw__multifd_send_opts {
	uint32_t method; /* 0, GW__MULTIFD_ZLIB, GW__MULTIFD_ZSTD */
	bool copies;     /* of a source that says so, without compression */
	int level;       /* of compression; 0: default of the method */
};

struct gw__multifd_send;
/* Borrows the channels of `out`. */
int gw__multifd_send_new(struct gw__run *run, struct gw__outgoing *out, const struct gw__multifd_send_opts *o, struct gw__multifd_send **g);
void gw__multifd_send_free(struct gw__multifd_send *g); /* NULL is fine */

/* A SYNC packet on every channel. Main thread only, while no worker runs. */
int gw__multifd_send_sync(struct gw__multifd_send *g, uint64_t page_bytes);
/* Where pages come from. All workers use it at the same time; it stays as it is meanwhile. */
struct gw__multifd_source {
	const struct gw__blocks *blocks;
	uint64_t page_bytes;
	bool copies; /* the pages change while they are sent: they are compressed and enciphered from a copy */
	/* Pages of one block that nobody else takes: `off`, `normal` and `zero` of the packet, at most pages_alloc. False: there are no more. */
	bool (*take)(void *ctx, uint32_t worker, struct gw__multifd_packet *packet, uint32_t *block);
	/* The packet's normal pages: to the channel after `head`, or to memory. */
	int (*send)(void *ctx, uint32_t block, const struct gw__multifd_packet *packet, struct gw__chan *chan, const struct iovec *head,
		struct gw__error *error);
	int (*read)(void *ctx, uint32_t block, const struct gw__multifd_packet *packet, uint8_t *to, struct gw__error *error);
	int (*look)(void *ctx); /* the main thread, now and then: a failure is the end. NULL: it has nothing else to do */
	void *ctx;
};
/* Sends all there is, until it is written. The first failure, of a worker or of `look`; the channels are of no more use then. */
int gw__multifd_send_run(struct gw__multifd_send *g, const struct gw__multifd_source *source);

#endif
