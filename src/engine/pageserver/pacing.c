/* SPDX-License-Identifier: MIT */
/*
 * When the page server writes and when it listens; see pacing.h.
 *
 * A request waits from the moment its bytes can be read. That moment is not known, so what is counted is the longest it can be:
 * since the last poll that found nothing; a sleeper is woken by it.
 */
#include "engine/pageserver/pacing.h"

#include <errno.h>
#include <stdlib.h>

#include "base/math.h"

enum {
	NS_PER_MS = 1000000,
	NS_PER_S = 1000000000,
	SAVED_UP_NS = NS_PER_S / 20,
	RECORD_NS = NS_PER_S / 10,
	QUIET_NS = NS_PER_S / 20,
	QUEUE_BYTES = 256 << 10, /* what the kernel may hold in front of a request's page */
};

struct gw__pacing {
	struct gw__run *run;
	struct gw__page_out *out;
	uint64_t max_bandwidth;
	struct gw__working_set *ws;
	struct gw__histogram *latency;
	uint64_t last_poll_ns;                /* before this moment nothing had come that is not taken */
	uint64_t oldest_unread_ns;            /* since then what is being taken may have been there */
	uint64_t rate_free_at_ns, paid_bytes; /* what was sent is paid for then, at the given rate */
	uint64_t stuck_since_ns;              /* the peer takes nothing; 0: it does */
	uint64_t unwritten_since_ns;          /* of the working set; 0: all is written */
	uint64_t asked_ns;                    /* the last request; 0: there was none */
	bool bulk_mode;
};

struct gw__pacing *gw__pacing_new(struct gw__run *run, struct gw__page_out *out, uint64_t max_bandwidth, struct gw__working_set *ws,
	struct gw__histogram *latency)
{
	struct gw__pacing *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	*p = (struct gw__pacing){.run = run, .out = out, .max_bandwidth = max_bandwidth, .ws = ws, .latency = latency};
	p->last_poll_ns = p->oldest_unread_ns = gw__clock_now_ns(&run->clock);
	gw__chan_set_unsent_low_watermark(gw__page_out_main(out), QUEUE_BYTES);
	return p;
}

void gw__pacing_free(struct gw__pacing *p) { free(p); }

void gw__pacing_begin_push(struct gw__pacing *p) { p->paid_bytes = gw__page_out_bytes(p->out); }

bool gw__pacing_bulk_mode(const struct gw__pacing *p) { return p->bulk_mode; }

/* What was sent takes its time, whoever asked for it; only the push waits for that. A pause is not followed by a burst. */
static bool is_paid_for(struct gw__pacing *p, uint64_t now)
{
	uint64_t bytes = gw__page_out_bytes(p->out) - p->paid_bytes;
	if (!p->max_bandwidth)
		return true;
	if (p->rate_free_at_ns + SAVED_UP_NS < now)
		p->rate_free_at_ns = now - SAVED_UP_NS;
	p->paid_bytes += bytes;
	p->rate_free_at_ns += (uint64_t)((double)bytes * NS_PER_S / (double)p->max_bandwidth);
	return p->rate_free_at_ns <= now;
}

/* A peer that lets us wait for ever is given up, as it would be in the middle of a write. */
static int check_stuck(struct gw__pacing *p, bool is_stuck, uint64_t now)
{
	const struct gw__chan *c = gw__page_out_main(p->out);
	if (!is_stuck)
		p->stuck_since_ns = 0;
	else if (!p->stuck_since_ns)
		p->stuck_since_ns = now;
	else if (c->idle_ms >= 0 && now - p->stuck_since_ns > (uint64_t)c->idle_ms * NS_PER_MS)
		return gw__chan_say_stuck(c, &p->run->error);
	return 0;
}

/* What was asked for is written down soon, for we may be killed; returns how long it may wait. */
static uint64_t keep_record(struct gw__pacing *p, uint64_t now)
{
	if (!p->unwritten_since_ns)
		return UINT64_MAX;
	uint64_t waited = now - p->unwritten_since_ns;
	if (waited < RECORD_NS)
		return RECORD_NS - waited;
	gw__working_set_flush(p->ws);
	p->unwritten_since_ns = 0;
	return UINT64_MAX;
}

/*
 * With little on its way, which a requested page has to wait for, both ends wake each other up all the time, and a QEMU takes
 * half as long again to get all of its pages. Where a rate is kept it does not matter, nor where requests have their own connection.
 */
static void choose_depth(struct gw__pacing *p, uint64_t now)
{
	bool quiet = !p->asked_ns || gw__page_out_preempt(p->out) || now - p->asked_ns > QUIET_NS;
	if (quiet == p->bulk_mode || p->max_bandwidth)
		return;
	p->bulk_mode = quiet;
	gw__chan_set_deep_buffer(gw__page_out_main(p->out), quiet);
}

void gw__pacing_note_request(struct gw__pacing *p)
{
	p->asked_ns = gw__clock_now_ns(&p->run->clock);
	choose_depth(p, p->asked_ns);
}

int gw__pacing_wait(struct gw__pacing *p, uint64_t ns, bool *may_push)
{
	struct gw__chan *chan = gw__page_out_main(p->out);
	uint64_t now = gw__clock_now_ns(&p->run->clock);
	ns = gw__min(ns, keep_record(p, now));
	bool paid = may_push && is_paid_for(p, now);
	choose_depth(p, now);
	if (may_push && !paid)
		ns = gw__min(ns, p->rate_free_at_ns - now);
	int r = gw__chan_wait_either(chan, paid, 0, &p->run->error);
	p->oldest_unread_ns = p->last_poll_ns;
	p->last_poll_ns = now;
	if (!r && ns) {
		r = gw__chan_wait_either(chan, paid, ns, &p->run->error);
		p->oldest_unread_ns = p->last_poll_ns = gw__clock_now_ns(&p->run->clock);
	}
	if (may_push)
		*may_push = r == GW__CHAN_ROOM;
	if (r < 0 || r == GW__CHAN_INPUT)
		return r < 0 ? r : 1;
	return check_stuck(p, paid && !r, p->last_poll_ns);
}

void gw__pacing_note_answered(struct gw__pacing *p, uint32_t block, uint64_t first, uint64_t n)
{
	uint64_t now = gw__clock_now_ns(&p->run->clock);
	gw__histogram_add(p->latency, now - p->oldest_unread_ns);
	if (!p->ws)
		return;
	gw__working_set_add(p->ws, block, first, n);
	if (!p->unwritten_since_ns)
		p->unwritten_since_ns = now;
}
