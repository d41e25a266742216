/* SPDX-License-Identifier: MIT */
/* gw_serve: the page server of an image. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/outgoing/connect.h"
#include "engine/pageserver/image_pages.h"
#include "engine/pageserver/pageserver.h"
#include "lib/combine.h"
#include "lib/outcome.h"
#include "lib/started.h"
#include "lib/states.h"

enum { ANSWER_MS = 60000 };

static_assert((int)GW_PREEMPT_OFF == (int)GW__PREEMPT_OFF && (int)GW_PREEMPT_ON == (int)GW__PREEMPT_ON &&
		      (int)GW_PREEMPT_EARLY == (int)GW__PREEMPT_EARLY,
	"the ways of a preempt channel are the engine's");

static uint64_t to_us(uint64_t ns) { return ns / 1000 + (ns % 1000 != 0); }

static void make_result(const struct gw__pageserver_stats *t, enum gw__postcopy_src_state ended, const struct gw_outcome *outcome,
	struct gw_serve_result *result)
{
	struct gw_serve_result ours = {
		.recoverable = ended == GW__POSTCOPY_SRC_PAUSED,
		.state = gw__migration_state_of_source(ended),
		.requests = t->requests,
		.requested_pages = t->requested_pages,
		.pushed_pages = t->pushed_pages,
		.zero_pages = t->zero_pages,
		.already_there = t->already_there,
		.working_set_pages = t->working_set_pages,
		.latency_p50_us = to_us(gw__histogram_quantile(&t->latency, 500)),
		.latency_p99_us = to_us(gw__histogram_quantile(&t->latency, 990)),
		.latency_max_us = to_us(t->latency.max),
		.outcome = *outcome,
	};
	gw__struct_out(result, result ? result->size : 0, &ours, sizeof ours);
}

static struct gw__pageserver_block *copy_blocks(const struct gw_serve_opts *o)
{
	uint32_t n = GW__OPT(o, blocks);
	struct gw__pageserver_block *v = calloc(n + 1, sizeof *v);
	for (uint32_t i = 0; v && i < n; i++)
		v[i] = (struct gw__pageserver_block){GW__OPT(GW_AT(o->block, i), name), GW__OPT(GW_AT(o->block, i), page_bytes)};
	return v;
}

/* One call: what it opened, and the caller's options. */
struct serving {
	gw_job *job;
	const struct gw_serve_opts *o;
	bool has_fd; /* gw_serve_fd */
	int fd;      /* until it is taken over; -1 */
	bool begun;  /* the page server had its say */
	struct gw__uri uri;
	struct gw__outgoing_opts dial;
	struct gw__tls_creds *tls;
	struct gw__image *image;
	struct gw__working_set *working_set;
	struct gw__outgoing out;
};

static int open_preempt(void *ctx, struct gw__chan **chan)
{
	struct serving *s = ctx;
	return gw__outgoing_connect_preempt(&s->job->run, &s->uri, &s->dial, chan);
}

static void on_connected(void *ctx)
{
	struct serving *s = ctx;
	if (GW__OPT(s->o, on_connected))
		s->o->on_connected(GW__OPT(s->o, ctx));
}

static void on_guest_runs(void *ctx)
{
	struct serving *s = ctx;
	if (GW__OPT(s->o, on_guest_runs))
		s->o->on_guest_runs(GW__OPT(s->o, ctx));
}

static int serve(struct serving *s, struct gw__pageserver_stats *stats, enum gw__postcopy_src_state *ended)
{
	struct gw__pageserver_block *blocks = copy_blocks(s->o);
	int wait = GW__OPT(s->o, answer_timeout_ms);
	struct gw__pageserver_opts so = {.resume = GW__OPT(s->o, resume),
		.takeover_fd = GW__OPT(s->o, takeover_fd),
		.on_guest_runs = on_guest_runs,
		.block = blocks,
		.blocks_n = blocks ? GW__OPT(s->o, blocks) : 0,
		.max_bandwidth = GW__OPT(GW__OPT(s->o, link), max_bandwidth),
		.working_set = s->working_set,
		.preempt = (enum gw__preempt)GW__OPT(s->o, preempt),
		.open_preempt = open_preempt,
		.on_connected = on_connected,
		.ctx = s,
		.answer_ms = wait ? wait : ANSWER_MS};
	if (!blocks)
		return gw__error_set(&s->job->run.error, -ENOMEM, "no memory for a list of blocks");
	s->begun = true;
	const struct gw__page_source pages = gw__image_pages(s->image);
	int r = gw__pageserver(&s->job->run, &pages, s->out.main, &so, stats, ended);
	free(blocks);
	return r;
}

static int check(const struct serving *s)
{
	struct gw__error *error = &s->job->run.error;
	unsigned preempt = GW__OPT(s->o, preempt);
	if (GW__OPT(s->o, takeover_fd) && !GW__OPT(s->o, resume))
		return gw__error_set(error, -EINVAL, "only a recovery can be joined");
	if (preempt && !gw__uri_listens(&s->uri))
		return gw__error_set(error, -EINVAL,
			"%s: a preempt channel needs an address to connect to a second time: tcp, unix or vsock", s->uri.text);
	return 0;
}

