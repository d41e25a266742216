/* SPDX-License-Identifier: MIT */
/* gw_guest_protect, gw_guest_standby: a guest of this process and its last checkpoint. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/colo/primary_guest.h"
#include "engine/colo/secondary.h"
#include "engine/colo/standby_guest.h"
#include "lib/guest_call.h"
#include "lib/guest_link.h"
#include "lib/outcome.h"
#include "lib/receive.h"

enum {
	STANDBY_MS = 1000, /* for each word of a standby */
	ASK_AGAIN_MS = 100,
};
#define COPY_BYTES  (UINT64_C(64) << 20)
#define EPOCH_BYTES (UINT64_C(256) << 20)

/* --- protect --- */

struct protection {
	const struct gw_guest_protect_opts *o;
};

static void on_committed(void *ctx, const struct gw__primary_guest_epoch *e)
{
	const struct protection *p = ctx;
	const struct gw_guest_epoch epoch = {.size = sizeof epoch,
		.number = e->number,
		.pages = e->pages,
		.pause_us = e->pause_ns / 1000,
		.commit_us = e->commit_ns / 1000};
	if (p->o->on_committed)
		p->o->on_committed(p->o->ctx, &epoch);
}

static void give_pauses(const struct gw__histogram *pause, struct gw_guest_result *ours)
{
	ours->pause_p50_us = gw__histogram_quantile(pause, 500);
	ours->pause_p99_us = gw__histogram_quantile(pause, 990);
	ours->pause_max_us = pause->max;
}

static int primary_run(gw_job *job, gw_guest *guest, struct gw__guest_link *l, const struct gw_guest_protect_opts *o,
	struct gw__primary_guest_result *result)
{
	struct protection p = {o};
	const struct gw__primary_guest_opts po = {.old_dialect = o->old_dialect,
		.tls = l->tls,
		.method = gw__guest_link_method(o->compression),
		.level = o->level ? o->level : 1,
		.answer_ms = o->standby_timeout_ms ? o->standby_timeout_ms : STANDBY_MS,
		.copy_pages = (o->copy_limit ? o->copy_limit : COPY_BYTES) / guest->guest->page_bytes,
		.checkpoint_ms = &job->guest.checkpoint_ms,
		.order = &job->guest.protects,
		.on_committed = on_committed,
		.ctx = &p};
	return gw__primary_guest_run(&job->run, guest->guest, &l->out, &po, result);
}

static int protect_connected(gw_job *job, const struct gw__guest_args *a, const struct gw__uri *uri, const struct gw_guest_protect_opts *o,
	struct gw__location *at, struct gw_guest_result *ours)
{
	struct gw__primary_guest_result result = {0};
	struct gw__guest_link l = {0};
	gw__guest_set_location(a->guest, GW__SIDE_SOURCE, *at, GW__MOTION_PROTECTED);
	gw__guest_set_limits(job, o->limits);
	gw__guest_call_takes(job, GW__ORDER_PROTECTS);
	int r = gw__guest_link_open(job, uri, a->guest, o->link, o->channels, &l);
	if (!r)
		r = primary_run(job, a->guest, &l, o, &result);
	gw__guest_call_takes(job, GW__ORDER_NO_CALL);
	gw__guest_link_close(&l, ours);
	ours->epochs = result.epochs;
	ours->epoch_pages_max = result.pages_most;
	ours->downtime_ns = result.last.pause_ns;
	ours->hook_failed = result.hook;
	give_pauses(&result.pause, ours);
	gw__location_note(at, result.stays_stopped ? GW__LOCATION_EV_BROKEN_AT_END : r ? GW__LOCATION_EV_BROKEN : GW__LOCATION_EV_RELEASED);
	gw__guest_set_location(a->guest, GW__SIDE_SOURCE, *at, GW__MOTION_NONE);
	return r;
}

static int take_protect_opts(gw_job *job, const struct gw_guest_protect_opts *o, struct gw_guest_protect_opts *ours)
{
	*ours = (struct gw_guest_protect_opts){.size = sizeof *ours};
	int r = GW__CHECK(o, &job->run.error);
	if (!r && o)
		gw__struct_out(ours, sizeof *ours, o, gw__min(o->size, sizeof *ours));
	if (!r)
		r = gw__guest_check_limits(job, ours->limits);
	if (!r && ours->old_dialect && ours->channels)
		r = gw__error_set(&job->run.error, -EINVAL, "the old dialect of COLO (QEMU 10.0) goes over one channel");
	return r;
}

