/* SPDX-License-Identifier: MIT */
/* Jobs: error, progress, trace, cancellation of one piece of work at a time. */
#include "lib/job.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/math.h"
#include "lib/started.h"
#include "wire/header.h"

static_assert((int)GW_PHASE_WAITING == (int)GW__PHASE_WAITING && (int)GW_PHASE_RAM == (int)GW__PHASE_RAM &&
		      (int)GW_PHASE_DEVICES == (int)GW__PHASE_DEVICES && (int)GW_PHASE_SYNC == (int)GW__PHASE_SYNC &&
		      (int)GW_PHASE_DONE == (int)GW__PHASE_DONE,
	"the phases are the engine's");

int gw_job_new(gw_job **job)
{
	if (!job)
		return -EINVAL;
	gw_job *j = calloc(1, sizeof *j);
	if (!j)
		return -ENOMEM;
	gw__run_init(&j->run);
	j->guest.downtime_ms = 300;
	j->guest.checkpoint_ms = 100;
	j->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	j->guest.stop_fd = j->cancel_fd < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (j->guest.stop_fd < 0) {
		int err = errno;
		if (j->cancel_fd >= 0)
			close(j->cancel_fd);
		free(j);
		return -err;
	}
	*job = j;
	return 0;
}

void gw_job_free(gw_job *job)
{
	if (!job || !gw__call_fini(job))
		return;
	gw__rate_free(job->rate);
	close(job->cancel_fd);
	close(job->guest.stop_fd);
	free(job);
}

/* A thread of ours may be writing it. */
const char *gw_job_error(const gw_job *job) { return job && !gw__call_is_started(&job->call) ? job->run.error.text : ""; }

const char *gw_job_warning(const gw_job *job, uint32_t i)
{
	if (!job || gw__call_is_started(&job->call))
		return NULL;
	return i < job->run.warnings.n ? job->run.warnings.text[i] : NULL;
}

void gw_job_cancel(gw_job *job)
{
	const uint64_t one = 1;
	if (!job)
		return;
	int err = errno; /* may interrupt anything */
	ssize_t n = write(job->cancel_fd, &one, sizeof one);
	n = write(job->guest.stop_fd, &one, sizeof one); /* a standby ends between two epochs */
	(void)n;                                         /* full means cancelled already */
	errno = err;
}

static int check_page_size(gw_job *job, uint64_t bytes)
{
	enum { LEAST = 1 << GW__PAGE_BITS_RAM, MOST = 1 << GW__PAGE_BITS_MAX };
	if (!job || !gw__call_is_idle(&job->call))
		return job ? -EBUSY : -EINVAL;
	gw__error_clear(&job->run.error);
	if (bytes && (!gw__is_power_of_2(bytes) || bytes < LEAST || bytes > MOST))
		return gw__error_set(&job->run.error, -EINVAL, "a page size of %llu, expected a power of two from %d to %d",
			(unsigned long long)bytes, LEAST, MOST);
	return 0;
}

int gw_job_page_size(gw_job *job, uint64_t bytes)
{
	int r = check_page_size(job, bytes);
	if (!r)
		job->run.page_bytes = bytes;
	return r;
}

int gw_job_usual_page_size(gw_job *job, uint64_t bytes)
{
	int r = check_page_size(job, bytes);
	if (!r)
		job->run.usual_page_bytes = bytes;
	return r;
}

void gw__struct_out(void *out, size_t out_size, const void *ours, size_t our_size)
{
	if (!out || out_size > GW__STRUCT_BYTES_MAX)
		return;
	size_t n = out_size < our_size ? out_size : our_size;
	if (n > sizeof(size_t)) /* the caller's own size stays */
		memcpy((char *)out + sizeof(size_t), (const char *)ours + sizeof(size_t), n - sizeof(size_t));
}

int gw_job_progress(const gw_job *job, struct gw_progress *p)
{
	int r = job && p ? GW__CHECK(p, NULL) : -EINVAL;
	if (r)
		return r;
	const struct gw__counters *c = &job->run.counters;
	struct gw_progress now = {
		.phase = (enum gw_phase)atomic_load(&c->phase),
		.ram_bytes = atomic_load(&c->total_bytes),
		.moved_bytes = atomic_load(&c->moved_bytes),
		.pages = atomic_load(&c->pages),
		.zero_pages = atomic_load(&c->zero_pages),
		.rounds = atomic_load(&c->rounds),
	};
	gw__struct_out(p, p->size, &now, sizeof now);
	return 0;
}

