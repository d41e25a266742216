/* SPDX-License-Identifier: MIT */
/* The last word between a source and who takes its guest, and whether it was taken. See stream_private.h and docs/spec/postcopy.md 1.4. */
#include <assert.h>
#include <errno.h>

#include "engine/incoming/stream_private.h"

enum {
	LINGER_MS = 5000, /* after SHUT, for the source to close first */
	RESET_MS = 1000,  /* for a kernel far away to say that nobody is there */
};

/* Of an event that every state here has a row for. */
static void step_surely(struct gw__incoming_stream *p, enum gw__postcopy_dst_event event)
{
	struct gw__error error = {0};
	int r = gw__postcopy_dst_step(p->role, p->state, event, &p->state, &error);
	assert(!r);
	(void)r;
}

/*
 * A source that hears of an error has its guest back. It hears none where that would do harm: behind the package it waits instead, and a 7.2
 * that has heard of one then cannot even come back.
 */
static bool may_tell_failure(const struct gw__incoming_stream *p)
{
	if (p->role != GW__POSTCOPY_DST_KEEP || !p->stream.return_path || !p->buf.chan->two_way)
		return false;
	if (p->state == GW__POSTCOPY_DST_ENDING) /* it waits for a last word, and for nothing else */
		return true;
	return !p->package_came &&
	       (p->state == GW__POSTCOPY_DST_SETUP || p->state == GW__POSTCOPY_DST_ACTIVE || p->state == GW__POSTCOPY_DST_DISCARDING);
}

/*
 * Whatever is said, nothing that is held goes: that a word was written is not that the source heard it, and two files too many do no harm.
 */
static int tell_failure(struct gw__incoming_stream *p, int result)
{
	struct gw__error ignored = {0}; /* the first failure is what matters; the source notices a closed link as well */
	bool ended = p->state == GW__POSTCOPY_DST_ENDING;
	bool told = may_tell_failure(p) && gw__incoming_rp_send(p, GW__RP_SHUT, 1, &ignored) == 0;
	step_surely(p, GW__POSTCOPY_DST_EV_BROKEN);
	if (!ended)
		return result;
	p->stats->given_back = told;
	if (!p->handover_persisted)
		step_surely(p, GW__POSTCOPY_DST_EV_GIVE_BACK);
	if (p->buf.chan->two_way) /* a word that waits unread would be lost with a reset */
		gw__chan_wait_readable(p->buf.chan, LINGER_MS, &ignored);
	return result;
}

/* Nothing more can come. Whoever waits for our word does not end his side before; it may have been the link that ended it. */
static bool has_gone(struct gw__incoming_stream *p)
{
	struct gw__error ignored = {0};
	uint8_t byte;
	return p->buf.ended ||
	       (gw__chan_wait_readable(p->buf.chan, 0, &ignored) == 1 && gw__chan_peek(p->buf.chan, &byte, sizeof byte, &ignored) <= 0);
}

/* Until the source closes. Not 0: our last word was not taken, which the kernel may say only after it was written. */
static int linger(struct gw__incoming_stream *p, bool gone)
{
	struct gw__chan *chan = p->buf.chan;
	struct gw__error ignored = {0};
	uint8_t byte;
	int r = gw__chan_wait_readable(chan, LINGER_MS, &ignored);
	if (r == 1)
		r = (int)gw__chan_read(chan, &byte, sizeof byte, &ignored);
	if (p->early_shut || (r != -ECONNRESET && !(gone && gw__chan_is_reset(chan, RESET_MS))))
		return 0;
	return gw__error_set(&p->run->error, -ECONNRESET, "%s: the connection was closed without our last word being taken", chan->name);
}

int gw__incoming_finish_with_source(struct gw__incoming_stream *p, int result)
{
	if (result)
		return tell_failure(p, result);
	step_surely(p, GW__POSTCOPY_DST_EV_SAFE);
	if (!p->stream.return_path || !p->buf.chan->two_way)
		return 0;
	bool gone = !p->early_shut && has_gone(p);
	int r = p->early_shut ? 0 : gw__incoming_rp_send(p, GW__RP_SHUT, p->say_failed, &p->run->error);
	if (!r)
		r = linger(p, gone);
	if (!r)
		return 0;
	gw__error_where(&p->run->error, "the source could not be told that its guest is kept");
	return GW__SOURCE_NOT_NOTIFIED;
}
