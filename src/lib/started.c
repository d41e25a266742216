/* SPDX-License-Identifier: MIT */
/* From callbacks to events; see started.h. */
#include "lib/started.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/math.h"

static void tell(gw_job *job, const struct gw_event *event) { gw__events_push(job->call.events, event); }

static int ask(gw_job *job, const struct gw_event *event) { return gw__events_ask(job->call.events, event, job->cancel_fd); }

static bool wants(const gw_job *job, enum gw_event_kind kind) { return gw__events_wants(job->call.events, kind); }

static void listening(void *job, const char *uri) { tell(job, &(struct gw_event){.kind = GW_EVENT_LISTENING, .uri = uri}); }

static void connected(void *job) { tell(job, &(struct gw_event){.kind = GW_EVENT_CONNECTED}); }

static void guest_runs(void *job) { tell(job, &(struct gw_event){.kind = GW_EVENT_RUNS}); }

static void note(void *job, const char *text) { tell(job, &(struct gw_event){.kind = GW_EVENT_NOTE, .text = text}); }

static void message(void *job, const struct gw_proxy_message *m) { tell(job, &(struct gw_event){.kind = GW_EVENT_MESSAGE, .message = m}); }

static void channel(void *job, const struct gw_proxy_channel *c) { tell(job, &(struct gw_event){.kind = GW_EVENT_CHANNEL, .channel = c}); }

static void standby(void *job, const struct gw_standby_event *s) { tell(job, &(struct gw_event){.kind = GW_EVENT_STANDBY, .standby = s}); }

static bool difference(void *job, const char *text)
{
	tell(job, &(struct gw_event){.kind = GW_EVENT_DIFFERENCE, .text = text});
	return true;
}

static int ready(void *job) { return ask(job, &(struct gw_event){.kind = GW_EVENT_READY}); }

static int paused(void *job, const char *uri, const char *reason)
{
	return ask(job, &(struct gw_event){.kind = GW_EVENT_BROKEN, .uri = uri, .text = reason});
}

static int whole(void *job, const struct gw_whole *w) { return ask(job, &(struct gw_event){.kind = GW_EVENT_WHOLE, .whole = w}); }

static int told(void *job) { return ask(job, &(struct gw_event){.kind = GW_EVENT_SOURCE_NOTIFIED}); }

static void show_socket(void *job, int fd) { ask(job, &(struct gw_event){.kind = GW_EVENT_SOCKET, .number = (uint64_t)fd}); }

static int refuse(gw_job *job)
{
	return gw__error_set(&job->run.error, -EINVAL,
		"callbacks in the options of a started call: it has events instead (gw_job_next_event)");
}

/* The rest of *ours is zero. */
#define TAKE(job, o, ours)                                                                                                                 \
	do {                                                                                                                               \
		int bad = GW__CHECK(o, &(job)->run.error);                                                                                 \
		*(ours) = (__typeof__(*(ours))){.size = sizeof *(ours)};                                                                   \
		if (bad)                                                                                                                   \
			return bad;                                                                                                        \
		if (o)                                                                                                                     \
			gw__struct_out(ours, sizeof *(ours), o, gw__min((o)->size, sizeof *(ours)));                                       \
		if (!gw__call_is_started(&(job)->call))                                                                                    \
			return 0;                                                                                                          \
	} while (0)

int gw__take_receive_opts(gw_job *job, const struct gw_receive_opts *o, struct gw_receive_opts *ours)
{
	TAKE(job, o, ours);
	if (ours->on_listening || ours->on_ready || ours->on_paused || ours->on_whole || ours->on_source_notified)
		return refuse(job);
	ours->on_listening = listening;
	ours->on_ready = wants(job, GW_EVENT_READY) ? ready : NULL;
	ours->on_paused = wants(job, GW_EVENT_BROKEN) ? paused : NULL;
	ours->on_whole = wants(job, GW_EVENT_WHOLE) ? whole : NULL;
	ours->on_source_notified = wants(job, GW_EVENT_SOURCE_NOTIFIED) ? told : NULL;
	ours->ctx = job;
	return 0;
}

int gw__take_drain_opts(gw_job *job, const struct gw_drain_opts *o, struct gw_drain_opts *ours)
{
	TAKE(job, o, ours);
	if (ours->on_listening || ours->on_paused)
		return refuse(job);
	ours->on_listening = listening;
	ours->on_paused = wants(job, GW_EVENT_BROKEN) ? paused : NULL;
	ours->ctx = job;
	return 0;
}

int gw__take_serve_opts(gw_job *job, const struct gw_serve_opts *o, struct gw_serve_opts *ours)
{
	TAKE(job, o, ours);
	if (ours->on_connected || ours->on_note || ours->on_socket || ours->on_guest_runs)
		return refuse(job);
	ours->on_connected = connected;
	ours->on_note = note;
	ours->on_socket = wants(job, GW_EVENT_SOCKET) ? show_socket : NULL;
	ours->on_guest_runs = guest_runs;
	ours->ctx = job;
	return 0;
}

int gw__take_proxy_opts(gw_job *job, const struct gw_proxy_opts *o, struct gw_proxy_opts *ours)
{
	TAKE(job, o, ours);
	if (ours->on_listening || ours->on_message || ours->on_channel)
		return refuse(job);
	ours->on_listening = listening;
	ours->on_message = wants(job, GW_EVENT_MESSAGE) ? message : NULL;
	ours->on_channel = wants(job, GW_EVENT_CHANNEL) ? channel : NULL;
	ours->ctx = job;
	return 0;
}

int gw__take_standby_opts(gw_job *job, const struct gw_standby_opts *o, struct gw_standby_opts *ours)
{
	TAKE(job, o, ours);
	if (ours->on_listening || ours->on_event)
		return refuse(job);
	ours->on_listening = listening;
	ours->on_event = standby;
	ours->ctx = job;
	return 0;
}

int gw__take_difference_fn(gw_job *job, gw_difference_fn **fn, void **ctx)
{
	if (!gw__call_is_started(&job->call))
		return 0;
	if (*fn)
		return refuse(job);
	*fn = difference;
	*ctx = job;
	return 0;
}

/* --- what the job reports --- */

static void report_progress(void *ctx)
{
	gw_job *job = ctx;
	struct gw_progress p = GW_INIT(p);
	gw_job_progress(job, &p);
	job->progress(job->progress_ctx, &p);
}

static void report_phase(void *ctx)
{
	gw_job *job = ctx;
	uint32_t phase = atomic_load(&job->run.counters.phase);
	if (phase == job->phase)
		return;
	job->phase = phase;
	tell(job, &(struct gw_event){.kind = GW_EVENT_PHASE, .number = phase});
}

static void report_line(void *ctx, const char *name, const char *fmt, ...)
{
	gw_job *job = ctx;
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (gw__call_is_started(&job->call))
		tell(job, &(struct gw_event){.kind = GW_EVENT_TRACE, .name = name, .text = text});
	else
		job->trace(job->trace_ctx, name, text);
}

void gw__report_begin(gw_job *job)
{
	bool started = gw__call_is_started(&job->call);
	bool traced = started ? wants(job, GW_EVENT_TRACE) : job->trace != NULL;
	job->phase = UINT32_MAX;
	job->run.tick = started ? report_phase : job->progress ? report_progress : NULL;
	job->run.tick_ctx = job;
	job->run.trace.line = traced ? report_line : NULL;
	job->run.trace.ctx = job;
}
