/* SPDX-License-Identifier: MIT */
/* gw_receive: peer to image. */
#include <errno.h>
#include <stdlib.h>

#include "engine/sinks.h"
#include "lib/combine.h"

static void make_receipt(const struct gw__stream_tally *t, const gw_job *job, bool told, struct gw_receipt *receipt)
{
	struct gw_receipt ours = {
		.stream_bytes = t->stream_bytes,
		.ram_bytes = atomic_load(&job->run.counters.total_bytes),
		.pages = t->pages + t->multifd.pages,
		.zero_pages = t->zero_pages + t->multifd.zero_pages,
		.xbzrle_pages = t->xbzrle_pages,
		.devices = t->devices,
		.rounds = t->parts,
		.told_source = told,
		.background = t->background,
		.trailing_bytes = t->trailing_bytes,
		.channels = t->multifd.channels,
		.multifd_bytes = t->multifd.bytes,
	};
	gw__struct_out(receipt, receipt ? receipt->size : 0, &ours, sizeof ours);
}

/* `there`: what carries the stream, as an ability. */
static int check_combination(gw_job *job, uint64_t there, const struct gw_receive_opts *o)
{
	uint64_t wanted = there | gw__ability_of_link(GW__OPT(o, link));
	wanted |= GW__OPT(o, channels) ? GW__ABILITY_BIT(GW__ABILITY_MULTIFD) : 0;
	wanted |= GW__OPT(o, direct_io) ? GW__ABILITY_BIT(GW__ABILITY_DIRECT_IO) : 0;
	wanted |= GW__OPT(o, image_offset) ? GW__ABILITY_BIT(GW__ABILITY_OFFSET) : 0;
	return gw__job_allow(job, GW__OPERATION_RECEIVE, wanted);
}

/* The target is checked before the peer is waited for: nobody wants to learn after an hour that a folder is read-only. */
static int open_sink(gw_job *job, const char *path, const struct gw_receive_opts *o, struct gw__sink **sink)
{
	struct gw__image_writer *writer = NULL;
	struct gw__image_writer_opts wo = {.base_off = GW__OPT(o, image_offset), .direct = GW__OPT(o, direct_io)};
	int r = gw__image_create(path, &wo, &writer, &job->run.why);
	if (!r)
		r = gw__sink_image_new(&writer, sink, &job->run.why);
	gw__image_writer_close(writer);
	return r;
}

static int filter_all(gw_job *job, struct gw__incoming *in, const struct gw_link_opts *link)
{
	int r = gw__job_filter(job, link, in->multifd_n + 1, &in->main);
	for (uint32_t i = 0; !r && i < in->multifd_n; i++)
		r = gw__job_filter(job, link, in->multifd_n + 1, &in->multifd[i]);
	return r;
}

static int receive(gw_job *job, struct gw__incoming *in, struct gw__sink *sink, const struct gw_receive_opts *o,
	struct gw_receipt *receipt)
{
	struct gw__stream_tally tally = {0};
	bool can_answer = in->main->two_way;
	int r = filter_all(job, in, GW__OPT(o, link));
	if (!r)
		r = gw__pull_incoming(&job->run, in, sink, &tally);
	if (r >= 0)
		make_receipt(&tally, job, !r && tally.return_path && can_answer, receipt);
	gw__stream_tally_fini(&tally);
	return r;
}

static int ready(gw_job *job, const struct gw_receive_opts *o)
{
	int r = GW__OPT(o, on_ready) ? o->on_ready(GW__OPT(o, ctx)) : 0;
	return r ? gw__why_set(&job->run.why, r, "the source could not be started") : 0;
}

/* All that stands between us and the source. The credentials outlive the channels that use them. */
struct link {
	struct gw__tls_creds *tls;
	struct gw__incoming in;
};

static void close_link(struct link *l)
{
	gw__incoming_close(&l->in);
	gw__tls_creds_free(l->tls);
}

