/* SPDX-License-Identifier: MIT */
/* gw_guest_send: a guest of this process leaves. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine/guest/source.h"
#include "lib/combine.h"
#include "lib/guest_call.h"
#include "lib/guest_link.h"
#include "lib/outcome.h"
#include "wire/multifd.h"

enum { ANSWER_MS = 60000 };

#define SAME(ours, theirs) _Static_assert((int)GW__POSTCOPY_##ours == (int)GW_POSTCOPY_##theirs, #theirs)
SAME(NEVER, NEVER);
SAME(IF_NEEDED, IF_NEEDED);
SAME(AFTER_ROUND, AFTER_ROUND);
SAME(AT_ONCE, AT_ONCE);
SAME(ON_ORDER, ON_ORDER);

/* --- send --- */

static int take_send_opts(gw_job *job, const struct gw_guest_send_opts *o, struct gw_guest_send_opts *ours)
{
	*ours = (struct gw_guest_send_opts){.size = sizeof *ours};
	int r = GW__CHECK(o, &job->run.error);
	if (!r && o)
		gw__struct_out(ours, sizeof *ours, o, gw__min(o->size, sizeof *ours));
	if (!r)
		r = gw__guest_check_limits(job, ours->limits);
	return r;
}

/* What cannot be asked for together. */
static int check_together(gw_job *job, const struct gw_guest_send_opts *o, const struct gw__uri *uri)
{
	if (o->preempt && !o->postcopy && !o->resume)
		return gw__error_set(&job->run.error, -EINVAL, "gw_guest_send_opts.preempt is for post-copy: set `postcopy` or `resume`");
	if (o->preempt && !gw__uri_listens(uri))
		return gw__error_set(&job->run.error, -EINVAL,
			"%s: a preempt channel needs an address to connect to a second time: tcp, unix or vsock", uri->text);
	if (o->channels && o->xbzrle_cache)
		return gw__error_set(&job->run.error, -EINVAL,
			"gw_guest_send_opts.channels is %u, expected 0: with xbzrle_cache all pages go over the main channel", o->channels);
	if (o->channels && (o->postcopy || o->resume))
		return gw__error_set(&job->run.error, -EINVAL,
			"gw_guest_send_opts.channels is %u, expected 0: with post-copy all pages go over the main channel", o->channels);
	return 0;
}

/* One call. */
struct sending {
	gw_job *job;
	gw_guest *guest;
	const struct gw_guest_send_opts *o;
	struct gw__location at;
	const struct gw__guest_link *link; /* once it is open */
};

static void on_source_event(void *ctx, const struct gw__guest_event *event)
{
	const struct sending *s = ctx;
	gw__guest_report(s->job, event);
}

/* It is the destination's, which needs pages from here: nobody has to wait for the call to end to know that. */
static void on_held(void *ctx, const struct gw__location *location)
{
	const struct sending *s = ctx;
	gw__guest_set_location(s->guest, GW__SIDE_SOURCE, *location, GW__MOTION_MOVES);
}

static int open_preempt(void *ctx, struct gw__chan **chan)
{
	const struct sending *s = ctx;
	return gw__guest_link_preempt(s->job, s->link, chan);
}

static uint64_t to_us(uint64_t ns) { return ns / 1000 + (ns % 1000 != 0); }

static void take_result(struct gw_guest_result *ours, const struct gw__guest_source_result *r)
{
	ours->downtime_ns = r->downtime_ns;
	ours->bandwidth = r->bandwidth;
	ours->dirty_rate = r->dirty_rate;
	ours->hook_failed = r->hook;
	ours->postcopy = r->postcopy;
	ours->requests = r->pages.requests;
	ours->requested_pages = r->pages.requested_pages;
	ours->pushed_pages = r->pages.pushed_pages;
	ours->already_there = r->pages.already_there;
	ours->latency_p50_us = to_us(gw__histogram_quantile(&r->pages.latency, 500));
	ours->latency_p99_us = to_us(gw__histogram_quantile(&r->pages.latency, 990));
	ours->latency_max_us = to_us(r->pages.latency.max);
	ours->xbzrle_pages = r->delta_pages;
	ours->xbzrle_bytes = r->delta_bytes;
}

