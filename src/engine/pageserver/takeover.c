/* SPDX-License-Identifier: MIT */
/*
 * A link of a dead predecessor, in the middle of its recovery: whatever the destination still says to him is heard out. A PING with
 * a number of its own marks where that ends, for the answers come in order. See serve.h.
 */
#include <errno.h>
#include <string.h>

#include "engine/pageserver/pageserver_private.h"
#include "wire/postcopy.h"
#include "wire/return_path.h"

enum { PONG_BYTES = 8 };

/* In what was said to him there are whole messages, parts of them and bitmaps; only this many bytes in a row are no accident. */
static bool find(struct gw__stream_buf *rp_buf, const uint8_t pong[PONG_BYTES])
{
	const uint8_t *at =
		gw__stream_buf_left(rp_buf) ? memmem(gw__stream_buf_bytes(rp_buf), gw__stream_buf_left(rp_buf), pong, PONG_BYTES) : NULL;
	size_t left = gw__stream_buf_left(rp_buf);
	gw__stream_buf_use(rp_buf, at                  ? (size_t)(at - gw__stream_buf_bytes(rp_buf)) + PONG_BYTES
				   : left < PONG_BYTES ? 0
						       : left - PONG_BYTES + 1);
	return at;
}

int gw__pageserver_takeover(struct gw__pageserver *s)
{
	uint8_t ping[16], pong[PONG_BYTES];
	uint32_t number = (uint32_t)gw__clock_now_ns(&s->run->clock) | 1u << 31; /* not one of a source */
	struct gw__wr c = gw__wr_over(ping, sizeof ping), p = gw__wr_over(pong, sizeof pong);
	gw__ping_encode(&c, number);
	gw__rp_encode(&p, &(struct gw__rp_msg){.type = GW__RP_PONG, .value = number});
	int r = gw__pageserver_write(s, ping, gw__wr_used(&c));
	gw__pageserver_expect_reply(s, "the answer to a PING");
	while (!r && !find(&s->rp_buf, pong))
		r = s->rp_buf.ended ? gw__error_set(&s->run->error, -ECONNRESET, "%s: the destination has closed the connection",
					      s->main.chan->name)
				    : gw__pageserver_fill(s);
	gw__pageserver_expect_reply(s, NULL);
	return r;
}
