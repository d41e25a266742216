/* SPDX-License-Identifier: MIT */
/* The words of a COLO primary; see primary_talk.h. */
#include "engine/colo/primary_talk.h"

#include <errno.h>

#include "io/chan.h"
#include "wire/colo.h"

int gw__primary_talk_step(struct gw__primary_talk *t, enum gw__colo_primary_event event)
{
	int r = gw__colo_primary_step(t->state, event, &t->state, &t->run->error);
	if (!r)
		GW__TRACE(&t->run->trace, colo_state, "%s", gw__colo_primary_state_name(t->state));
	return r;
}

int gw__primary_talk_lost(struct gw__primary_talk *t, int r)
{
	struct gw__error ignored = {0};
	if (r)
		gw__colo_primary_step(t->state, GW__COLO_PRIMARY_EV_BROKEN, &t->state, &ignored);
	return r;
}

int gw__primary_talk_send(struct gw__primary_talk *t, unsigned message, uint64_t bytes)
{
	uint8_t room[GW__COLO_MESSAGE_MAX_BYTES];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	gw__colo_encode(&c, &(struct gw__colo_msg){.type = (enum gw__colo_message)message, .bytes = bytes});
	GW__TRACE(&t->run->trace, colo_send, "%s", gw__colo_message_name(message));
	return gw__chan_write_all(t->chan, room, gw__wr_used(&c), &t->run->error);
}

/* A number that announces a value is none that a secondary sends. */
int gw__primary_talk_await(struct gw__primary_talk *t)
{
	uint8_t bytes[4];
	struct gw__colo_msg m;
	struct gw__error *error = &t->run->error;
	unsigned due = (unsigned)gw__colo_primary_expects(t->state);
	size_t got;
	int r = gw__chan_wait_readable(t->chan, t->answer_ms, error);
	if (r == 0)
		return gw__error_set(error, -ETIMEDOUT, "%s: the secondary did not send %s within %d ms", t->chan->name,
			gw__colo_message_name(due), t->answer_ms);
	r = r < 0 ? r : gw__chan_read_full(t->chan, bytes, sizeof bytes, &got, error);
	if (!r && got < sizeof bytes)
		return gw__error_set(error, -ECONNRESET, "%s: the secondary closed the connection instead of sending %s", t->chan->name,
			gw__colo_message_name(due));
	struct gw__rd c = gw__rd_over(bytes, sizeof bytes);
	r = r ? r : gw__colo_decode(&c, &m, error);
	if (r < 0)
		return r;
	GW__TRACE(&t->run->trace, colo_receive, "%s", gw__colo_message_name(m.type));
	if (m.type != due)
		return gw__error_set(error, -EPROTO, "unexpected COLO message %s in state \"%s\", expected %s",
			gw__colo_message_name(m.type), gw__colo_primary_state_name(t->state), gw__colo_message_name(due));
	return gw__primary_talk_step(t, (enum gw__colo_primary_event)gw__colo_primary_event_of(m.type));
}
