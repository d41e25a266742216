/* SPDX-License-Identifier: MIT */
/* gw_send: a kept guest to a waiting destination. */
#include <errno.h>
#include <stdlib.h>

#include "engine/sinks.h"
#include "lib/job.h"

enum { ANSWER_MS = 60000 };

static int send_over(gw_job *job, struct gw__kept *kept, struct gw__chan **chan, const struct gw_send_opts *o)
{
	struct gw__sink *sink = NULL;
	int wait = GW__OPT(o, answer_timeout_ms);
	struct gw__sink_stream_opts so = {.ask_back = (*chan)->two_way, .answer_ms = wait ? wait : ANSWER_MS};
	int r = gw__job_filter(job, GW__OPT(o, link), chan);
	if (!r)
		r = gw__sink_stream_new(&job->run, *chan, &so, &sink, &job->run.why);
	if (!r)
		r = gw__kept_pull(&job->run, kept, sink, NULL);
	gw__sink_free(&sink);
	int closed = gw__chan_close(chan, &job->run.why);
	return r ? r : closed;
}

int gw_send(gw_job *job, const char *path, const char *uri_text, const struct gw_send_opts *o)
{
	struct gw__kept kept = {0};
	struct gw__chan *chan = NULL;
	struct gw__uri *uri = malloc(sizeof *uri);
	int r = gw__job_begin(job, 0);
	struct gw__io_opts io = gw__job_io_opts(job, GW__OPT(o, link));
	if (!r)
		r = uri ? gw__uri_parse(uri_text, uri, &job->run.why) : gw__why_set(&job->run.why, -ENOMEM, "no memory");
	if (!r) /* the image first: connecting to a QEMU and going away again would end its wait */
		r = gw__kept_open(&job->run, path, GW__OPT(o, image_offset), &kept);
	if (!r)
		r = gw__io_open_out(uri, &io, &chan, &job->run.why);
	if (!r)
		r = send_over(job, &kept, &chan, o);
	gw__chan_close(&chan, NULL);
	gw__kept_close(&kept);
	free(uri);
	return r;
}

int gw_send_fd(gw_job *job, const char *path, int fd, const struct gw_send_opts *o)
{
	struct gw__kept kept = {0};
	struct gw__chan *chan = NULL;
	struct gw__io_opts io = gw__job_io_opts(job, GW__OPT(o, link));
	int begun = gw__job_begin(job, 0);
	int r = gw__chan_take_fd(fd, "the destination", &io, &chan, &job->run.why);
	if (!r)
		r = begun;
	if (!r)
		r = gw__kept_open(&job->run, path, GW__OPT(o, image_offset), &kept);
	if (!r)
		r = send_over(job, &kept, &chan, o);
	gw__chan_close(&chan, NULL);
	gw__kept_close(&kept);
	return r;
}
