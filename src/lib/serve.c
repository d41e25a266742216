/* SPDX-License-Identifier: MIT */
/* gw_serve: the page server of an image. */
#include <errno.h>
#include <stdlib.h>

#include "engine/dial.h"
#include "engine/serve.h"
#include "lib/job.h"

enum { ANSWER_MS = 60000 };

static uint64_t to_us(uint64_t ns) { return ns / 1000 + (ns % 1000 != 0); }

static void make_result(const struct gw__serve_tally *t, struct gw_serve_result *result)
{
	struct gw_serve_result ours = {
		.recoverable = t->state == GW__PC_PAUSED,
		.state = gw__pc_state_name(t->state),
		.requests = t->requests,
		.requested_pages = t->requested_pages,
		.pushed_pages = t->pushed_pages,
		.zero_pages = t->zero_pages,
		.already_there = t->already_there,
		.latency_p50_us = to_us(gw__histogram_quantile(&t->latency, 500)),
		.latency_p99_us = to_us(gw__histogram_quantile(&t->latency, 990)),
		.latency_max_us = to_us(t->latency.max),
	};
	gw__struct_out(result, result ? result->size : 0, &ours, sizeof ours);
}

static struct gw__serve_block *copy_blocks(const struct gw_serve_opts *o)
{
	uint32_t n = GW__OPT(o, blocks);
	struct gw__serve_block *v = calloc(n + 1, sizeof *v);
	for (uint32_t i = 0; v && i < n; i++)
		v[i] = (struct gw__serve_block){o->block[i].name, o->block[i].page_bytes};
	return v;
}

static int serve(gw_job *job, const struct gw__image *image, struct gw__chan *chan, const struct gw_serve_opts *o,
	struct gw__serve_tally *tally)
{
	struct gw__serve_block *blocks = copy_blocks(o);
	int wait = GW__OPT(o, answer_timeout_ms);
	struct gw__serve_opts so = {.resume = GW__OPT(o, resume),
		.block = blocks,
		.blocks_n = blocks ? GW__OPT(o, blocks) : 0,
		.max_bandwidth = GW__OPT(GW__OPT(o, link), max_bandwidth),
		.answer_ms = wait ? wait : ANSWER_MS};
	if (!blocks)
		return gw__why_set(&job->run.why, -ENOMEM, "no memory for a list of blocks");
	int r = gw__serve(&job->run, image, chan, &so, tally);
	free(blocks);
	return r;
}

int gw_serve(gw_job *job, const char *path, const char *uri_text, const struct gw_serve_opts *o, struct gw_serve_result *result)
{
	struct gw__serve_tally tally = {.state = GW__OPT(o, resume) ? GW__PC_PAUSED : GW__PC_SETUP};
	struct gw__outgoing out = {0};
	struct gw__tls_creds *tls = NULL;
	struct gw__image *image = NULL;
	struct gw__uri *uri = malloc(sizeof *uri);
	struct gw__dial_opts d = {.channels = 0};
	int r = gw__job_begin(job, 0);
	d.io = gw__job_io_opts(job, GW__OPT(o, link));
	if (!r)
		r = uri ? gw__uri_parse(uri_text, uri, &job->run.why) : gw__why_set(&job->run.why, -ENOMEM, "no memory");
	if (!r)
		r = gw__image_open(path, GW__OPT(o, image_offset), &image, &job->run.why);
	if (!r)
		r = gw__job_tls(job, GW__OPT(o, link), GW__TLS_CLIENT, &tls);
	d.tls = tls;
	if (!r)
		r = gw__dial(&job->run, uri, &d, &out);
	if (!r && !out.main->two_way)
		r = gw__why_set(&job->run.why, -EINVAL, "%s: post-copy needs a socket, the destination has to ask for pages", uri->text);
	if (!r && GW__OPT(o, on_connected))
		o->on_connected(GW__OPT(o, ctx));
	if (!r)
		r = serve(job, image, out.main, o, &tally);
	make_result(&tally, result);
	gw__outgoing_close(&out);
	gw__tls_creds_free(tls);
	gw__image_close(image);
	free(uri);
	return r;
}
