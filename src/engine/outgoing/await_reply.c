/* SPDX-License-Identifier: MIT */
/* The return path as a source hears it at the end of a pre-copy; see await_reply.h. */
#include "engine/outgoing/await_reply.h"

#include <errno.h>

#include "base/math.h"
#include "wire/return_path.h"

/* One message of the return path. 0, or a sentence. */
static int read_message(struct gw__chan *chan, int ms, struct gw__rp_msg *m, struct gw__error *error)
{
	uint8_t bytes[GW__RP_MAX_BYTES];
	size_t n = 0;
	for (;;) {
		struct gw__rd c = gw__rd_over(bytes, n);
		int r = gw__rp_decode(&c, m, error);
		if (r != GW__SHORT)
			return r;
		r = gw__chan_wait_readable(chan, ms, error);
		if (r == 0)
			return gw__error_set(error, -ETIMEDOUT,
				"%s: the destination has everything, but did not say within %d s whether it could load it", chan->name,
				ms / 1000);
		/* Exactly one message: a header first, then what it announces. */
		size_t want = n < 4 ? 4 - n : 4 + gw__be_get(bytes + 2, 2) - n;
		ssize_t got = r < 0 ? r : gw__chan_read(chan, bytes + n, gw__min(want, sizeof bytes - n), error);
		if (got < 0)
			return (int)got;
		if (got == 0)
			return gw__error_set(error, -ECONNRESET,
				"%s: the destination closed the connection without saying that it has the guest; its log tells why",
				chan->name);
		n += (size_t)got;
	}
}

static int failed_there(const struct gw__chan *chan, uint32_t value, struct gw__error *error)
{
	return gw__error_set(error, -EREMOTEIO, "%s: the destination could not load the guest (it reports error %u); its log tells why",
		chan->name, value);
}

static int out_of_place(const struct gw__chan *chan, const struct gw__rp_msg *m, struct gw__error *error)
{
	return gw__error_set(error, -EPROTO, "%s: the destination sent %s, which has no place in a pre-copy", chan->name,
		gw__rp_name(m->type));
}

int gw__await_reply(struct gw__run *run, struct gw__chan *chan, uint16_t type, uint32_t value, int ms, struct gw__error *error)
{
	for (;;) {
		struct gw__rp_msg m;
		int r = read_message(chan, ms, &m, error);
		if (r)
			return r;
		GW__TRACE(&run->trace, return_path_receive, "%s %u", gw__rp_name(m.type), m.value);
		if (m.type == GW__RP_SHUT && m.value)
			return failed_there(chan, m.value, error);
		if (m.type == type && m.value == value)
			return 0;
		if (m.type != GW__RP_PONG && m.type != GW__RP_SWITCHOVER_ACK)
			return out_of_place(chan, &m, error);
	}
}
