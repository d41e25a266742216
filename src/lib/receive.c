/* SPDX-License-Identifier: MIT */
/* gw_receive: peer to image. */
#include <errno.h>
#include <stdlib.h>

#include "engine/sinks.h"
#include "lib/job.h"

static void make_receipt(const struct gw__stream_tally *t, const gw_job *job, bool told, struct gw_receipt *receipt)
{
	struct gw_receipt ours = {
		.stream_bytes = t->stream_bytes,
		.ram_bytes = atomic_load(&job->run.counters.total_bytes),
		.pages = t->pages,
		.zero_pages = t->zero_pages,
		.xbzrle_pages = t->xbzrle_pages,
		.devices = t->devices,
		.rounds = t->parts,
		.told_source = told,
		.background = t->background,
		.trailing_bytes = t->trailing_bytes,
	};
	gw__struct_out(receipt, receipt ? receipt->size : 0, &ours, sizeof ours);
}

/* The target is checked before the peer is waited for: nobody wants to learn after an hour that a folder is read-only. */
static int open_sink(gw_job *job, const char *path, const struct gw_receive_opts *o, struct gw__sink **sink)
{
	struct gw__image_writer *writer = NULL;
	struct gw__image_writer_opts wo = {.base_off = GW__OPT(o, image_offset)};
	int r = gw__image_create(path, &wo, &writer, &job->run.why);
	if (!r)
		r = gw__sink_image_new(&writer, sink, &job->run.why);
	gw__image_writer_close(writer);
	return r;
}

static int receive(gw_job *job, struct gw__chan **chan, struct gw__sink *sink, const struct gw_receive_opts *o,
	struct gw_receipt *receipt)
{
	struct gw__stream_tally tally = {0};
	int r = gw__job_filter(job, GW__OPT(o, link), chan);
	if (!r)
		r = gw__pull_stream(&job->run, *chan, sink, &tally);
	if (!r)
		make_receipt(&tally, job, tally.return_path && (*chan)->two_way, receipt);
	gw__stream_tally_fini(&tally);
	return r;
}

static int ready(gw_job *job, const struct gw_receive_opts *o)
{
	int r = GW__OPT(o, on_ready) ? o->on_ready(GW__OPT(o, ctx)) : 0;
	return r ? gw__why_set(&job->run.why, r, "the source could not be started") : 0;
}

static int accept_one(gw_job *job, const struct gw__uri *uri, const struct gw_receive_opts *o, struct gw__chan **chan)
{
	const struct gw_link_opts *link = GW__OPT(o, link);
	struct gw__io_opts io = gw__job_io_opts(job, link);
	if (!gw__uri_listens(uri)) {
		int r = ready(job, o);
		return r ? r : gw__io_open_in(uri, &io, chan, &job->run.why);
	}
	struct gw__listener *listener = NULL;
	io.connect_ms = GW__OPT(link, connect_timeout_ms) ? GW__OPT(link, connect_timeout_ms) : -1;
	int r = gw__io_listen(uri, &io, &listener, &job->run.why);
	if (r)
		return r;
	if (GW__OPT(o, on_listening))
		o->on_listening(GW__OPT(o, ctx), gw__listener_uri(listener));
	r = ready(job, o);
	if (!r)
		r = gw__listener_accept(listener, chan, &job->run.why);
	gw__listener_close(listener); /* one migration, one connection: others are refused from here on */
	return r;
}

int gw_receive(gw_job *job, const char *uri_text, const char *path, const struct gw_receive_opts *o, struct gw_receipt *receipt)
{
	struct gw__sink *sink = NULL;
	struct gw__chan *chan = NULL;
	struct gw__uri *uri = malloc(sizeof *uri);
	int r = gw__job_begin(job, GW__OPT(o, memory_limit));
	if (!r)
		r = uri ? gw__uri_parse(uri_text, uri, &job->run.why) : gw__why_set(&job->run.why, -ENOMEM, "no memory");
	if (!r)
		r = open_sink(job, path, o, &sink);
	if (!r)
		r = accept_one(job, uri, o, &chan);
	if (!r)
		r = receive(job, &chan, sink, o, receipt);
	gw__sink_free(&sink);
	gw__chan_close(&chan, NULL);
	free(uri);
	return r;
}

int gw_receive_fd(gw_job *job, int fd, const char *path, const struct gw_receive_opts *o, struct gw_receipt *receipt)
{
	struct gw__sink *sink = NULL;
	struct gw__chan *chan = NULL;
	struct gw__io_opts io = gw__job_io_opts(job, GW__OPT(o, link));
	int begun = gw__job_begin(job, GW__OPT(o, memory_limit));
	int r = gw__chan_take_fd(fd, "the source", &io, &chan, &job->run.why);
	if (!r)
		r = begun;
	if (!r)
		r = open_sink(job, path, o, &sink);
	if (!r)
		r = ready(job, o);
	if (!r)
		r = receive(job, &chan, sink, o, receipt);
	gw__sink_free(&sink);
	gw__chan_close(&chan, NULL);
	return r;
}
