/* SPDX-License-Identifier: MIT */
/*
 * gw_guest_receive: a guest arrives in this process, whole or, with `lazy`, before its pages are here. Such a guest keeps its sink from one call to the
 * next, because a link that breaks leaves it GW_PARTIAL.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/guest/ram_sink.h"
#include "engine/incoming/stream.h"
#include "lib/combine.h"
#include "lib/guest_call.h"
#include "lib/guest_link.h"
#include "lib/outcome.h"
#include "lib/receive.h"

/* One call. */
struct receiving {
	gw_job *job;
	gw_guest *guest;
	const struct gw_guest_receive_opts *o;
	struct gw__location at;
	struct gw__ram_sink_result result;
	struct gw__receive_outcome out;
};

/* --- hooks of the sink --- */

static void set_place(struct receiving *r, enum gw__motion motion)
{
	gw__guest_set_location(r->guest, GW__SIDE_DESTINATION, r->at, motion);
}

/* It is ours, and needs pages of its source: the hook that lets it run may ask. */
static void on_given(void *ctx)
{
	struct receiving *r = ctx;
	gw__location_note(&r->at, GW__LOCATION_EV_SPLIT);
	set_place(r, GW__MOTION_MOVES);
}

/* It is ours: the same. */
static void on_arrived(void *ctx)
{
	struct receiving *r = ctx;
	gw__location_note(&r->at, GW__LOCATION_EV_ARRIVED);
	set_place(r, GW__MOTION_MOVES);
}

static void on_runs(void *ctx)
{
	const struct receiving *r = ctx;
	gw__guest_report(r->job, &(struct gw__guest_event){.kind = GW__GUEST_EVENT_RUNS});
}

static struct gw__ram_sink_opts sink_opts(struct receiving *r)
{
	return (struct gw__ram_sink_opts){.stay_paused = r->o->stay_paused,
		.late = r->guest->late,
		.on_given = on_given,
		.on_arrived = on_arrived,
		.on_runs = on_runs,
		.ctx = r};
}

/* The sink of this call, which the guest has from now on. Nothing has changed when it fails. */
static int open_sink(struct receiving *r)
{
	gw_guest *guest = r->guest;
	struct gw__run *run = &r->job->run;
	int e = 0;
	if (r->o->resume) {
		const struct gw__ram_sink_opts so = sink_opts(r);
		gw__ram_sink_go_on(guest->arriving, run, &so, &r->result);
		return 0;
	}
	if (r->o->lazy)
		e = gw__late_pages_new(run, guest->guest, r->o->uffd ? *r->o->uffd : -1, r->o->user_mode, &guest->late);
	const struct gw__ram_sink_opts so = sink_opts(r);
	return e ? e : gw__ram_sink_new(run, guest->guest, &so, &r->result, &guest->arriving);
}

/* --- from the source --- */

static int receive(struct receiving *r, struct gw__receive_link *l)
{
	gw_job *job = r->job;
	struct gw__receive_outcome *out = &r->out;
	struct gw__receive_again again = {.job = job,
		.listener = l->in.listener,
		.tls = l->tls,
		.link = r->o->link,
		.how = {.role = GW__POSTCOPY_DST_RUN},
		.on_paused = r->o->on_paused,
		.ctx = r->o->ctx};
	int e = 0;
	if (r->o->resume) {
		out->result.state = GW__POSTCOPY_DST_PAUSED;
	} else {
		e = gw__receive_filter(job, &l->in, r->o->link);
		if (!e)
			e = gw__incoming_run(&job->run, &l->in, r->guest->arriving, &out->stats, &out->result);
	}
	gw__chan_close(&l->in.main, NULL);
	if (r->result.given && again.listener)
		e = gw__receive_again(&again, e, r->guest->arriving, out);
	return e;
}

static int receive_from(struct receiving *r, const struct gw__uri *uri)
{
	const struct gw_receive_opts ro = {.size = sizeof ro,
		.link = r->o->link,
		.channels = r->o->channels,
		.resume = r->o->resume,
		.on_listening = r->o->on_listening,
		.ctx = r->o->ctx};
	struct gw__receive_link l = {0};
	int e = gw__receive_open_source(r->job, uri, &ro, &l);
	if (!e)
		e = receive(r, &l);
	gw__receive_close_link(&l);
	return e;
}

/* --- how it ended --- */

static int end_arrived(struct receiving *r, int e)
{
	if (!r->result.resume_failed)
		return e;
	gw__error_clear(&r->job->run.error);
	return gw__error_set(&r->job->run.error, r->result.resume_failed,
		"the guest is here, but the hook that lets it run failed; its source does not run it any more");
}

