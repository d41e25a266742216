/* SPDX-License-Identifier: MIT */
/* A call on a job with a guest at one end; the thread's that makes it. */
#ifndef GW_LIB_GUEST_CALL_H
#define GW_LIB_GUEST_CALL_H

#include "engine/guest/source.h"
#include "lib/guest.h"
#include "lib/job.h"

/* Which orders a call takes now. */
enum gw__order_state {
	GW__ORDER_NO_CALL,
	GW__ORDER_NONE_TO_GIVE, /* a call that takes none */
	GW__ORDER_FINISHABLE,
	GW__ORDER_FINISHES,
	GW__ORDER_TOO_LATE,
	GW__ORDER_PROTECTS,
	GW__ORDER_TOO_EARLY, /* a standby that has no epoch yet */
	GW__ORDER_STANDS_BY,
};

struct gw__guest_args {
	gw_guest *guest;
	const char *where, *where_name; /* the other end, and what the argument is called */
	const void *o;
	struct gw_guest_result *result;
};

/* `limits` of a call, which may be NULL: are they right; and, once nothing else refuses the call, the job has them. */
int gw__guest_check_limits(gw_job *job, const struct gw_limits *l);
void gw__guest_set_limits(gw_job *job, const struct gw_limits *l);
/* Options of a receive or a restore that contradict each other. */
int gw__guest_check_arrival(gw_job *job, bool stay_paused, bool lazy, bool resume);
/* The guest is this call's when 0 is returned. */
int gw__guest_call_begin(gw_job *job, const struct gw__guest_args *a, enum gw__guest_call call);
/* `ours` has the numbers of the call, and outcome.committed; the rest is known here. */
void gw__guest_call_end(gw_job *job, const struct gw__guest_args *a, bool claimed, struct gw__location l, uint64_t began_ns,
	struct gw_guest_result *ours);
/* What may be ordered from now on; orders for the call before are forgotten, unless this one has ended. */
void gw__guest_call_takes(gw_job *job, enum gw__order_state orders);
/* To whoever listens to the job, which is `ctx`. */
void gw__guest_report(void *ctx, const struct gw__guest_event *e);

#endif
