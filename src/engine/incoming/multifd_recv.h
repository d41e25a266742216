/* SPDX-License-Identifier: MIT */
/*
 * The workers that receive a multifd migration: one thread per channel, each with its own way into the sink
 * (docs/spec/multifd.md 3-6).
 *
 * The main thread starts it, tells it the block list, meets it at every sync and stops it. Workers stop reading at a SYNC until
 * the main thread reached the mark on the main channel and every other worker its own SYNC; only then may a newer version of
 * a page come. The first failure, here or there, breaks all channels, so that nobody waits for ever.
 */
#ifndef GW_ENGINE_INCOMING_MULTIFD_RECV_H
#define GW_ENGINE_INCOMING_MULTIFD_RECV_H

#include "engine/incoming/accept.h"
#include "engine/sink/sink.h"

struct gw__multifd_recv;

/* Borrows the channels of `in`. The sink must offer lanes. */
int gw__multifd_recv_start(struct gw__run *run, struct gw__incoming *in, struct gw__sink *sink, struct gw__multifd_recv **multifd_recv);
/* The block list came: packets may be judged from now on. `blocks` stays valid while the receiver lives. */
int gw__multifd_recv_set_block_list(struct gw__multifd_recv *g, const struct gw__blocks *blocks, uint64_t page_bytes);
/* Main thread at a mark: returns when everything sent before it is in the sink. */
int gw__multifd_recv_sync_main(struct gw__multifd_recv *g);
/*
 * Main thread, before it tells the sink that RAM is complete: workers take no page from here on. Everything that came must be
 * before a SYNC, and each SYNC must have had its mark.
 */
int gw__multifd_recv_finish(struct gw__multifd_recv *g);
/*
 * COLO, where RAM ends again and again: after `set_pauses`, workers wait at the end of RAM with what comes then, until the main thread lets
 * them go on.
 */
void gw__multifd_recv_set_pauses(struct gw__multifd_recv *g);
void gw__multifd_recv_go_on(struct gw__multifd_recv *g);

struct gw__multifd_recv_stats {
	uint64_t bytes, payload_bytes, pages, zero_pages, packets;
	uint32_t channels, syncs;
	uint32_t method; /* of compression; 0 none */
};
/* 0, or a worker failed: its sentence, as run->why. What they did is reported if it is asked for, which is when all has come. */
int gw__multifd_recv_check(struct gw__multifd_recv *g, struct gw__multifd_recv_stats *stats);
/* Ends all workers and frees the receiver; NULL is fine. */
void gw__multifd_recv_stop(struct gw__multifd_recv *g);

#endif
