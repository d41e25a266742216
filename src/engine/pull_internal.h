/* SPDX-License-Identifier: MIT */
/* What pull_stream.c and pull_events.c share: one stream on its way into a sink. Nobody else includes it. */
#ifndef GW_ENGINE_PULL_INTERNAL_H
#define GW_ENGINE_PULL_INTERNAL_H

#include "engine/feed.h"
#include "engine/source.h"
#include "wire/retpath.h"

enum { GW__BATCH_PAGES = 256 };

/* The conductor's. A batch of consecutive pages points into the feed's buffer and is given away before that moves. */
struct gw__pull {
	struct gw__run *run;
	struct gw__feed feed;
	struct gw__stream stream;
	struct gw__sink *sink;
	struct gw__stream_tally *tally;
	struct iovec batch[GW__BATCH_PAGES];
	int batch_n;
	uint32_t batch_block;
	uint64_t batch_off;
	struct gw__gang *gang; /* NULL without multifd */
	bool live;	       /* channels that came with this one would be here */
	bool sync_per_section; /* how the source marks syncs; known at the end of START */
	bool ram_ended;	       /* told to the sink */
	bool done;
	uint8_t *scratch; /* a page, for deltas */
};

/* More bytes into the feed; gives the batch away first. */
int gw__pull_fill(struct gw__pull *p);
/* One word to the source on the return path. */
int gw__pull_say(struct gw__pull *p, uint16_t type, uint32_t value, struct gw__why *why);
/* What an event means for the sink. */
int gw__pull_handle(struct gw__pull *p, const struct gw__event *ev);
int gw__pull_flush_batch(struct gw__pull *p);

#endif
