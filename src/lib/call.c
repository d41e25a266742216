/* SPDX-License-Identifier: MIT */
/* The states of a job, and the thread of a started call; see call.h. */
#include "lib/call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/job.h"
#include "thread/thread.h"

enum state {
	IDLE,
	ARMED,  /* the next call is only begun */
	BLOCKS, /* a call runs in the thread that made it */
	RUNS,   /* in one of ours */
	ENDED,  /* that has ended, nobody has waited for it */
};

static bool change(struct gw__call *c, int from, int to) { return atomic_compare_exchange_strong(&c->state, &from, to); }

bool gw__call_is_idle(const struct gw__call *c)
{
	int state = atomic_load(&c->state);
	return state == IDLE || state == ARMED;
}

bool gw__call_is_started(const struct gw__call *c) { return atomic_load(&c->state) == RUNS; }

static int need_events(gw_job *job) { return job->call.events ? 0 : gw__events_new(&job->call.events); }

static void *work(void *ctx)
{
	gw_job *job = ctx;
	struct gw__call *c = &job->call;
	c->result = c->fn(job, c->args);
	atomic_store(&c->state, ENDED);
	gw__events_end(c->events);
	return NULL;
}

static int begin(gw_job *job, gw__call_fn *fn, const void *args, size_t bytes)
{
	struct gw__call *c = &job->call;
	c->args = malloc(bytes);
	if (!c->args)
		return -ENOMEM;
	memcpy(c->args, args, bytes);
	c->fn = fn;
	gw__error_clear(&job->run.error);
	gw__events_begin(c->events, c->wanted);
	int err = gw__thread_start(&c->thread, work, job);
	if (err) {
		free(c->args);
		c->args = NULL;
	}
	return -err;
}

/* False: `fn` was not called and never will be. */
static bool make(gw_job *job, gw__call_fn *fn, const void *args, size_t bytes, int *r)
{
	struct gw__call *c = job ? &job->call : NULL;
	*r = job ? -EBUSY : -EINVAL;
	if (!job)
		return false;
	if (change(c, IDLE, BLOCKS)) {
		*r = fn(job, (void *)(uintptr_t)args);
		atomic_store(&c->state, IDLE);
		return true;
	}
	if (!change(c, ARMED, RUNS))
		return false;
	*r = begin(job, fn, args, bytes);
	if (*r) {
		gw__error_set(&job->run.error, *r, "cannot start a thread for the call");
		atomic_store(&c->state, IDLE);
	}
	return !*r;
}

int gw__call(gw_job *job, gw__call_fn *fn, const void *args, size_t bytes)
{
	int r;
	make(job, fn, args, bytes, &r);
	return r;
}

int gw__call_with_fd(gw_job *job, gw__call_fn *fn, const void *args, size_t bytes, int fd)
{
	int r;
	if (!make(job, fn, args, bytes, &r) && fd >= 0)
		close(fd);
	return r;
}

int gw__call_lacks(gw_job *job, const char *arg)
{
	const char *name = strpbrk(arg, ">."); /* of a->path */
	return gw__error_set(&job->run.error, -EINVAL, "%s is NULL", name ? name + 1 : arg);
}

/* The thread is gone then. */
static void join(struct gw__call *c)
{
	pthread_join(c->thread, NULL);
	free(c->args);
	c->args = NULL;
	gw__events_begin(c->events, 0);
	atomic_store(&c->state, IDLE);
}

bool gw__call_fini(gw_job *job)
{
	struct gw__call *c = &job->call;
	int state = atomic_load(&c->state);
	if (state == BLOCKS)
		return false;
	if (state == RUNS || state == ENDED) {
		gw_job_cancel(job);
		join(c);
	}
	gw__events_free(c->events);
	return true;
}

int gw_job_start(gw_job *job, const struct gw_start_opts *o)
{
	const uint64_t known = GW_EVENT_BIT(GW_EVENT_SOCKET + 1) - 1;
	if (!job)
		return -EINVAL;
	if (!gw__call_is_idle(&job->call))
		return -EBUSY;
	gw__error_clear(&job->run.error);
	int r = GW__CHECK(o, &job->run.error);
	if (!r && GW__OPT(o, events) & ~known)
		r = gw__error_set(&job->run.error, -EINVAL, "gw_start_opts.events has a bit that is no event");
	if (!r && atomic_load(&job->call.state) == ARMED)
		r = gw__error_set(&job->run.error, -EALREADY, "it was started, and no call has followed");
	if (!r && need_events(job))
		r = gw__error_set(&job->run.error, -EMFILE, "no descriptor for events");
	if (r)
		return r;
	job->call.wanted = GW__OPT(o, events);
	atomic_store(&job->call.state, ARMED);
	return 0;
}

int gw_job_fd(gw_job *job)
{
	int r = job ? need_events(job) : -EINVAL;
	return r ? r : gw__events_fd(job->call.events);
}

int gw_job_next_event(gw_job *job, struct gw_event *event)
{
	struct gw_event ours = {0};
	int r = job && event ? GW__CHECK(event, NULL) : -EINVAL;
	if (!r)
		r = job->call.events ? gw__events_next(job->call.events, &ours) : -EAGAIN;
	if (!r)
		gw__struct_out(event, event->size, &ours, sizeof ours);
	return r;
}

int gw_job_answer(gw_job *job, int answer)
{
	if (!job)
		return -EINVAL;
	return job->call.events ? gw__events_answer(job->call.events, answer) : -ESRCH;
}

int gw_job_wait(gw_job *job, int timeout_ms, int *result)
{
	if (!job || !result)
		return -EINVAL;
	int state = atomic_load(&job->call.state);
	if (state != RUNS && state != ENDED)
		return -ESRCH;
	if (gw__events_wait_end(job->call.events, timeout_ms))
		return -EAGAIN;
	*result = job->call.result;
	join(&job->call);
	return 0;
}

int gw_job_reset(gw_job *job)
{
	eventfd_t n;
	if (!job)
		return -EINVAL;
	if (!gw__call_is_idle(&job->call))
		return -EBUSY;
	eventfd_read(job->cancel_fd, &n);
	gw__error_clear(&job->run.error);
	job->run.warnings.n = 0;
	atomic_store(&job->call.state, IDLE);
	return 0;
}
