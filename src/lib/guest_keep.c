/* SPDX-License-Identifier: MIT */
/* gw_guest_save, gw_guest_restore: a guest of this process and an image. */
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/files/stored_guest.h"
#include "engine/guest/lazy_restore.h"
#include "engine/guest/ram_sink.h"
#include "engine/guest/save.h"
#include "engine/sink/image_sink.h"
#include "lib/combine.h"
#include "lib/guest_call.h"
#include "lib/outcome.h"
#include "lib/receive.h"

/* --- save --- */

static int take_save_opts(gw_job *job, const struct gw_guest_save_opts *o, struct gw_guest_save_opts *ours)
{
	*ours = (struct gw_guest_save_opts){.size = sizeof *ours};
	int r = GW__CHECK(o, &job->run.error);
	if (!r && o)
		gw__struct_out(ours, sizeof *ours, o, gw__min(o->size, sizeof *ours));
	return r ? r : gw__guest_check_limits(job, ours->limits);
}

static int open_image(gw_job *job, const char *path, const struct gw_guest_save_opts *o, struct gw__sink **sink)
{
	struct gw__image_writer *writer = NULL;
	struct gw__image_writer_opts wo = {.base_off = o->image_offset, .direct = o->direct_io};
	int r = gw__receive_check_free(job, path);
	if (!r)
		r = gw__image_create(path, &wo, &writer, &job->run.error);
	if (!r)
		r = gw__sink_image_new(&writer, sink, &job->run.error);
	gw__image_writer_close(writer);
	return r;
}

static void note_save(struct gw__location *at, const struct gw_guest_save_opts *o, const struct gw__guest_save_result *result)
{
	gw__location_note(at, GW__LOCATION_EV_COMMITTED);
	gw__location_note(at, o->stop               ? GW__LOCATION_EV_SAVED_STOPPED
			      : result->stood_still ? GW__LOCATION_EV_SAVED_STANDS
						    : GW__LOCATION_EV_SAVED_RUNS);
}

/* A guest that was to be in the image alone, and runs on here: the image must not be run as well. */
static void note_failed_save(struct gw__location *at, const struct gw_guest_save_opts *o, const struct gw__guest_save_result *result,
	bool committed)
{
	gw__location_note(at, result->stays_stopped ? GW__LOCATION_EV_BROKEN_AT_END : GW__LOCATION_EV_BROKEN);
	if (committed && o->stop)
		gw__location_note(at, GW__LOCATION_EV_ALSO_KEPT);
}

static int save_into(gw_job *job, gw_guest *guest, struct gw__sink *sink, const struct gw_guest_save_opts *o, struct gw__location *at,
	struct gw_guest_result *ours)
{
	const struct gw__guest_save_opts so = {.stop = o->stop,
		.limit_ms = &job->guest.downtime_ms,
		.finish = &job->guest.finish,
		.on_event = gw__guest_report,
		.ctx = job};
	struct gw__guest_save_result result;
	gw__guest_set_location(guest, GW__SIDE_SOURCE, *at, GW__MOTION_MOVES);
	gw__guest_set_limits(job, o->limits);
	gw__guest_call_takes(job, GW__ORDER_FINISHABLE);
	int r = gw__guest_save_run(&job->run, guest->guest, sink, &so, &result);
	ours->moved_bytes = atomic_load(&job->run.counters.moved_bytes);
	ours->downtime_ns = result.downtime_ns;
	ours->hook_failed = result.hook;
	ours->outcome.committed = gw__sink_is_committed(sink);
	if (r)
		note_failed_save(at, o, &result, ours->outcome.committed);
	else
		note_save(at, o, &result);
	gw__guest_set_location(guest, GW__SIDE_SOURCE, *at, GW__MOTION_NONE);
	gw__guest_call_takes(job, GW__ORDER_NO_CALL);
	return r;
}

