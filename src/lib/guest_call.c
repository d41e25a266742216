/* SPDX-License-Identifier: MIT */
/* What all calls with a guest have: limits, orders, events, their begin and their end. */
#include "lib/guest_call.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "engine/colo/primary_guest.h"
#include "lib/outcome.h"

int gw_job_limits(gw_job *job, const struct gw_limits *l)
{
	int r = job && l ? GW__CHECK(l, NULL) : -EINVAL;
	if (!r && GW__OPT(l, downtime_ms))
		atomic_store(&job->guest.downtime_ms, l->downtime_ms);
	if (!r && GW__OPT(l, checkpoint_ms))
		atomic_store(&job->guest.checkpoint_ms, l->checkpoint_ms);
	return r;
}

int gw__guest_check_limits(gw_job *job, const struct gw_limits *l) { return l ? GW__CHECK(l, &job->run.error) : 0; }

int gw__guest_check_arrival(gw_job *job, bool stay_paused, bool lazy, bool resume)
{
	if (lazy && stay_paused)
		return gw__error_set(&job->run.error, -EINVAL,
			"`lazy` runs the guest before its pages are here; `stay_paused` does not run it");
	if (resume && stay_paused)
		return gw__error_set(&job->run.error, -EINVAL, "`resume` is for a guest that runs, `stay_paused` for one that does not");
	return 0;
}

void gw__guest_set_limits(gw_job *job, const struct gw_limits *l)
{
	if (l)
		gw_job_limits(job, l);
}

/* An order is for the call that runs, and no other: who gives one is not overtaken by the next call. Of all jobs, as orders are rare. */
static pthread_mutex_t ordering = PTHREAD_MUTEX_INITIALIZER;

void gw__guest_call_takes(gw_job *job, enum gw__order_state orders)
{
	eventfd_t ignored;
	pthread_mutex_lock(&ordering);
	if (orders != GW__ORDER_NO_CALL) {
		atomic_store(&job->guest.finish, false);
		atomic_store(&job->guest.switch_now, false);
		atomic_store(&job->guest.protects, GW__PROTECT_ORDER_NONE);
		eventfd_read(job->guest.stop_fd, &ignored);
		if (gw__job_is_cancelled(job)) /* which wakes a standby as well */
			eventfd_write(job->guest.stop_fd, 1);
	} else {
		atomic_store(&job->guest.can_switch, false);
	}
	atomic_store(&job->guest.order, (int)orders);
	pthread_mutex_unlock(&ordering);
}

static int order_postcopy(gw_job *job)
{
	if (!atomic_load(&job->guest.can_switch))
		return -EINVAL;
	if (atomic_load(&job->guest.order) == GW__ORDER_TOO_LATE)
		return -EPERM;
	return atomic_exchange(&job->guest.switch_now, true) ? -EALREADY : 0;
}

static int order_finish(gw_job *job, enum gw_order order)
{
	int state = GW__ORDER_FINISHABLE;
	if (order == GW_ORDER_POSTCOPY)
		return order_postcopy(job);
	if (order != GW_ORDER_FINISH)
		return -EINVAL;
	if (atomic_compare_exchange_strong(&job->guest.order, &state, GW__ORDER_FINISHES)) {
		atomic_store(&job->guest.finish, true);
		return 0;
	}
	return state == GW__ORDER_FINISHES ? -EALREADY : -EPERM;
}

static int order_protect(gw_job *job, enum gw_order order)
{
	int none = GW__PROTECT_ORDER_NONE;
	if (order == GW_ORDER_FAILOVER || order == GW_ORDER_POSTCOPY)
		return -EINVAL;
	if (order == GW_ORDER_CHECKPOINT)
		return atomic_compare_exchange_strong(&job->guest.protects, &none, GW__PROTECT_ORDER_CHECKPOINT) ? 0 : -EALREADY;
	return atomic_exchange(&job->guest.protects, GW__PROTECT_ORDER_FINISH) == GW__PROTECT_ORDER_FINISH ? -EALREADY : 0;
}

static int order_standby(gw_job *job, enum gw_order order)
{
	if (order != GW_ORDER_FAILOVER)
		return -EINVAL;
	if (atomic_exchange(&job->guest.finish, true))
		return -EALREADY;
	return eventfd_write(job->guest.stop_fd, 1) ? -errno : 0;
}

