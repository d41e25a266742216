/* SPDX-License-Identifier: MIT */
/*
 * A link of a dead predecessor, in the middle of its recovery: whatever the destination still says to him is heard out. A PING with
 * a number of its own marks where that ends, for the answers come in order. See serve.h.
 */
#include <errno.h>
#include <string.h>

#include "engine/serve_internal.h"
#include "wire/postcopy.h"
#include "wire/retpath.h"

enum { PONG_BYTES = 8 };

/* In what was said to him there are whole messages, parts of them and bitmaps; only this many bytes in a row are no accident. */
static bool find(struct gw__feed *ear, const uint8_t pong[PONG_BYTES])
{
	const uint8_t *at = gw__feed_left(ear) ? memmem(gw__feed_bytes(ear), gw__feed_left(ear), pong, PONG_BYTES) : NULL;
	size_t left = gw__feed_left(ear);
	gw__feed_use(ear, at ? (size_t)(at - gw__feed_bytes(ear)) + PONG_BYTES : left < PONG_BYTES ? 0 : left - PONG_BYTES + 1);
	return at;
}

int gw__serve_join(struct gw__serve *s)
{
	uint8_t ping[16], pong[PONG_BYTES];
	uint32_t number = (uint32_t)gw__clock_now_ns(&s->run->clock) | 1u << 31; /* not one of a source */
	struct gw__wr c = gw__wr_over(ping, sizeof ping), p = gw__wr_over(pong, sizeof pong);
	gw__ping_encode(&c, number);
	gw__rp_encode(&p, &(struct gw__rp_msg){.type = GW__RP_PONG, .value = number});
	int r = gw__serve_write(s, ping, gw__wr_used(&c));
	gw__serve_due(s, "the answer to a PING");
	while (!r && !find(&s->ear, pong))
		r = s->ear.ended
			    ? gw__why_set(&s->run->why, -ECONNRESET, "%s: the destination has closed the connection", s->main.chan->name)
			    : gw__serve_fill(s);
	gw__serve_due(s, NULL);
	return r;
}