static int protect_guest(gw_job *job, void *args)
{
	const struct gw__guest_args *a = args;
	struct gw_guest_result ours = {0};
	struct gw_guest_protect_opts o;
	struct gw__location at = gw__location_at(GW__PLACE_SOURCE_RUNS);
	struct gw__uri *uri = NULL;
	uint64_t began_ns = gw__clock_now_ns(&job->run.clock);
	int r = gw__job_begin(job, GW__OPT((const struct gw_guest_protect_opts *)a->o, memory_limit));
	int bad = take_protect_opts(job, a->o, &o);
	r = r ? r : bad;
	if (!r)
		r = gw__guest_call_begin(job, a, GW__GUEST_PROTECT);
	bool claimed = !r;
	if (!r)
		r = gw__guest_link_uri(job, a->where, &uri);
	if (!r)
		r = gw__guest_link_check(job, uri, o.link, o.channels, o.compression);
	if (r)
		gw__location_note(&at, gw__location_event_before(r));
	else
		r = protect_connected(job, a, uri, &o, &at, &ours);
	gw__guest_call_end(job, a, claimed, at, began_ns, &ours);
	free(uri);
	return r;
}

int gw_guest_protect(gw_job *job, gw_guest *guest, const char *uri, const struct gw_guest_protect_opts *o, struct gw_guest_result *result)
{
	const struct gw__guest_args a = {guest, uri, "uri", o, result};
	return gw__call(job, protect_guest, &a, sizeof a);
}

/* --- stand by --- */

struct standby {
	gw_job *job;
	gw_guest *guest;
	const struct gw_guest_standby_opts *o;
	struct gw__location *at;
	struct gw__standby_guest *store;
	struct gw_guest_result *ours;
	struct gw__histogram pause;
	bool decided; /* that it is run here */
};

static void on_complete(void *ctx)
{
	struct standby *s = ctx;
	gw__guest_set_location(s->guest, GW__SIDE_DESTINATION, *s->at, GW__MOTION_STANDS_BY);
	gw__guest_call_takes(s->job, GW__ORDER_STANDS_BY);
}

static void on_epoch(void *ctx, const struct gw__colo_epoch *e)
{
	struct standby *s = ctx;
	struct gw__ram_cache_flushed flushed = gw__standby_guest_result(s->store).flushed;
	const struct gw_guest_epoch epoch = {.size = sizeof epoch,
		.number = e->number,
		.pages = s->o->hot && e->number ? flushed.by_primary : e->pages,
		.pause_us = e->pause_ns / 1000,
		.flushed_pages = flushed.by_primary,
		.taken_back_pages = flushed.by_secondary};
	if (e->number)
		gw__histogram_add(&s->pause, epoch.pause_us);
	s->ours->epochs = e->number;
	s->ours->epoch_pages_max = gw__max(s->ours->epoch_pages_max, epoch.pages);
	if (s->o->on_epoch)
		s->o->on_epoch(s->o->ctx, &epoch);
}

/* 0: ordered; -ECANCELED. `ms` -1: for ever; when they have passed, 0 as well. */
static int wait_for_order(const struct standby *s, int ms, bool for_order)
{
	struct pollfd p[] = {{s->job->cancel_fd, POLLIN, 0}, {for_order ? s->job->guest.stop_fd : -1, POLLIN, 0}};
	int n;
	do
		n = poll(p, 2, ms);
	while (n < 0 && errno == EINTR);
	if (n > 0 && p[0].revents)
		return gw__error_set(&s->job->run.error, -ECANCELED, "cancelled");
	return 0;
}

/* What stands by may be the last copy: it is not given up because nobody could be asked, but by a clear no alone. */
static int ask_may_run(const struct standby *s)
{
	struct gw__error *error = &s->job->run.error;
	int r = 0;
	while (s->o->may_run && (r = s->o->may_run(s->o->ctx)) < 0 && r != -EPERM)
		if (wait_for_order(s, ASK_AGAIN_MS, false))
			return error->code;
	s->ours->hook_failed = r;
	return r ? gw__error_set(error, r > 0 ? -EPROTO : r, "it may not be run here, says the hook that was asked") : 0;
}

/* The link has ended, and there is an epoch. */
static int fail_over(struct standby *s)
{
	gw__error_clear(&s->job->run.error); /* how the link ended is no failure of ours */
	int r = wait_for_order(s, -1, true);
	if (!r)
		r = ask_may_run(s);
	if (r)
		return r;
	gw__location_note(s->at, GW__LOCATION_EV_ARRIVED); /* the hook that lets it run may ask */
	gw__guest_set_location(s->guest, GW__SIDE_DESTINATION, *s->at, GW__MOTION_STANDS_BY);
	r = gw__standby_guest_fail_over(s->store);
	s->decided = true;
	return r;
}

