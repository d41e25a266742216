/* SPDX-License-Identifier: MIT */
/*
 * Bytes of a channel, kept contiguous for a decoder: a buffer that is filled from the channel and used up from its
 * front. It grows only while a decoder asks for more than fits, up to a limit. One thread.
 */
#ifndef GW_ENGINE_CORE_STREAM_BUF_H
#define GW_ENGINE_CORE_STREAM_BUF_H

#include "base/error.h"
#include "base/bytes.h"
#include "io/chan.h"

struct gw__stream_buf {
	struct gw__chan *chan; /* borrowed */
	uint8_t *bytes;
	size_t room, at, end;
	size_t max_bytes;
	bool ended; /* the channel is at its end */
};

int gw__stream_buf_init(struct gw__stream_buf *f, struct gw__chan *chan, size_t max_bytes, struct gw__error *error);
void gw__stream_buf_fini(struct gw__stream_buf *f);

static inline const uint8_t *gw__stream_buf_bytes(const struct gw__stream_buf *f) { return f->bytes + f->at; }
static inline size_t gw__stream_buf_left(const struct gw__stream_buf *f) { return f->end - f->at; }
static inline void gw__stream_buf_use(struct gw__stream_buf *f, size_t n) { f->at += n; }

/*
 * Get more bytes after those that are left (which may move): at least one, or sets `ended`. -E2BIG at the limit.
 * Blocks at most the channel's idle limit.
 */
int gw__stream_buf_fill(struct gw__stream_buf *f, struct gw__error *error);
/* Gives back what it had grown by, when little is left in it; what is left may move. */
void gw__stream_buf_trim(struct gw__stream_buf *f);
/* Put bytes in front that somebody read from the channel before; only while the stream buffer is new. */
void gw__stream_buf_prime(struct gw__stream_buf *f, const void *bytes, size_t n);

#endif
