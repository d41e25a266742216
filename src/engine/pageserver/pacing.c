/* SPDX-License-Identifier: MIT */
/*
 * When the page server writes and when it listens: never a page of the background while a request lies there, never so many
 * that the next request would have to wait for room. See serve.h.
 *
 * A request waits from the moment its bytes can be read. That moment is not known, so what is counted is the longest it can be:
 * since the last look that found nothing; a sleeper is woken by it.
 */
#include <errno.h>

#include "base/math.h"
#include "engine/pageserver/pageserver_private.h"

enum {
	NS_PER_MS = 1000000,
	NS_PER_S = 1000000000,
	SAVED_UP_NS = NS_PER_S / 20,
	RECORD_NS = NS_PER_S / 10,
	TOGETHER_NS = NS_PER_S / 20,
	QUIET_NS = NS_PER_S / 20,
};

/* What was sent takes its time, whoever asked for it; only the push waits for that. A pause is not followed by a burst. */
static bool is_paid_for(struct gw__pageserver *s, uint64_t now)
{
	uint64_t bytes = gw__page_out_bytes(s) - s->paid_bytes;
	if (!s->o->max_bandwidth)
		return true;
	if (s->rate_free_at_ns + SAVED_UP_NS < now)
		s->rate_free_at_ns = now - SAVED_UP_NS;
	s->paid_bytes += bytes;
	s->rate_free_at_ns += (uint64_t)((double)bytes * NS_PER_S / (double)s->o->max_bandwidth);
	return s->rate_free_at_ns <= now;
}

/* A peer that lets us wait for ever is given up, as it would be in the middle of a write. */
static int check_stuck(struct gw__pageserver *s, bool is_stuck, uint64_t now)
{
	const struct gw__chan *c = s->main.chan;
	if (!is_stuck)
		s->stuck_since_ns = 0;
	else if (!s->stuck_since_ns)
		s->stuck_since_ns = now;
	else if (c->idle_ms >= 0 && now - s->stuck_since_ns > (uint64_t)c->idle_ms * NS_PER_MS)
		return gw__error_set(&s->run->error, -ETIMEDOUT, "%s: the peer took nothing for %d ms; is it alive and the network up?",
			c->name, c->idle_ms);
	return 0;
}

/* What was asked for is written down soon, for we may be killed; returns how long it may wait. */
static uint64_t keep_record(struct gw__pageserver *s, uint64_t now)
{
	if (!s->unwritten_since_ns)
		return UINT64_MAX;
	uint64_t waited = now - s->unwritten_since_ns;
	if (waited < RECORD_NS)
		return RECORD_NS - waited;
	gw__working_set_flush(s->o->working_set);
	s->unwritten_since_ns = 0;
	return UINT64_MAX;
}

/* 1: it has not ended within the time in which both would. What is said on it meanwhile is kept. */
static int main_goes_on(struct gw__pageserver *s)
{
	uint64_t now = gw__clock_now_ns(&s->run->clock), until_ns = now + TOGETHER_NS;
	for (; now < until_ns; now = gw__clock_now_ns(&s->run->clock)) {
		int r = gw__chan_wait_either(s->main.chan, false, until_ns - now, &s->run->error);
		if (r > 0)
			r = gw__stream_buf_fill(&s->rp_buf, &s->run->error);
		if (r < 0 || s->rp_buf.ended)
			return r < 0 ? r : 0;
	}
	return 1;
}

/*
 * A second connection that was lost on the way, in a tunnel perhaps, before the destination had it: that one has read RESUME and waits
 * for it, for ever, and most do not survive its coming after the first one is over. The destination says nothing on it, so what can
 * be read is its end; had it been accepted, its end would soon be that of the first one too.
 */
int gw__pageserver_reconnect_preempt(struct gw__pageserver *s)
{
	struct gw__chan *lost = s->preempt.chan;
	if (s->preempt_reconnected || !lost || !s->resumed || !s->unsent_pages || lost->out_bytes)
		return 0;
	int r = gw__chan_wait_readable(lost, 0, &s->run->error);
	if (r <= 0)
		return r;
	r = main_goes_on(s);
	if (r <= 0)
		return r;
	s->preempt_reconnected = true;
	gw__chan_close(&s->preempt.chan, NULL);
	return s->o->open_preempt(s->o->ctx, &s->preempt.chan);
}

/*
 * With little under way, which a requested page has to stand behind, both ends wake each other up all the time, and a QEMU takes
 * half as long again to get all of its pages. Where a rate is kept it does not matter, nor where requests have their own connection.
 */
static void choose_depth(struct gw__pageserver *s, uint64_t now)
{
	bool quiet = !s->asked_ns || s->preempt.chan || now - s->asked_ns > QUIET_NS;
	if (quiet == s->bulk_mode || s->o->max_bandwidth)
		return;
	s->bulk_mode = quiet;
	gw__chan_set_deep_buffer(s->main.chan, quiet);
}

void gw__pageserver_leave_bulk_mode(struct gw__pageserver *s)
{
	s->asked_ns = gw__clock_now_ns(&s->run->clock);
	choose_depth(s, s->asked_ns);
}

int gw__pageserver_wait(struct gw__pageserver *s, uint64_t ns, bool *may_push)
{
	uint64_t now = gw__clock_now_ns(&s->run->clock);
	ns = gw__min(ns, keep_record(s, now));
	bool paid = may_push && is_paid_for(s, now);
	choose_depth(s, now);
	if (may_push && !paid)
		ns = gw__min(ns, s->rate_free_at_ns - now);
	int r = gw__chan_wait_either(s->main.chan, paid, 0, &s->run->error);
	s->oldest_unread_ns = s->last_poll_ns;
	s->last_poll_ns = now;
	if (!r && ns) {
		r = gw__chan_wait_either(s->main.chan, paid, ns, &s->run->error);
		s->oldest_unread_ns = s->last_poll_ns = gw__clock_now_ns(&s->run->clock);
	}
	if (may_push)
		*may_push = r == GW__CHAN_ROOM;
	if (r < 0 || r == GW__CHAN_INPUT)
		return r < 0 ? r : 1;
	if (!r)
		r = gw__pageserver_reconnect_preempt(s);
	if (r < 0)
		return r;
	return check_stuck(s, paid && !r, s->last_poll_ns);
}

void gw__pageserver_note_answered(struct gw__pageserver *s, uint32_t block, uint64_t first, uint64_t n)
{
	uint64_t now = gw__clock_now_ns(&s->run->clock);
	gw__histogram_add(&s->stats->latency, now - s->oldest_unread_ns);
	if (!s->o->working_set)
		return;
	gw__working_set_add(s->o->working_set, block, first, n);
	if (!s->unwritten_since_ns)
		s->unwritten_since_ns = now;
}
