/* SPDX-License-Identifier: MIT */
/*
 * gw_serve as a command, for destinations made by hand, which have no monitor:
 *   serve-tool IMAGE URI [resume] [preempt|early] [answer-ms=N] [idle-ms=N] [rate=BYTES/S] [ws=FILE] [BLOCK=PAGE_BYTES]...
 * The result goes to stdout as key=value lines, the sentence of a failure to stderr. Status 0 or 1. Not the godwit command.
 */
#include <godwit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS_MAX = 8 };

static int take_option(char *text, struct gw_serve_opts *o, struct gw_link_opts *link, struct gw_serve_block *blocks)
{
	char *value = strchr(text, '=');
	static const struct {
		const char *word;
		bool resume;
		enum gw_preempt preempt;
	} words[] = {{"resume", true, 0}, {"preempt", false, GW_PREEMPT_ON}, {"early", false, GW_PREEMPT_EARLY}};
	for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++)
		if (!strcmp(text, words[i].word)) {
			o->resume |= words[i].resume;
			o->preempt |= words[i].preempt;
			return 0;
		}
	if (!value)
		return -1;
	*value++ = 0;
	if (!strcmp(text, "answer-ms"))
		o->answer_timeout_ms = atoi(value);
	else if (!strcmp(text, "idle-ms"))
		link->idle_timeout_ms = atoi(value);
	else if (!strcmp(text, "ws"))
		o->working_set = value;
	else if (!strcmp(text, "rate"))
		link->max_bandwidth = strtoull(value, NULL, 0);
	else if (o->blocks == BLOCKS_MAX)
		return -1;
	else
		blocks[o->blocks++] = (struct gw_serve_block){sizeof *blocks, text, strtoull(value, NULL, 0)};
	return 0;
}

static int serve(const char *image, const char *uri, const struct gw_serve_opts *o)
{
	struct gw_serve_result res = GW_INIT(res);
	gw_job *job = NULL;
	if (gw_job_new(&job))
		return -1;
	int r = gw_serve(job, image, uri, o, &res);
	if (r)
		fprintf(stderr, "%s\n", gw_job_error(job));
	printf("recoverable=%d\nstate=%s\nrequests=%ju\nrequested_pages=%ju\npushed_pages=%ju\nzero_pages=%ju\nalready_there=%ju\n",
		res.recoverable, gw_migration_state_name(res.state), (uintmax_t)res.requests, (uintmax_t)res.requested_pages,
		(uintmax_t)res.pushed_pages, (uintmax_t)res.zero_pages, (uintmax_t)res.already_there);
	printf("latency_p50_us=%ju\nlatency_p99_us=%ju\nlatency_max_us=%ju\nworking_set_pages=%ju\n", (uintmax_t)res.latency_p50_us,
		(uintmax_t)res.latency_p99_us, (uintmax_t)res.latency_max_us, (uintmax_t)res.working_set_pages);
	gw_job_free(job);
	return r;
}

static void note(void *ctx, const char *sentence) { fprintf(stderr, "%s\n", sentence); }

int main(int argc, char **argv)
{
	struct gw_serve_block blocks[BLOCKS_MAX];
	struct gw_link_opts link = GW_INIT(link);
	struct gw_serve_opts o = GW_INIT(o);
	o.link = &link;
	o.on_note = note;
	o.block = blocks;
	for (int i = 3; i < argc; i++)
		if (take_option(argv[i], &o, &link, blocks))
			argc = 0;
	if (argc < 3) {
		fprintf(stderr,
			"usage: serve-tool IMAGE URI [resume] [preempt|early] [answer-ms=N] [idle-ms=N] [rate=N] [ws=FILE] [BLOCK=PAGE_BYTES]...\n");
		return 2;
	}
	return serve(argv[1], argv[2], &o) ? 1 : 0;
}
