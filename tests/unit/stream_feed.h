/* SPDX-License-Identifier: MIT */
/*
 * Plays the caller of the stream decoder over bytes in memory: shows them in pieces, takes page payload as a
 * reader would, follows seeks, and writes every event as a line of text, so that two readings can be compared
 * as strings. What the decoder promises whatever the input is (offsets, lent views, used bytes) is checked
 * here; a broken promise aborts.
 */
#ifndef GW_TESTS_STREAM_FEED_H
#define GW_TESTS_STREAM_FEED_H

#include "wire/stream.h"

struct feed {
	const uint8_t *bytes; /* lent; bytes[0] stands at opts.base_off */
	size_t n;
	struct gw__stream_opts opts;
	int (*init)(struct gw__stream *s, const struct gw__stream_opts *o, const struct gw__stream_guest *g); /* NULL: a main channel */
	const struct gw__stream_guest *guest;

	/* How many further bytes to show when the decoder asks; 0 counts as 1. NULL: all there are. */
	size_t (*piece)(void *ctx);
	bool guard;    /* show each window in memory of its own, so that ASan sees a read behind it */
	bool open_end; /* never say that the bytes shown are the last */
	bool quiet;    /* write no log: looking at all payload takes time */

	/* May be NULL. `page` is the payload behind EVENT_PAGE, else NULL. Views are valid during the call.
	 */
	void (*on_event)(void *ctx, const struct gw__stream *s, const struct gw__event *ev, const uint8_t *page);
	void *ctx;
};

struct feed_end {
	int code; /* 0: END came; GW__SHORT: open_end and it did not; else the errno of `why` */
	struct gw__error error;
	size_t trailing; /* bytes behind END */
	unsigned count[GW__EVENT_END + 1];
	char *log; /* a line per event */
	size_t log_n, log_room;
	/* Of the decoder at its end. */
	struct gw__stream stream;
};

void feed_run(const struct feed *f, struct feed_end *end);
void feed_end_fini(struct feed_end *end);

#endif
