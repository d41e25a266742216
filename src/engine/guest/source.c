/* SPDX-License-Identifier: MIT */
/* Rounds, stop, hand-over of a live guest; see source.h. What is written, and how, is stream_out.c's. */
#include "engine/guest/source.h"

#include <errno.h>

#include "engine/guest/stream_out.h"
#include "engine/outgoing/await_shut.h"

enum { PING_LOADED = 0x676f6477 }; /* before the end mark: is everything loaded? */

struct source {
	struct gw__run *run;
	struct gw__guest *guest;
	struct gw__outgoing *out;
	const struct gw__guest_source_opts *o;
	struct gw__guest_source_result *result;
	struct gw__stream_out *stream;
	bool stood_still; /* before it was asked to stop */
	uint64_t stopped_ns;
	uint64_t round, round_ns, sent_bytes; /* the last two: when this round began, and what was sent until then */
	uint64_t dirty_pages, fewest;         /* after the last round; of all rounds */
	uint32_t without_progress;
};

static uint64_t now(const struct source *s) { return gw__clock_now_ns(&s->run->clock); }

static void tell(const struct source *s, const struct gw__guest_event *event)
{
	if (s->o->on_event)
		s->o->on_event(s->o->ctx, event);
}

static int hook_failed(struct source *s, int r, const char *what)
{
	s->result->hook = true;
	return gw__error_set(&s->run->error, r, "%s", what);
}

/* --- stop, and run on --- */

static int stop(struct source *s)
{
	s->stopped_ns = now(s);
	int r = s->guest->ops.pause(s->guest->ctx);
	if (r < 0)
		return hook_failed(s, r, "the hook that stops the guest failed");
	s->stood_still = r == 1;
	s->result->stopped = true;
	gw__run_phase(s->run, GW__PHASE_DEVICES);
	tell(s, &(struct gw__guest_event){.kind = GW__GUEST_EVENT_STOPPED});
	return 0;
}

/* It did not leave. */
static int run_on(struct source *s, int r)
{
	if (!s->result->stopped)
		return r;
	int resumed = s->stood_still ? 0 : s->guest->ops.resume(s->guest->ctx, false);
	s->result->downtime_ns = now(s) - s->stopped_ns;
	if (resumed) {
		s->result->stays_stopped = true;
		s->result->hook = true;
		gw__error_where(&s->run->error, "the hook that lets the guest run again failed with %d after", resumed);
	} else if (!s->stood_still) {
		tell(s, &(struct gw__guest_event){.kind = GW__GUEST_EVENT_RUNS, .downtime_ns = s->result->downtime_ns});
	}
	return r;
}

/* --- rounds --- */

/* What was written while the round was sent; and how fast both are. */
static int end_round(struct source *s)
{
	uint64_t sent = gw__stream_out_bytes(s->stream), ended = now(s), ns = ended - s->round_ns;
	int r = gw__dirty_pages_harvest(gw__stream_out_dirty(s->stream), &s->dirty_pages, &s->run->error);
	if (r) {
		s->result->hook = true;
		return r;
	}
	ns = ns ? ns : 1;
	s->result->bandwidth = (uint64_t)((double)(sent - s->sent_bytes) * 1e9 / (double)ns);
	s->result->dirty_rate = (uint64_t)((double)(s->dirty_pages * s->guest->page_bytes) * 1e9 / (double)ns);
	tell(s, &(struct gw__guest_event){.kind = GW__GUEST_EVENT_ROUND,
			.round = s->round,
			.dirty_pages = s->dirty_pages,
			.sent_bytes = sent,
			.bandwidth = s->result->bandwidth});
	s->sent_bytes = sent;
	s->round_ns = ended;
	s->round++;
	atomic_fetch_add_explicit(&s->run->counters.rounds, 1, memory_order_relaxed);
	return 0;
}

static bool fits(const struct source *s)
{
	double bytes = (double)(s->dirty_pages * s->guest->page_bytes);
	uint32_t limit_ms = atomic_load_explicit(s->o->limit_ms, memory_order_relaxed);
	return bytes * 1e3 <= (double)limit_ms * (double)s->result->bandwidth;
}