int gw_job_on_progress(gw_job *job, gw_progress_fn *fn, void *ctx)
{
	if (!job || !gw__call_is_idle(&job->call))
		return job ? -EBUSY : -EINVAL;
	job->progress = fn;
	job->progress_ctx = ctx;
	return 0;
}

int gw_job_on_trace(gw_job *job, gw_trace_fn *fn, void *ctx)
{
	if (!job || !gw__call_is_idle(&job->call))
		return job ? -EBUSY : -EINVAL;
	job->trace = fn;
	job->trace_ctx = ctx;
	return 0;
}

bool gw__job_is_cancelled(const gw_job *job)
{
	struct pollfd p = {.fd = job->cancel_fd, .events = POLLIN};
	return poll(&p, 1, 0) == 1;
}

int gw__job_begin(gw_job *job, size_t memory_limit)
{
	struct gw__counters *c = &job->run.counters;
	gw__error_clear(&job->run.error);
	gw__report_begin(job);
	gw__rate_free(job->rate);
	job->rate = NULL;
	atomic_store(&c->phase, GW__PHASE_WAITING);
	atomic_store(&c->total_bytes, 0);
	atomic_store(&c->moved_bytes, 0);
	atomic_store(&c->pages, 0);
	atomic_store(&c->zero_pages, 0);
	atomic_store(&c->rounds, 0);
	job->run.cancel_fd = job->cancel_fd;
	job->run.next_tick_ns = 0;
	job->run.warnings.n = 0;
	job->run.tail_max_bytes = memory_limit ? memory_limit : GW__TRAILER_MAX_BYTES;
	if (gw__job_is_cancelled(job))
		return gw__error_set(&job->run.error, -ECANCELED, "cancelled");
	return 0;
}

/* 0: the default; -1: no limit. */
static int limit(int given, int otherwise) { return given ? given : otherwise; }

struct gw__io_opts gw__job_io_opts(const gw_job *job, const struct gw_link_opts *link)
{
	struct gw__io_opts o = GW__IO_DEFAULTS;
	o.idle_ms = limit(GW__OPT(link, idle_timeout_ms), o.idle_ms);
	o.connect_ms = limit(GW__OPT(link, connect_timeout_ms), o.connect_ms);
	o.cancel_fd = job->cancel_fd;
	o.peer_uid = GW__OPT(link, peer_uid);
	return o;
}

int gw__job_filter(gw_job *job, const struct gw_link_opts *link, struct gw__chan **chan)
{
	uint64_t bytes_per_s = GW__OPT(link, max_bandwidth);
	if (!bytes_per_s)
		return 0;
	int r = job->rate ? 0 : gw__rate_new(bytes_per_s, NULL, &job->rate, &job->run.error);
	return r ? r : gw__chan_share_rate(chan, job->rate, &job->run.error);
}

int gw__job_tls(gw_job *job, const struct gw_link_opts *link, enum gw__tls_role role, struct gw__tls_creds **creds)
{
	const struct gw_tls_opts *t = GW__OPT(link, tls);
	if (!t)
		return 0;
	struct gw__tls_opts o = {
		.dir = GW__OPT(t, creds_dir),
		.hostname = GW__OPT(t, hostname),
		.authz = GW__OPT(t, authz),
		.priority = GW__OPT(t, priority),
		.username = GW__OPT(t, psk_name),
		.no_verify = GW__OPT(t, no_verify),
	};
	return gw__tls_creds_load(role, &o, creds, &job->run.error);
}

int gw__job_take_fd(gw_job *job, int fd, const char *name, const struct gw_link_opts *link, enum gw__tls_role role,
	struct gw__tls_creds **creds, struct gw__chan **chan)
{
	struct gw__io_opts io = gw__job_io_opts(job, link);
	int r = gw__chan_take_fd(fd, name, &io, chan, &job->run.error);
	if (!r)
		r = gw__job_tls(job, link, role, creds);
	if (!r && *creds && !(*chan)->two_way)
		r = gw__error_set(&job->run.error, -EINVAL, "TLS with %s needs a socket, and descriptor %d is none", name, fd);
	return r || !*creds ? r : gw__chan_start_tls(chan, *creds, NULL, false, &job->run.error);
}
