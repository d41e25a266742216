/* SPDX-License-Identifier: MIT */
/* A job from the inside, and what the public calls share. Owned by the thread that makes the call. */
#ifndef GW_LIB_JOB_H
#define GW_LIB_JOB_H

#include "godwit.h"

#include <errno.h>

#include "engine/core/run.h"
#include "engine/files/stored_guest.h"
#include "io/chan.h"
#include "io/tls.h"
#include "lib/call.h"
#include "lib/opts.h"

struct gw_job {
	struct gw__run run;
	int cancel_fd; /* eventfd: readable once cancelled */
	gw_progress_fn *progress;
	void *progress_ctx;
	gw_trace_fn *trace;
	void *trace_ctx;
	struct gw_outcome outcome; /* of the last call that moved a guest */
	struct gw__rate *rate;     /* of this call's channels; NULL: none */
	uint32_t phase;            /* that was reported last, by a started call */
	struct {
		gw_guest_event_fn *event;
		void *event_ctx;
		_Atomic uint32_t downtime_ms, checkpoint_ms; /* any thread, as all that is atomic */
		_Atomic bool finish;
		_Atomic bool can_switch, switch_now; /* a send, to post-copy */
		_Atomic int order;                   /* enum gw__order_state */
		_Atomic int protects;                /* enum gw__protect_order */
		int stop_fd;                         /* a standby's, eventfd: readable once it is to end */
	} guest;
	struct gw__call call;
};

bool gw__job_is_cancelled(const gw_job *job);
/* Begin a call: forgets the last error and counters. -ECANCELED if the job was cancelled before. */
int gw__job_begin(gw_job *job, size_t memory_limit);

/*
 * A field of an option struct that may be NULL or older than this library: what lies beyond the size it was made with
 * is the default.
 */
#define GW__OPT(o, field)                                                                                                                  \
	((o) && (o)->size >= offsetof(__typeof__(*(o)), field) + sizeof(o)->field ? (o)->field : (__typeof__((o)->field)){0})

/* A callback that may return 0 or a negative errno returned this. */
static inline int gw__callback_result(int r) { return r > 0 ? -EINVAL : r; }

struct gw__io_opts gw__job_io_opts(const gw_job *job, const struct gw_link_opts *link);
/* Put the filters a link asks for on a channel; all channels of a call have the bandwidth together. */
int gw__job_filter(gw_job *job, const struct gw_link_opts *link, struct gw__chan **chan);
/* The credentials a link asks for; NULL where it asks for none. */
int gw__job_tls(gw_job *job, const struct gw_link_opts *link, enum gw__tls_role role, struct gw__tls_creds **creds);
/* A channel over a descriptor that a call was given, which is taken over in any case; with TLS if the link asks for it. *creds outlive the channel. */
int gw__job_take_fd(gw_job *job, int fd, const char *name, const struct gw_link_opts *link, enum gw__tls_role role,
	struct gw__tls_creds **creds, struct gw__chan **chan);

/* Copies at most what the caller's struct has room for; nothing where `out` is NULL or its size was refused. */
void gw__struct_out(void *out, size_t out_size, const void *ours, size_t our_size);

#endif