/* It waits at the first page that it lacks, and keeps what it has. */
static int end_partial(struct receiving *r, int e, struct gw_guest_result *ours)
{
	ours->missing_pages = gw__sink_count_missing(r->guest->arriving);
	gw__location_note(&r->at, GW__LOCATION_EV_SPLIT);
	return gw__error_where(&r->job->run.error, "%llu pages of the guest are still at its source",
		(unsigned long long)ours->missing_pages);
}

static int end_nothing(struct receiving *r, int e)
{
	if (r->out.result.has_switched)
		gw__location_note(&r->at, GW__LOCATION_EV_SWITCH_BEGUN);
	gw__location_note(&r->at, GW__LOCATION_EV_BROKEN);
	return e;
}

static int receive_connected(struct receiving *r, const struct gw__uri *uri, struct gw_guest_result *ours)
{
	gw_guest *guest = r->guest;
	set_place(r, GW__MOTION_MOVES);
	gw__guest_call_takes(r->job, GW__ORDER_NONE_TO_GIVE);
	int e = open_sink(r);
	if (!e)
		e = receive_from(r, uri);
	ours->moved_bytes = r->out.stats.stream_bytes + r->out.stats.multifd.bytes;
	ours->channels = r->out.stats.multifd.channels;
	ours->postcopy = r->result.given;
	ours->requests = guest->late ? gw__late_pages_faults(guest->late) : 0;
	ours->hook_failed = r->result.hook;
	if (r->result.arrived)
		e = end_arrived(r, e);
	else
		e = r->result.given ? end_partial(r, e, ours) : end_nothing(r, e);
	gw__stream_stats_fini(&r->out.stats);
	if (!r->result.given || r->result.arrived)
		gw__guest_end_arrival(guest);
	set_place(r, GW__MOTION_NONE);
	gw__guest_call_takes(r->job, GW__ORDER_NO_CALL);
	return e;
}

/* --- the call --- */

static int take_opts(gw_job *job, const struct gw_guest_receive_opts *o, struct gw_guest_receive_opts *ours)
{
	*ours = (struct gw_guest_receive_opts){.size = sizeof *ours};
	int r = GW__CHECK(o, &job->run.error);
	if (!r && o)
		gw__struct_out(ours, sizeof *ours, o, gw__min(o->size, sizeof *ours));
	return r ? r : gw__guest_check_arrival(job, ours->stay_paused, ours->lazy, ours->resume);
}

/* The guest is this call's when 0 is returned. */
static int begin(struct receiving *r, const struct gw__guest_args *a)
{
	int e = gw__guest_call_begin(r->job, a, r->o->resume ? GW__GUEST_RESUME : GW__GUEST_RECEIVE);
	if (e || !r->o->resume)
		return e;
	r->at = r->guest->location;
	if (r->guest->arriving)
		return 0;
	gw__guest_release(r->guest);
	return gw__error_set(&r->job->run.error, -EINVAL,
		"the pages that the guest lacks are in an image, and not at a source: call gw_guest_restore with `resume`");
}

static int receive_guest(gw_job *job, void *args)
{
	const struct gw__guest_args *a = args;
	struct gw_guest_result ours = {0};
	struct gw_guest_receive_opts o;
	struct receiving r = {.job = job, .guest = a->guest, .o = &o, .at = gw__location_at(GW__PLACE_SOURCE_RUNS)};
	struct gw__uri *uri = NULL;
	uint64_t began_ns = gw__clock_now_ns(&job->run.clock);
	int e = gw__job_begin(job, GW__OPT((const struct gw_guest_receive_opts *)a->o, memory_limit));
	int bad = take_opts(job, a->o, &o);
	e = e ? e : bad;
	if (!e)
		e = begin(&r, a);
	bool claimed = !e;
	if (!e)
		e = gw__guest_link_uri(job, a->where, &uri);
	if (!e)
		e = gw__job_allow(job, GW__OPERATION_RECEIVE,
			gw__ability_of_uri(uri) | gw__ability_of_link(o.link) | (o.channels ? GW__ABILITY_BIT(GW__ABILITY_MULTIFD) : 0));
	if (e)
		gw__location_note(&r.at, gw__location_event_before(e));
	else
		e = receive_connected(&r, uri, &ours);
	gw__guest_call_end(job, a, claimed, r.at, began_ns, &ours);
	free(uri);
	return e;
}

int gw_guest_receive(gw_job *job, gw_guest *guest, const char *uri, const struct gw_guest_receive_opts *o, struct gw_guest_result *result)
{
	const struct gw__guest_args a = {guest, uri, "uri", o, result};
	return gw__call(job, receive_guest, &a, sizeof a);
}