static int secondary_run(struct standby *s, struct gw__receive_link *l)
{
	const struct gw__colo_secondary_opts so = {.checkpoint_ms = -1, /* an order or a cancel ends it */
		.stop_fd = s->job->guest.stop_fd,
		.on_epoch = on_epoch,
		.ctx = s};
	const struct gw__epoch_store store = gw__standby_guest_store(s->store);
	struct gw__colo_secondary_result result;
	int r = gw__receive_filter(s->job, &l->in, s->o->link);
	if (!r)
		r = gw__colo_secondary_run(&s->job->run, &l->in, &store, &so, &result);
	s->ours->channels = l->in.multifd_n;
	s->ours->moved_bytes = atomic_load(&s->job->run.counters.moved_bytes);
	if (gw_guest_where(s->guest) != GW_STANDBY || result.image_failed)
		return r ? r : gw__error_set(&s->job->run.error, -ENODATA, "no guest came");
	gw__location_note(s->at, GW__LOCATION_EV_EPOCH_KEPT);
	gw__guest_set_location(s->guest, GW__SIDE_DESTINATION, *s->at, GW__MOTION_STANDS_BY);
	return fail_over(s);
}

/*
 * A call that failed has given up what it had. But a guest whose primary was declared dead is here, stopped, if its devices are loaded, and else
 * lost.
 */
static void settle(struct standby *s, int r)
{
	s->ours->hook_failed = s->ours->hook_failed || (s->store && gw__standby_guest_result(s->store).hook_failed);
	if (!r || (s->decided && gw__standby_guest_result(s->store).is_loaded))
		return;
	*s->at = gw__location_at(s->decided ? GW__PLACE_LOST : GW__PLACE_SOURCE_RUNS);
	gw__location_note(s->at, GW__LOCATION_EV_BROKEN);
}

static int stand_by(gw_job *job, const struct gw__guest_args *a, const struct gw__uri *uri, const struct gw_guest_standby_opts *o,
	struct gw__location *at, struct gw_guest_result *ours)
{
	const struct gw_receive_opts ro = {.size = sizeof ro,
		.link = o->link,
		.channels = o->channels,
		.on_listening = o->on_listening,
		.ctx = o->ctx};
	struct standby s = {.job = job, .guest = a->guest, .o = o, .at = at, .ours = ours};
	const struct gw__standby_guest_opts so = {.hot = o->hot,
		.limit_bytes = o->epoch_limit ? o->epoch_limit : EPOCH_BYTES,
		.on_complete = on_complete,
		.ctx = &s};
	struct gw__receive_link l = {0};
	gw__guest_set_location(a->guest, GW__SIDE_DESTINATION, *at, GW__MOTION_MOVES);
	gw__guest_call_takes(job, GW__ORDER_TOO_EARLY);
	int r = gw__standby_guest_new(&job->run, a->guest->guest, &so, &s.store);
	if (!r)
		r = gw__receive_open_source(job, uri, &ro, &l);
	if (!r)
		r = secondary_run(&s, &l);
	gw__guest_call_takes(job, GW__ORDER_NO_CALL);
	if (s.store)
		gw__standby_guest_give_up(s.store);
	settle(&s, r);
	gw__standby_guest_free(s.store);
	gw__receive_close_link(&l);
	give_pauses(&s.pause, ours);
	gw__guest_set_location(a->guest, GW__SIDE_DESTINATION, *at, GW__MOTION_NONE);
	return r;
}

static int take_standby_opts(gw_job *job, const struct gw_guest_standby_opts *o, struct gw_guest_standby_opts *ours)
{
	*ours = (struct gw_guest_standby_opts){.size = sizeof *ours};
	int r = GW__CHECK(o, &job->run.error);
	if (!r && o)
		gw__struct_out(ours, sizeof *ours, o, gw__min(o->size, sizeof *ours));
	return r;
}

static int standby_guest(gw_job *job, void *args)
{
	const struct gw__guest_args *a = args;
	struct gw_guest_result ours = {0};
	struct gw_guest_standby_opts o;
	struct gw__location at = gw__location_at(GW__PLACE_SOURCE_RUNS);
	struct gw__uri *uri = NULL;
	uint64_t began_ns = gw__clock_now_ns(&job->run.clock);
	int r = gw__job_begin(job, GW__OPT((const struct gw_guest_standby_opts *)a->o, memory_limit));
	int bad = take_standby_opts(job, a->o, &o);
	r = r ? r : bad;
	if (!r)
		r = gw__guest_call_begin(job, a, GW__GUEST_STANDBY);
	bool claimed = !r;
	if (!r)
		r = gw__guest_link_uri(job, a->where, &uri);
	if (!r)
		r = gw__job_allow(job, GW__OPERATION_RECEIVE,
			gw__ability_of_uri(uri) | gw__ability_of_link(o.link) | (o.channels ? GW__ABILITY_BIT(GW__ABILITY_MULTIFD) : 0));
	if (r)
		gw__location_note(&at, gw__location_event_before(r));
	else
		r = stand_by(job, a, uri, &o, &at, &ours);
	gw__guest_call_end(job, a, claimed, at, began_ns, &ours);
	free(uri);
	return r;
}

int gw_guest_standby(gw_job *job, gw_guest *guest, const char *uri, const struct gw_guest_standby_opts *o, struct gw_guest_result *result)
{
	const struct gw__guest_args a = {guest, uri, "uri", o, result};
	return gw__call(job, standby_guest, &a, sizeof a);
}