static int open_working_set(struct serving *s)
{
	const char *path = GW__OPT(s->o, working_set);
	struct gw__error note = {0};
	int r = path ? gw__working_set_open(path, s->image, true, &s->working_set, &note) : 0;
	if (r)
		return gw__error_set(&s->job->run.error, r, "no memory for the working set");
	if (note.code == -ESTALE) /* after every new save; the next one is recorded instead */
		gw__run_warn(&s->job->run, "%s", note.text);
	else if (note.code && GW__OPT(s->o, on_note))
		s->o->on_note(GW__OPT(s->o, ctx), note.text);
	if (path && s->working_set->unrecorded.code)
		GW__TRACE(&s->job->run.trace, working_set, "not recorded: %s", s->working_set->unrecorded.text);
	return 0;
}

static int take_main(struct serving *s)
{
	int fd = s->fd;
	s->fd = -1;
	return gw__job_take_fd(s->job, fd, "the destination", s->o->link, GW__TLS_CLIENT, &s->tls, &s->out.main);
}

static int connect_main(struct serving *s)
{
	const struct gw_link_opts *link = GW__OPT(s->o, link);
	s->dial.io = gw__job_io_opts(s->job, link);
	int r = gw__job_tls(s->job, link, GW__TLS_CLIENT, &s->tls);
	s->dial.tls = s->tls;
	s->dial.io.on_socket = GW__OPT(s->o, on_socket);
	s->dial.io.ctx = GW__OPT(s->o, ctx);
	if (!r)
		r = gw__outgoing_connect(&s->job->run, &s->uri, &s->dial, &s->out);
	s->dial.io.on_socket = NULL; /* the main channel's alone */
	return r;
}

static int connect_or_take(struct serving *s)
{
	int r = s->has_fd ? take_main(s) : connect_main(s);
	if (!r && !s->out.main->two_way)
		r = gw__error_set(&s->job->run.error, -EINVAL, "%s: post-copy needs a socket, the destination has to ask for pages",
			s->uri.text);
	return r;
}

static void finish(struct serving *s)
{
	if (s->fd >= 0)
		close(s->fd);
	gw__outgoing_close(&s->out);
	gw__tls_creds_free(s->tls);
	gw__working_set_close(s->working_set);
	gw__image_close(s->image);
	free(s);
}

struct serve_args {
	const char *path, *uri;
	bool has_fd; /* instead of the URI */
	int fd;
	const struct gw_serve_opts *o;
	struct gw_serve_result *result;
};

static int begin(struct serving *s, const struct serve_args *a, struct gw_serve_opts *o)
{
	int r = gw__job_begin(s->job, 0);
	int bad = gw__take_serve_opts(s->job, a->o, o);
	char descriptor[32];
	const char *uri = a->has_fd ? descriptor : a->uri;
	snprintf(descriptor, sizeof descriptor, "fd:%d", a->fd < 0 ? 0 : a->fd);
	s->o = o;
	r = r ? r : bad;
	if (!r)
		r = GW__CHECK(a->result, &s->job->run.error);
	if (!r)
		r = GW__NEED(s->job, a->path);
	if (!r)
		r = GW__NEED(s->job, uri);
	if (!r)
		r = gw__uri_parse(uri, &s->uri, &s->job->run.error);
	return r ? r : check(s);
}

static int serve_image(gw_job *job, void *args)
{
	const struct serve_args *a = args;
	struct gw_serve_opts o;
	bool resume = GW__OPT(a->o, resume);
	struct gw__pageserver_stats stats = {0};
	enum gw__postcopy_src_state ended = resume ? GW__POSTCOPY_SRC_PAUSED : GW__POSTCOPY_SRC_SETUP;
	struct gw__location at = gw__location_at(resume ? GW__PLACE_DESTINATION_WAITS : GW__PLACE_KEPT_WHOLE);
	struct serving *s = calloc(1, sizeof *s);
	if (!s && a->fd >= 0)
		close(a->fd);
	if (!s)
		return gw__error_set(&job->run.error, -ENOMEM, "no memory");
	s->job = job;
	s->has_fd = a->has_fd;
	s->fd = a->fd;
	int r = begin(s, a, &o);
	if (!r)
		r = gw__image_open(a->path, o.image_offset, &s->image, &job->run.error);
	if (!r && !o.resume)
		r = gw__job_check_devices(job, s->image);
	if (!r)
		r = open_working_set(s);
	if (!r)
		r = connect_or_take(s);
	if (!r)
		r = serve(s, &stats, &ended);
	if (s->begun)
		gw__pageserver_locate(ended, &at);
	else
		gw__location_note(&at, resume ? GW__LOCATION_EV_DESTINATION_WAITS : gw__location_event_before(r));
	struct gw_outcome *outcome = gw__job_end_at(job, at);
	outcome->peer_notified = !r;
	outcome->committed = true;
	make_result(&stats, ended, outcome, a->result);
	finish(s);
	return r;
}

int gw_serve(gw_job *job, const char *path, const char *uri, const struct gw_serve_opts *o, struct gw_serve_result *result)
{
	const struct serve_args a = {path, uri, false, -1, o, result};
	return gw__call(job, serve_image, &a, sizeof a);
}

int gw_serve_fd(gw_job *job, const char *path, int fd, const struct gw_serve_opts *o, struct gw_serve_result *result)
{
	const struct serve_args a = {path, NULL, true, fd, o, result};
	return gw__call_with_fd(job, serve_image, &a, sizeof a, fd);
}