static int give_order(gw_job *job, enum gw_order order)
{
	switch (atomic_load(&job->guest.order)) {
	case GW__ORDER_NO_CALL:
		return -ESRCH;
	case GW__ORDER_NONE_TO_GIVE:
		return -EINVAL;
	case GW__ORDER_PROTECTS:
		return order_protect(job, order);
	case GW__ORDER_STANDS_BY:
		return order_standby(job, order);
	case GW__ORDER_TOO_EARLY:
		return order == GW_ORDER_FAILOVER ? -EPERM : -EINVAL;
	default:
		return order_finish(job, order);
	}
}

int gw_job_order(gw_job *job, enum gw_order order)
{
	if (!job || (unsigned)order > GW_ORDER_POSTCOPY)
		return -EINVAL;
	pthread_mutex_lock(&ordering);
	int r = give_order(job, order);
	pthread_mutex_unlock(&ordering);
	return r;
}

int gw_job_on_guest_event(gw_job *job, gw_guest_event_fn *fn, void *ctx)
{
	if (!job || !gw__call_is_idle(&job->call))
		return job ? -EBUSY : -EINVAL;
	job->guest.event = fn;
	job->guest.event_ctx = ctx;
	return 0;
}

void gw__guest_report(void *ctx, const struct gw__guest_event *e)
{
	static const enum gw_guest_event_kind kinds[] = {[GW__GUEST_EVENT_ROUND] = GW_GUEST_ROUND,
		[GW__GUEST_EVENT_STOPPED] = GW_GUEST_STOPPED,
		[GW__GUEST_EVENT_RUNS] = GW_GUEST_RUNS,
		[GW__GUEST_EVENT_RUNS_THERE] = GW_GUEST_RUNS_THERE};
	gw_job *job = ctx;
	if (e->kind == GW__GUEST_EVENT_STOPPED)
		atomic_store(&job->guest.order, GW__ORDER_TOO_LATE);
	if (!job->guest.event)
		return;
	const struct gw_guest_event event = {.size = sizeof event,
		.kind = kinds[e->kind],
		.time_ns = gw__clock_now_ns(&job->run.clock),
		.round = e->round,
		.dirty_pages = e->dirty_pages,
		.sent_bytes = e->sent_bytes,
		.bandwidth = e->bandwidth,
		.downtime_ns = e->downtime_ns};
	job->guest.event(job->guest.event_ctx, &event);
}

int gw__guest_call_begin(gw_job *job, const struct gw__guest_args *a, enum gw__guest_call call)
{
	int r = gw__call_is_started(&job->call)
			? gw__error_set(&job->run.error, -EINVAL,
				  "gw_job_start is not for calls with a guest, whose hooks have a thread of their own then")
			: 0;
	if (!r)
		r = GW__CHECK(a->result, &job->run.error);
	if (!r)
		r = GW__NEED(job, a->guest);
	if (!r && !a->where)
		r = gw__call_lacks(job, a->where_name);
	if (!r)
		r = gw__guest_claim(a->guest, &job->run.error);
	if (r)
		return r;
	r = gw__guest_may(call, (enum gw__where)atomic_load(&a->guest->where), &job->run.error);
	if (r)
		gw__guest_release(a->guest);
	return r;
}

void gw__guest_call_end(gw_job *job, const struct gw__guest_args *a, bool claimed, struct gw__location l, uint64_t began_ns,
	struct gw_guest_result *ours)
{
	const struct gw__counters *c = &job->run.counters;
	ours->where = gw_guest_where(a->guest);
	ours->total_ns = gw__clock_now_ns(&job->run.clock) - began_ns;
	ours->pages = atomic_load(&c->pages);
	ours->zero_pages = atomic_load(&c->zero_pages);
	ours->rounds = atomic_load(&c->rounds);
	struct gw_outcome *outcome = gw__job_end_at(job, l);
	outcome->peer_notified = l.place == GW__PLACE_DESTINATION_RUNS;
	outcome->committed = ours->outcome.committed;
	ours->outcome = *outcome;
	gw__struct_out(a->result, a->result ? a->result->size : 0, ours, sizeof *ours);
	if (claimed)
		gw__guest_release(a->guest);
}