static int save_guest(gw_job *job, void *args)
{
	const struct gw__guest_args *a = args;
	struct gw_guest_result ours = {0};
	struct gw_guest_save_opts o;
	struct gw__location at = gw__location_at(GW__PLACE_SOURCE_RUNS);
	struct gw__sink *sink = NULL;
	uint64_t began_ns = gw__clock_now_ns(&job->run.clock);
	int r = gw__job_begin(job, GW__OPT((const struct gw_guest_save_opts *)a->o, memory_limit));
	int bad = take_save_opts(job, a->o, &o);
	r = r ? r : bad;
	if (!r)
		r = gw__guest_call_begin(job, a, GW__GUEST_SEND);
	bool claimed = !r;
	if (!r)
		r = open_image(job, a->where, &o, &sink);
	if (r)
		gw__location_note(&at, gw__location_event_before(r));
	else
		r = save_into(job, a->guest, sink, &o, &at, &ours);
	gw__sink_free(&sink);
	gw__guest_call_end(job, a, claimed, at, began_ns, &ours);
	return r;
}

int gw_guest_save(gw_job *job, gw_guest *guest, const char *path, const struct gw_guest_save_opts *o, struct gw_guest_result *result)
{
	const struct gw__guest_args a = {guest, path, "path", o, result};
	return gw__call(job, save_guest, &a, sizeof a);
}

/* --- restore --- */

struct arrival {
	gw_job *job;
	gw_guest *guest;
	struct gw__location *at;
};

/* It is ours, with all of its pages or without. */
static void on_arrived(void *ctx)
{
	struct arrival *x = ctx;
	gw__location_note(x->at, x->guest->lazy ? GW__LOCATION_EV_GIVEN : GW__LOCATION_EV_ARRIVED);
	gw__guest_set_location(x->guest, GW__SIDE_DESTINATION, *x->at, GW__MOTION_MOVES);
}

static void on_runs(void *ctx)
{
	const struct arrival *x = ctx;
	gw__guest_report(x->job, &(struct gw__guest_event){.kind = GW__GUEST_EVENT_RUNS});
}

static int take_restore_opts(gw_job *job, const struct gw_guest_restore_opts *o, struct gw_guest_restore_opts *ours)
{
	*ours = (struct gw_guest_restore_opts){.size = sizeof *ours};
	int r = GW__CHECK(o, &job->run.error);
	if (!r && o)
		gw__struct_out(ours, sizeof *ours, o, gw__min(o->size, sizeof *ours));
	return r ? r : gw__guest_check_arrival(job, ours->stay_paused, ours->lazy, ours->resume);
}

static int prepare_lazy(gw_job *job, gw_guest *guest, const struct gw__stored_guest *stored, const struct gw_guest_restore_opts *o)
{
	if (!stored->image)
		return gw__error_set(&job->run.error, -EOPNOTSUPP,
			"%s is a stream, whose pages come in its own order, expected a mapped-ram image; restore it without `lazy`",
			stored->name);
	return gw__lazy_new(&job->run, guest->guest, o->uffd ? *o->uffd : -1, o->user_mode, &guest->lazy);
}

/* The guest runs, and waits for what it touches. */
static int bring_rest(gw_job *job, gw_guest *guest, const char *name, struct gw__location *at, struct gw_guest_result *ours)
{
	int r = gw__lazy_fill(&job->run, guest->lazy);
	ours->requests = gw__lazy_requests(guest->lazy);
	ours->missing_pages = gw__lazy_missing(guest->lazy);
	gw__location_note(at, r ? GW__LOCATION_EV_BROKEN : GW__LOCATION_EV_ARRIVED);
	if (r)
		return gw__error_where(&job->run.error, "%s: %llu pages of the guest are still missing", name,
			(unsigned long long)ours->missing_pages);
	gw__lazy_free(&guest->lazy);
	return 0;
}

static int run_restored(gw_job *job, gw_guest *guest, const char *name, const struct gw__ram_sink_result *result, struct gw__location *at,
	struct gw_guest_result *ours)
{
	int r = 0;
	if (guest->lazy)
		r = bring_rest(job, guest, name, at, ours);
	if (!r && result->resume_failed)
		r = gw__error_set(&job->run.error, result->resume_failed, "the guest is here, but the hook that lets it run failed");
	return r;
}