/* 1: what is left is sent while it stands still; 0: another round; -ETIME. */
static int decide(struct source *s)
{
	if (atomic_load(s->o->finish) || !s->dirty_pages || fits(s))
		return 1;
	bool progress = s->round == 1 || s->dirty_pages < s->fewest - s->fewest / 10;
	s->fewest = progress ? s->dirty_pages : s->fewest;
	s->without_progress = progress ? 0 : s->without_progress + 1;
	if (s->without_progress < s->o->patience)
		return 0;
	if (!s->o->give_up)
		return 1;
	return gw__error_set(&s->run->error, -ETIME,
		"the guest writes %llu bytes/s and the link takes %llu: it does not get there within %u ms of downtime; raise downtime_ms or the bandwidth",
		(unsigned long long)s->result->dirty_rate, (unsigned long long)s->result->bandwidth, atomic_load(s->o->limit_ms));
}

static int put_rounds(struct source *s)
{
	int r = gw__dirty_pages_start(gw__stream_out_dirty(s->stream), &s->run->error);
	if (r)
		return hook_failed(s, r, "the guest's tracker could not be started");
	r = gw__stream_out_begin(s->stream);
	gw__run_phase(s->run, GW__PHASE_RAM);
	s->round_ns = now(s);
	s->sent_bytes = gw__stream_out_bytes(s->stream);
	if (!r) /* so that what was reported since is sent once */
		r = gw__dirty_pages_harvest(gw__stream_out_dirty(s->stream), &s->dirty_pages, &s->run->error);
	while (!r) {
		r = gw__stream_out_put_round(s->stream, false);
		if (!r)
			r = end_round(s);
		if (!r)
			r = decide(s);
	}
	return r < 0 ? r : 0;
}

/* --- the guest stands still --- */

static int put_last(struct source *s)
{
	int r = gw__dirty_pages_harvest(gw__stream_out_dirty(s->stream), &s->dirty_pages, &s->run->error);
	if (r)
		return hook_failed(s, r, "the guest's tracker failed");
	r = gw__stream_out_put_round(s->stream, true);
	return r ? r : gw__stream_out_put_devices(s->stream, &s->result->hook);
}

/* Up to here it may be taken back. When the destination answers, it has everything but the last bytes, without which it does not run. */
static int confirm(struct source *s)
{
	if (!s->o->confirm)
		return 0;
	int r = gw__stream_out_put_ping(s->stream, PING_LOADED);
	return r ? r : gw__await_pong(s->run, s->out->main, PING_LOADED, s->o->answer_ms, &s->run->error);
}

static int hand_over(struct source *s)
{
	gw__run_phase(s->run, GW__PHASE_SYNC);
	uint64_t before = s->out->main->out_bytes;
	int r = gw__stream_out_put_end(s->stream);
	s->result->handed_over = s->out->main->out_bytes > before; /* a QEMU runs it without the description too (docs/spec/stream.md 9) */
	if (r)
		return r;
	s->out->main->cancel_fd = -1; /* it is too late for that */
	r = gw__await_shut(s->run, s->out->main, s->o->answer_ms, &s->run->error);
	s->result->refused = r == -EREMOTEIO;
	return r;
}

static int go(struct source *s)
{
	int r = put_rounds(s);
	if (!r)
		r = stop(s);
	if (!r)
		r = put_last(s);
	if (!r)
		r = confirm(s);
	return r ? r : hand_over(s);
}

int gw__guest_source_run(struct gw__run *run, struct gw__guest *guest, struct gw__outgoing *out, const struct gw__guest_source_opts *o,
	struct gw__guest_source_result *result)
{
	struct source s = {.run = run, .guest = guest, .out = out, .o = o, .result = result};
	struct gw__stream_out_opts so = {.method = o->method, .level = o->level, .copies = o->tls};
	*result = (struct gw__guest_source_result){0};
	int r = gw__stream_out_new(run, guest, out, &so, &s.stream);
	if (!r)
		r = go(&s);
	gw__stream_out_free(s.stream);
	if (r && (!result->handed_over || result->refused))
		return run_on(&s, r);
	if (result->stopped)
		result->downtime_ns = now(&s) - s.stopped_ns;
	gw__run_phase(run, GW__PHASE_DONE);
	return r;
}
