/* SPDX-License-Identifier: MIT */
/*
 * The workers that receive a multifd migration: one thread per channel, each with its own way into the sink
 * (docs/spec/multifd.md 3-6).
 *
 * The conductor starts it, tells it the block list, meets it at every sync and stops it. Workers stop reading at a SYNC until
 * the conductor reached the mark on the main channel and every other worker its own SYNC; only then may a newer version of
 * a page come. The first failure, here or there, breaks all channels, so that nobody waits for ever.
 */
#ifndef GW_ENGINE_GANG_H
#define GW_ENGINE_GANG_H

#include "engine/gather.h"
#include "engine/sink.h"

struct gw__gang;

/* Borrows the channels of `in`. The sink must offer lanes. */
int gw__gang_start(struct gw__run *run, struct gw__incoming *in, struct gw__sink *sink, struct gw__gang **gang);
/* The block list came: packets may be judged from now on. `blocks` stays valid while the gang lives. */
int gw__gang_open(struct gw__gang *g, const struct gw__blocks *blocks, uint64_t page_bytes);
/* Conductor at a mark: returns when everything sent before it is in the sink. */
int gw__gang_sync(struct gw__gang *g);
/*
 * Conductor, before it tells the sink that RAM is complete: workers take no page from here on. Everything that came must be
 * before a SYNC, and each SYNC must have had its mark.
 */
int gw__gang_end_pages(struct gw__gang *g);
/* Did a worker fail? Its sentence, as run->why. */
int gw__gang_failure(struct gw__gang *g);

struct gw__gang_tally {
	uint64_t bytes, payload_bytes, pages, zero_pages, packets;
	uint32_t channels, syncs;
	uint32_t method; /* of compression; 0 none */
};
/* All went well, or a worker failed. Returns what they did. */
int gw__gang_settle(struct gw__gang *g, struct gw__gang_tally *tally);
/* Ends all workers and frees the gang; NULL is fine. */
void gw__gang_stop(struct gw__gang *g);

#endif