static int restore_from(gw_job *job, gw_guest *guest, struct gw__stored_guest *stored, const struct gw_guest_restore_opts *o,
	struct gw__location *at, struct gw_guest_result *ours)
{
	struct arrival x = {job, guest, at};
	struct gw__ram_sink_opts so = {.stay_paused = o->stay_paused, .on_arrived = on_arrived, .on_runs = on_runs, .ctx = &x};
	struct gw__ram_sink_result result = {0};
	struct gw__sink *sink = NULL;
	gw__guest_set_location(guest, GW__SIDE_DESTINATION, *at, GW__MOTION_MOVES);
	int r = o->lazy ? prepare_lazy(job, guest, stored, o) : 0;
	so.lazy = guest->lazy;
	if (!r)
		r = gw__ram_sink_new(&job->run, guest->guest, &so, &result, &sink);
	if (!r)
		r = gw__stored_guest_run(&job->run, stored, sink, NULL);
	gw__sink_free(&sink);
	ours->moved_bytes = atomic_load(&job->run.counters.moved_bytes);
	ours->hook_failed = result.hook;
	if (result.arrived)
		return run_restored(job, guest, stored->name, &result, at, ours);
	gw__lazy_free(&guest->lazy);
	gw__location_note(at, GW__LOCATION_EV_BROKEN);
	return r;
}

static int resume_from(gw_job *job, gw_guest *guest, const struct gw__stored_guest *stored, struct gw__location *at,
	struct gw_guest_result *ours)
{
	int r = 0;
	if (!guest->lazy)
		return gw__error_set(&job->run.error, -EINVAL,
			"the pages that the guest lacks are at its source, and not in an image: call gw_guest_receive with `resume`");
	if (!stored->image)
		r = gw__error_set(&job->run.error, -EINVAL, "%s is a stream, and not the image that the guest came from", stored->name);
	if (!r)
		r = gw__lazy_begin_again(&job->run, guest->lazy, stored->image);
	if (!r)
		return bring_rest(job, guest, stored->name, at, ours);
	ours->missing_pages = gw__lazy_missing(guest->lazy);
	gw__location_note(at, GW__LOCATION_EV_BROKEN);
	return r;
}

static int restore_opened(gw_job *job, gw_guest *guest, struct gw__stored_guest *stored, const struct gw_guest_restore_opts *o,
	struct gw__location *at, struct gw_guest_result *ours)
{
	gw__guest_call_takes(job, GW__ORDER_NONE_TO_GIVE);
	int r = o->resume ? resume_from(job, guest, stored, at, ours) : restore_from(job, guest, stored, o, at, ours);
	gw__guest_set_location(guest, GW__SIDE_DESTINATION, *at, GW__MOTION_NONE);
	gw__guest_call_takes(job, GW__ORDER_NO_CALL);
	return r;
}

static int restore_guest(gw_job *job, void *args)
{
	const struct gw__guest_args *a = args;
	struct gw_guest_restore_opts o;
	struct gw_guest_result ours = {0};
	struct gw__location at = gw__location_at(GW__PLACE_KEPT_WHOLE);
	struct gw__stored_guest stored = {0};
	uint64_t began_ns = gw__clock_now_ns(&job->run.clock);
	int r = gw__job_begin(job, GW__OPT((const struct gw_guest_restore_opts *)a->o, memory_limit));
	int bad = take_restore_opts(job, a->o, &o);
	r = r ? r : bad;
	if (!r)
		r = gw__guest_call_begin(job, a, o.resume ? GW__GUEST_RESUME : GW__GUEST_RECEIVE);
	bool claimed = !r;
	if (claimed && o.resume)
		at = a->guest->location;
	if (!r)
		r = gw__stored_guest_open(&job->run, a->where, o.image_offset, &stored);
	if (r)
		gw__location_note(&at, gw__location_event_before(r));
	else
		r = restore_opened(job, a->guest, &stored, &o, &at, &ours);
	gw__stored_guest_close(&stored);
	gw__guest_call_end(job, a, claimed, at, began_ns, &ours);
	return r;
}

int gw_guest_restore(gw_job *job, gw_guest *guest, const char *path, const struct gw_guest_restore_opts *o, struct gw_guest_result *result)
{
	const struct gw__guest_args a = {guest, path, "path", o, result};
	return gw__call(job, restore_guest, &a, sizeof a);
}