static int source_run(struct sending *s, struct gw__guest_link *l, struct gw__guest_source_result *result)
{
	gw_job *job = s->job;
	const struct gw_guest_send_opts *o = s->o;
	const struct gw__guest_source_opts so = {.method = gw__guest_link_method(o->compression),
		.level = o->level ? o->level : 1,
		.delta_bytes = o->xbzrle_cache,
		.tls = l->tls,
		.confirm = !o->no_confirm,
		.answer_ms = o->answer_timeout_ms ? o->answer_timeout_ms : ANSWER_MS,
		.policy = o->converge == GW_CONVERGE_GIVE_UP ? GW__CONVERGE_GIVE_UP : GW__CONVERGE_STOP,
		.patience = o->patience,
		.give_up_ns = (uint64_t)o->give_up_ms * 1000000,
		.limit_ms = &job->guest.downtime_ms,
		.finish = &job->guest.finish,
		.postcopy = (enum gw__guest_postcopy_when)o->postcopy,
		.switch_now = &job->guest.switch_now,
		.max_bandwidth = GW__OPT(o->link, max_bandwidth),
		.open_preempt = o->preempt ? open_preempt : NULL,
		.on_held = on_held,
		.on_event = on_source_event,
		.ctx = s};
	s->link = l;
	if (o->resume)
		return gw__guest_source_resume(&job->run, s->guest->guest, &l->out, &so, s->at, result);
	gw__chan_set_deep_buffer(l->out.main, true);
	for (uint32_t i = 0; i < l->out.multifd_n; i++)
		gw__chan_set_deep_buffer(l->out.multifd[i], true);
	int r = gw__guest_source_run(&job->run, s->guest->guest, &l->out, &so, result);
	if (r && result->location.place != GW__PLACE_BOTH_POSSIBLE && !result->postcopy && !result->hook)
		gw__outgoing_hint_settings(&job->run.error, l->out.multifd_n);
	for (uint32_t i = 0; !r && i < l->out.multifd_n; i++)
		gw__chan_end_writes(l->out.multifd[i], NULL); /* with TLS a goodbye; the guest has arrived anyway */
	return r;
}

/* Nobody was there: for a guest that is held that is one more break. */
static void note_unconnected(struct sending *s, int r)
{
	if (!s->o->resume)
		gw__location_note(&s->at, gw__location_event_before(r));
	else if (s->at.place == GW__PLACE_SPLIT)
		gw__location_note(&s->at, GW__LOCATION_EV_SPLIT);
}

static int send_connected(struct sending *s, const struct gw__uri *uri, struct gw_guest_result *ours)
{
	struct gw__guest_source_result result = {.location = s->at, .postcopy = s->o->resume}; /* also if nobody is there */
	struct gw__guest_link l = {0};
	gw__guest_set_location(s->guest, GW__SIDE_SOURCE, s->at, GW__MOTION_MOVES);
	gw__guest_set_limits(s->job, s->o->limits);
	atomic_store(&s->job->guest.can_switch, s->o->postcopy != GW_POSTCOPY_NEVER);
	gw__guest_call_takes(s->job, s->o->resume ? GW__ORDER_NONE_TO_GIVE : GW__ORDER_FINISHABLE);
	int r = gw__guest_link_open(s->job, uri, s->guest, s->o->link, s->o->channels, &l);
	bool connected = !r;
	if (!r)
		r = source_run(s, &l, &result);
	take_result(ours, &result);
	s->at = result.location;
	if (connected)
		s->guest->postcopy = result.postcopy;
	else
		note_unconnected(s, r);
	gw__guest_set_location(s->guest, GW__SIDE_SOURCE, s->at, GW__MOTION_NONE);
	gw__guest_link_close(&l, ours);
	gw__guest_call_takes(s->job, GW__ORDER_NO_CALL);
	return r;
}

/* Where it is, for a call that does nothing. */
static struct gw__location location_before(const gw_guest *guest)
{
	enum gw_where where = gw_guest_where(guest);
	return gw__location_at(where == GW_HELD ? GW__PLACE_SPLIT : where == GW_IN_DOUBT ? GW__PLACE_BOTH_POSSIBLE : GW__PLACE_SOURCE_RUNS);
}

/* The guest is this call's when 0 is returned. */
static int begin_send(struct sending *s, const struct gw__guest_args *a)
{
	int r = gw__guest_call_begin(s->job, a, s->o->resume ? GW__GUEST_SEND_RESUME : GW__GUEST_SEND);
	if (r || !s->o->resume)
		return r;
	if (!s->guest->postcopy) {
		r = gw__error_set(&s->job->run.error, -EINPROGRESS,
			"who has the guest is in doubt, and not by a post-copy, which could be resumed: call gw_guest_decide first");
		gw__guest_release(s->guest);
	} else {
		s->at = s->guest->location;
	}
	return r;
}

static int send_guest(gw_job *job, void *args)
{
	const struct gw__guest_args *a = args;
	struct gw_guest_result ours = {0};
	struct gw_guest_send_opts o;
	struct sending s = {job, a->guest, &o, location_before(a->guest), NULL};
	struct gw__uri *uri = NULL;
	uint64_t began_ns = gw__clock_now_ns(&job->run.clock);
	int r = gw__job_begin(job, GW__OPT((const struct gw_guest_send_opts *)a->o, memory_limit));
	int bad = take_send_opts(job, a->o, &o);
	r = r ? r : bad;
	if (!r)
		r = begin_send(&s, a);
	bool claimed = !r;
	if (!r)
		r = gw__guest_link_uri(job, a->where, &uri);
	if (!r)
		r = check_together(job, &o, uri);
	if (!r)
		r = gw__guest_link_check(job, uri, o.link, o.channels, o.compression);
	if (r)
		gw__location_note(&s.at, gw__location_event_before(r));
	else
		r = send_connected(&s, uri, &ours);
	gw__guest_call_end(job, a, claimed, s.at, began_ns, &ours);
	free(uri);
	return r;
}

int gw_guest_send(gw_job *job, gw_guest *guest, const char *uri, const struct gw_guest_send_opts *o, struct gw_guest_result *result)
{
	const struct gw__guest_args a = {guest, uri, "uri", o, result};
	return gw__call(job, send_guest, &a, sizeof a);
}
