/* SPDX-License-Identifier: MIT */
/*
 * Bytes of a channel, kept contiguous for a decoder: a buffer that is filled from the channel and used up from its
 * front. It grows only while a decoder asks for more than fits, up to a limit. One thread.
 */
#ifndef GW_ENGINE_FEED_H
#define GW_ENGINE_FEED_H

#include "base/error.h"
#include "base/bytes.h"
#include "io/chan.h"

struct gw__feed {
	struct gw__chan *chan; /* borrowed */
	uint8_t *bytes;
	size_t room, at, end;
	size_t max_bytes;
	bool ended; /* the channel is at its end */
};

int gw__feed_init(struct gw__feed *f, struct gw__chan *chan, size_t max_bytes, struct gw__why *why);
void gw__feed_fini(struct gw__feed *f);

static inline const uint8_t *gw__feed_bytes(const struct gw__feed *f) { return f->bytes + f->at; }
static inline size_t gw__feed_left(const struct gw__feed *f) { return f->end - f->at; }
static inline void gw__feed_use(struct gw__feed *f, size_t n) { f->at += n; }

/*
 * Get more bytes behind those that are left (which may move): at least one, or sets `ended`. -E2BIG at the limit.
 * Blocks at most the channel's idle limit.
 */
int gw__feed_fill(struct gw__feed *f, struct gw__why *why);
/* Gives back what it had grown by, when little is left in it; what is left may move. */
void gw__feed_trim(struct gw__feed *f);
/* Put bytes in front that somebody read from the channel before; only while the feed is new. */
void gw__feed_prime(struct gw__feed *f, const void *bytes, size_t n);

#endif
