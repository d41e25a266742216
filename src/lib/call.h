/* SPDX-License-Identifier: MIT */
/*
 * How a public call on a job is made: one at a time, by the thread that made it or, after gw_job_start, by one of ours. What the job itself is stands
 * in job.h. Owned by the job.
 */
#ifndef GW_LIB_CALL_H
#define GW_LIB_CALL_H

#include <pthread.h>
#include <stdatomic.h>

#include "lib/events.h"

/* The call itself, with a struct of its arguments. */
typedef int gw__call_fn(gw_job *job, void *args);

struct gw__call {
	_Atomic int state;         /* of call.c */
	struct gw__events *events; /* NULL: nothing was ever started */
	uint64_t wanted;           /* of the next started call */
	pthread_t thread;
	gw__call_fn *fn;
	void *args;
	int result;
};

/* `args` is copied. What `fn` returned, or 0 when it was only begun, or why it was not made. */
int gw__call(gw_job *job, gw__call_fn *fn, const void *args, size_t bytes);
/* The same for a call that takes over a descriptor: it is closed here where `fn` was not called. */
int gw__call_with_fd(gw_job *job, gw__call_fn *fn, const void *args, size_t bytes, int fd);
bool gw__call_is_idle(const struct gw__call *c);    /* nothing runs, and nothing waits to be waited for */
bool gw__call_is_started(const struct gw__call *c); /* a thread of ours works on it */
bool gw__call_fini(gw_job *job);                    /* false: a call blocks on this job */

/* A pointer that must be given. */
#define GW__NEED(job, arg) ((arg) ? 0 : gw__call_lacks(job, #arg))
int gw__call_lacks(gw_job *job, const char *arg);

#endif
