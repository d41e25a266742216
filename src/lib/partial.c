/* SPDX-License-Identifier: MIT */
/* What an interrupted call left: PATH.partial and its state, looked at or deleted. Nothing of it is received here. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "lib/receive.h"

int gw__begun_open(gw_job *job, const char *path, struct gw__begun *b)
{
	int r = gw__job_begin(job, 0);
	if (!r)
		r = GW__NEED(job, path);
	if (r)
		return r;
	b->target = calloc(1, sizeof *b->target);
	if (!b->target)
		return gw__error_set(&job->run.error, -ENOMEM, "no memory");
	r = gw__destination_path_find(path, b->target, &job->run.error);
	return r ? r : gw__recv_state_look(b->target, &b->partial, &b->saved, &job->run.error);
}

void gw__begun_close(struct gw__begun *b)
{
	gw__recv_state_close(b->partial);
	if (b->target)
		gw__destination_path_fini(b->target);
	free(b->target);
}

/* One call of any of them. */
struct partial_args {
	const char *path;
	void **note;
	size_t *note_bytes;
	struct gw_partial_info *info;
};

static int user_data(gw_job *job, void *args)
{
	const struct partial_args *a = args;
	struct gw__begun begun = {0};
	int r = gw__job_begin(job, 0);
	if (!r)
		r = GW__NEED(job, a->note);
	if (!r)
		r = GW__NEED(job, a->note_bytes);
	if (!r)
		r = gw__begun_open(job, a->path, &begun);
	if (!r) {
		const struct gw__view *words = &begun.saved->user_data;
		*a->note = malloc(words->n + 1);
		*a->note_bytes = *a->note ? words->n : 0;
		if (*a->note && words->n)
			memcpy(*a->note, words->p, words->n);
		if (!*a->note)
			r = gw__error_set(&job->run.error, -ENOMEM, "no memory for a note of %zu bytes", words->n);
	}
	gw__begun_close(&begun);
	return r;
}

int gw_partial_user_data(gw_job *job, const char *path, void **note, size_t *note_bytes)
{
	const struct partial_args a = {.path = path, .note = note, .note_bytes = note_bytes};
	if (note)
		*note = NULL;
	if (note_bytes)
		*note_bytes = 0;
	return gw__call(job, user_data, &a, sizeof a);
}

static int drop(gw_job *job, void *args)
{
	const struct partial_args *a = args;
	struct gw__begun begun = {0};
	int r = gw__begun_open(job, a->path, &begun);
	if (!r)
		r = gw__recv_state_drop(begun.partial, &job->run.error);
	gw__begun_close(&begun);
	return r;
}

int gw_partial_drop(gw_job *job, const char *path)
{
	const struct partial_args a = {.path = path};
	return gw__call(job, drop, &a, sizeof a);
}

static enum gw_partial_kind kind_of(const struct gw__begun *b)
{
	if (gw__recv_state_finished_bytes(b->partial))
		return GW_PARTIAL_COMMITTED;
	if (gw__recv_state_is_layout_only(b->partial))
		return GW_PARTIAL_LAYOUT;
	return b->saved->package.n ? GW_PARTIAL_GUEST : GW_PARTIAL_MEMORY;
}

static void describe(const struct gw__begun *b, struct gw_partial_info *info)
{
	const struct gw__recv_state_saved *saved = b->saved;
	static_assert(sizeof info->machine >= sizeof saved->config.machine, "a machine's name fits");
	info->kind = kind_of(b);
	memcpy(info->machine, saved->config.machine, sizeof saved->config.machine);
	info->page_bytes = gw__config_page_bytes(&saved->config);
	info->blocks = saved->blocks.n;
	info->device_bytes = saved->early.n + saved->package.n;
	info->image_offset = saved->base_off;
	info->user_data_bytes = saved->user_data.n;
	for (uint32_t i = 0; i < saved->blocks.n; i++)
		info->ram_bytes += saved->blocks.v[i].ignored ? 0 : saved->blocks.v[i].used_bytes;
	if (info->kind == GW_PARTIAL_LAYOUT)
		info->missing_pages = info->ram_bytes / info->page_bytes;
}

static int look(gw_job *job, void *args)
{
	const struct partial_args *a = args;
	struct gw_partial_info ours = {0};
	struct gw__begun begun = {0};
	int r = gw__job_begin(job, 0);
	if (!r)
		r = GW__NEED(job, a->info);
	if (!r)
		r = GW__CHECK(a->info, &job->run.error);
	if (!r)
		r = gw__begun_open(job, a->path, &begun);
	if (!r)
		describe(&begun, &ours);
	if (!r && (ours.kind == GW_PARTIAL_GUEST || ours.kind == GW_PARTIAL_MEMORY))
		r = gw__recv_state_count_missing(begun.partial, &ours.missing_pages, &ours.host_crashed, &job->run.error);
	if (!r)
		gw__struct_out(a->info, a->info->size, &ours, sizeof ours);
	gw__begun_close(&begun);
	return r;
}

int gw_partial_info(gw_job *job, const char *path, struct gw_partial_info *info)
{
	const struct partial_args a = {.path = path, .info = info};
	return gw__call(job, look, &a, sizeof a);
}