static int wait_for_source(gw_job *job, const struct gw__uri *uri, const struct gw_receive_opts *o, struct link *l)
{
	const struct gw_link_opts *link = GW__OPT(o, link);
	struct gw__io_opts io = gw__job_io_opts(job, link);
	struct gw__gather_opts go = GW__GATHER_DEFAULTS;
	struct gw__listener *listener = NULL;
	int r = gw__job_tls(job, link, GW__TLS_SERVER, &l->tls);
	if (r)
		return r;
	go.channels = GW__OPT(o, channels);
	go.idle_ms = io.idle_ms;
	if (io.idle_ms >= 0) { /* who wants to hear of silence early, wants it here as well */
		go.hello_ms = io.idle_ms < go.hello_ms ? io.idle_ms : go.hello_ms;
		go.gather_ms = io.idle_ms < go.gather_ms ? io.idle_ms : go.gather_ms;
	}
	go.tls = l->tls;
	io.connect_ms = GW__OPT(link, connect_timeout_ms) ? GW__OPT(link, connect_timeout_ms) : -1;
	r = gw__io_listen(uri, &io, &listener, &job->run.why);
	if (r)
		return r;
	if (GW__OPT(o, on_listening))
		o->on_listening(GW__OPT(o, ctx), gw__listener_uri(listener));
	r = ready(job, o);
	if (!r)
		r = gw__gather(&job->run, listener, &go, &l->in);
	gw__listener_close(listener); /* one migration: others are refused from here on */
	return r;
}

/* What does not listen is one channel, and nobody is there to shake hands with. */
static int open_source(gw_job *job, const struct gw__uri *uri, const struct gw_receive_opts *o, struct link *l)
{
	struct gw__io_opts io = gw__job_io_opts(job, GW__OPT(o, link));
	if (GW__OPT(o, channels) > GW__MULTIFD_CHANNELS_MAX)
		return gw__why_set(&job->run.why, -EINVAL, "%u multifd channels, at most %d are possible", GW__OPT(o, channels),
			GW__MULTIFD_CHANNELS_MAX);
	if (gw__uri_listens(uri))
		return wait_for_source(job, uri, o, l);
	int r = ready(job, o);
	return r ? r : gw__io_open_in(uri, &io, &l->in.main, &job->run.why);
}

int gw_receive(gw_job *job, const char *uri_text, const char *path, const struct gw_receive_opts *o, struct gw_receipt *receipt)
{
	struct link l = {0};
	struct gw__sink *sink = NULL;
	struct gw__uri *uri = malloc(sizeof *uri);
	int r = gw__job_begin(job, GW__OPT(o, memory_limit));
	if (!r)
		r = uri ? gw__uri_parse(uri_text, uri, &job->run.why) : gw__why_set(&job->run.why, -ENOMEM, "no memory");
	if (!r)
		r = check_combination(job, gw__ability_of_uri(uri), o);
	if (!r)
		r = open_sink(job, path, o, &sink);
	if (!r)
		r = open_source(job, uri, o, &l);
	if (!r)
		r = receive(job, &l.in, sink, o, receipt);
	gw__sink_free(&sink);
	close_link(&l);
	free(uri);
	return r;
}

int gw_receive_fd(gw_job *job, int fd, const char *path, const struct gw_receive_opts *o, struct gw_receipt *receipt)
{
	struct link l = {0};
	struct gw__sink *sink = NULL;
	struct gw__io_opts io = gw__job_io_opts(job, GW__OPT(o, link));
	int begun = gw__job_begin(job, GW__OPT(o, memory_limit));
	int r = gw__chan_take_fd(fd, "the source", &io, &l.in.main, &job->run.why);
	if (!r)
		r = begun;
	if (!r)
		r = check_combination(job, GW__ABILITY_BIT(GW__ABILITY_FD), o);
	if (!r)
		r = open_sink(job, path, o, &sink);
	if (!r)
		r = ready(job, o);
	if (!r)
		r = receive(job, &l.in, sink, o, receipt);
	gw__sink_free(&sink);
	close_link(&l);
	return r;
}
