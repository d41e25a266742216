/* SPDX-License-Identifier: MIT */
/* gw_inspect: reads a kept guest and sums up what it is. The accessors are in info.c. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/sink/summary.h"
#include "image/read/working_set.h"
#include "lib/info.h"
#include "lib/inspect_checkpoints.h"
#include "lib/job.h"

static void warn(struct gw_info *info, const char *fmt, ...) GW__PRINTF(2, 3);

enum { FOOTER_BYTES = 5, STATE_NAME_BYTES = 32 };

static void warn(struct gw_info *info, const char *fmt, ...)
{
	if (info->warnings_n == GW__INFO_WARNINGS)
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(info->warning[info->warnings_n++], sizeof info->warning[0], fmt, ap);
	va_end(ap);
}

struct gw__view gw__info_body(const struct gw_info *info, uint32_t i)
{
	size_t n = gw__section_body_bytes(&info->guest.device[i].section, info->guest.device[i].bytes);
	size_t head = info->guest.device[i].bytes - n - FOOTER_BYTES;
	return (struct gw__view){info->guest.raw + info->guest.device[i].at + head, n};
}

/* docs/spec/stream.md 8.4: be32 length, then the name of the run state, NUL-padded. */
static void find_run_state(struct gw_info *info)
{
	for (uint32_t i = 0; i < info->guest.devices_n; i++) {
		struct gw__view body = gw__info_body(info, i);
		if (strcmp(info->guest.device[i].section.idstr, "globalstate") || body.n < 4 + STATE_NAME_BYTES)
			continue;
		memcpy(info->run_state, body.p + 4, STATE_NAME_BYTES);
		if (gw__name_ok(info->run_state, strlen(info->run_state)))
			info->summary.run_state_name = info->run_state;
	}
}

static int describe(gw_job *job, struct gw_info *info)
{
	struct gw_info_summary *s = &info->summary;
	const struct gw__guest_summary *g = &info->guest;
	s->format = info->format;
	s->machine = g->config.machine;
	s->page_bytes = gw__config_page_bytes(&g->config);
	s->ram_bytes = g->blocks.total_bytes;
	s->uuid = g->config.has_uuid ? g->config.uuid : NULL;
	s->capabilities = g->config.caps_n;
	s->memory_only = g->config.memory_only;
	s->blocks = g->blocks.n;
	s->devices = g->devices_n;
	s->described = g->text != NULL;
	s->description_bytes = g->text_bytes;
	s->device_bytes = g->raw_bytes + g->piece_bytes;
	find_run_state(info);
	s->run_state = gw_run_state_find(s->run_state_name);
	if (!g->text) {
		warn(info, "there is no VM description: device sections were told apart by their footers");
		return 0;
	}
	return gw__vmdesc_parse((const uint8_t *)g->text, g->text_bytes, &info->desc, &job->run.error);
}

static void sum_stream(struct gw_info *info, struct gw__stream_stats *t)
{
	struct gw_info_summary *s = &info->summary;
	s->end_off = s->begin_off + t->stream_bytes;
	s->trailing_bytes = t->trailing_bytes;
	s->switchover = t->switchover;
	s->background = t->background;
	s->return_path = t->return_path;
	s->postcopy_advised = t->advised;
	s->rounds = t->parts;
	s->page_bytes_stored = t->page_payload_bytes;
	s->zero_pages = t->zero_pages;
	s->xbzrle_bytes = t->xbzrle_bytes;
	s->framing_bytes = t->stream_bytes - t->page_payload_bytes - t->xbzrle_bytes - t->device_bytes - s->description_bytes;
	info->block = t->block;
	t->block = NULL;
}

static int sum_checkpoints(gw_job *job, struct gw_info *info, const char *path)
{
	struct gw_info_summary *s = &info->summary;
	struct gw__checkpoints c;
	if (!s->return_path)
		return 0;
	int r = gw__inspect_checkpoints(&job->run, path, s->begin_off, s->end_off, &c);
	if (r || !c.whole)
		return r;
	s->checkpoints = c.whole;
	s->checkpoint_pages = c.pages;
	s->checkpoint_zero_pages = c.zero_pages;
	s->checkpoint_bytes = c.end_off - s->end_off;
	s->trailing_bytes = c.file_bytes - c.end_off;
	return 0;
}

static int sum_image(gw_job *job, struct gw_info *info, const struct gw__image *image)
{
	struct gw_info_summary *s = &info->summary;
	info->block = calloc(image->blocks.n, sizeof *info->block);
	if (!info->block)
		return gw__error_set(&job->run.error, -ENOMEM, "no memory for %u RAM blocks", image->blocks.n);
	for (uint32_t i = 0; i < image->blocks.n; i++) {
		if (image->blocks.v[i].ignored)
			continue;
		uint64_t present = gw__bitmap_count(&image->present[i]);
		info->block[i].pages = present;
		info->block[i].zero_pages = image->present[i].bits - present;
		s->page_bytes_stored += present << image->config.page_bits;
		s->zero_pages += info->block[i].zero_pages;
	}
	s->end_off = image->end_off;
	s->trailing_bytes = image->file_bytes - image->end_off;
	s->switchover = image->switchover;
	s->rounds = image->parts;
	uint8_t id[GW__IMAGE_FINGERPRINT_BYTES];
	int r = gw__image_fingerprint(image, id, &job->run.error);
	for (unsigned i = 0; !r && i < sizeof id; i++)
		snprintf(s->fingerprint + 2 * i, 3, "%02x", id[i]);
	if (s->trailing_bytes)
		warn(info, "%llu bytes follow after the end of the image", (unsigned long long)s->trailing_bytes);
	return r;
}

static int sum_working_set(gw_job *job, struct gw_info *info, const struct gw__image *image, const char *path, bool keep)
{
	struct gw_info_working_set *sum = &info->working_set.sum;
	struct gw__working_set *ws = NULL;
	info->working_set.pages = calloc(image->blocks.n, sizeof *info->working_set.pages);
	if (!info->working_set.pages || gw__working_set_open(path, image, false, &ws, &info->working_set.unused))
		return gw__error_set(&job->run.error, -ENOMEM, "no memory for the working set");
	info->working_set.there = ws->state != GW__WS_NONE;
	*sum = (struct gw_info_working_set){.runs = ws->runs,
		.begun = ws->head.begun_s,
		.added = ws->added_s,
		.torn_bytes = ws->torn_bytes};
	for (uint32_t i = 0; i < image->blocks.n; i++) {
		info->working_set.pages[i] = gw__bitmap_count(&ws->known[i]);
		sum->pages += info->working_set.pages[i];
	}
	int r = keep ? gw__info_take_known(info, ws, &job->run.error) : 0;
	gw__working_set_close(ws);
	return r;
}

static int look(gw_job *job, struct gw__stored_guest *stored, const struct gw_inspect_opts *o, struct gw_info *info)
{
	bool every_page = GW__OPT(o, every_page);
	struct gw__stream_stats stats = {0};
	struct gw__sink *sink = NULL;
	int r = gw__sink_summary_new(&info->guest, job->run.tail_max_bytes, &sink, &job->run.error);
	info->format = stored->image ? GW_FORMAT_IMAGE : GW_FORMAT_STREAM;
	info->guest.wants_present = !stored->image && GW__OPT(o, pages);
	info->summary.begin_off = stored->base_off;
	if (!r && stored->image && !every_page)
		r = gw__stored_guest_describe(&job->run, stored, sink);
	else if (!r)
		r = gw__stored_guest_run(&job->run, stored, sink, &stats);
	if (!r)
		r = describe(job, info);
	info->fields_room_bytes = job->run.tail_max_bytes;
	for (unsigned i = 0; i < job->run.warnings.n; i++)
		warn(info, "%s", job->run.warnings.text[i]);
	if (!r && stored->image)
		r = sum_image(job, info, stored->image);
	else if (!r)
		sum_stream(info, &stats);
	gw__sink_free(&sink);
	gw__stream_stats_fini(&stats);
	return r;
}

/* The first reason is the one that is told. */
static bool cannot(struct gw_info *info, const char *fmt, ...) GW__PRINTF(2, 3);
static bool cannot(struct gw_info *info, const char *fmt, ...)
{
	va_list ap;
	if (info->summary.not_clonable)
		return false;
	va_start(ap, fmt);
	vsnprintf(info->not_clonable, sizeof info->not_clonable, fmt, ap);
	va_end(ap);
	info->summary.not_clonable = info->not_clonable;
	return false;
}

static int check_cancel(void *run) { return gw__run_check_cancel(run); }

/* Can a QEMU map this block out of the file, and find what the image means? docs/spec/mapped-ram.md 11. 1, 0 or a negative errno. */
static int block_is_clonable(gw_job *job, struct gw_info *info, const struct gw__image *image, uint32_t i)
{
	const struct gw__block *b = &image->blocks.v[i];
	uint64_t unit = (uint64_t)sysconf(_SC_PAGESIZE), page = 0;
	if (b->ignored)
		return cannot(info, "RAM block \"%s\" is not in the image, because its source shared it", b->name);
	if (b->pages_off % unit || b->used_bytes % unit)
		return cannot(info,
			"the pages of RAM block \"%s\" are not aligned to %llu bytes in the file; godwit convert makes an image of it whose are",
			b->name, (unsigned long long)unit);
	int r = gw__image_find_stale(image, i, (struct gw__cancel_check){check_cancel, &job->run}, &page, &job->run.error);
	if (r)
		return r;
	if (page < image->present[i].bits)
		return cannot(info,
			"page %llu of RAM block \"%s\" is zero in the image and has old content in the file, as QEMU leaves it; godwit convert makes an image of it that is clonable",
			(unsigned long long)page, b->name);
	return 1;
}

static int sum_clonable(gw_job *job, struct gw_info *info, const struct gw__image *image)
{
	int r = 0;
	if (!image)
		return cannot(info, "it is a stream; godwit convert makes an image of it");
	if (info->summary.memory_only)
		return cannot(info, "it is memory without devices");
	info->block_clonable = calloc(image->blocks.n, sizeof *info->block_clonable);
	if (!info->block_clonable)
		return gw__error_set(&job->run.error, -ENOMEM, "no memory for %u RAM blocks", image->blocks.n);
	for (uint32_t i = 0; r >= 0 && i < image->blocks.n; i++) {
		r = block_is_clonable(job, info, image, i);
		info->block_clonable[i] = r > 0;
	}
	info->summary.clonable = r >= 0 && !info->summary.not_clonable;
	return r < 0 ? r : 0;
}

/* What was asked for besides. The last step takes the bitmaps out of the image. */
static int look_closer(gw_job *job, struct gw_info *info, struct gw__image *image, const struct gw_inspect_opts *o)
{
	const char *other = GW__OPT(o, compare);
	int r = 0;
	if (other && !image)
		return gw__error_set(&job->run.error, -EINVAL,
			"a stream cannot be compared page by page; make an image of it with godwit convert, and compare that");
	if (other)
		r = gw__info_compare(&job->run, info, image, other);
	if (!r && image && GW__OPT(o, working_set))
		r = sum_working_set(job, info, image, o->working_set, GW__OPT(o, pages));
	if (!r && GW__OPT(o, clonable))
		r = sum_clonable(job, info, image);
	if (!r && GW__OPT(o, pages))
		r = gw__info_take_pages(info, image, &job->run.error);
	return r;
}

struct inspect_args {
	const char *path;
	const struct gw_inspect_opts *o;
	gw_info **info;
};

static int inspect(gw_job *job, void *args)
{
	const struct inspect_args *a = args;
	const struct gw_inspect_opts *o = a->o;
	struct gw__stored_guest stored = {0};
	gw_info *made = calloc(1, sizeof *made);
	int r = gw__job_begin(job, GW__OPT(o, memory_limit));
	if (made)
		pthread_mutex_init(&made->lock, NULL);
	if (!r && !made)
		r = gw__error_set(&job->run.error, -ENOMEM, "no memory");
	if (!r)
		r = GW__CHECK(o, &job->run.error);
	if (!r)
		r = GW__NEED(job, a->path);
	if (!r)
		r = GW__NEED(job, a->info);
	if (!r)
		r = gw__stored_guest_open(&job->run, a->path, GW__OPT(o, offset), &stored);
	if (!r)
		r = look(job, &stored, o, made);
	if (!r && made->format == GW_FORMAT_STREAM && made->summary.trailing_bytes) {
		r = sum_checkpoints(job, made, a->path);
		if (!r && made->summary.trailing_bytes)
			warn(made, "more bytes follow after the end of the stream");
	}
	if (!r)
		r = look_closer(job, made, stored.image, o);
	gw__stored_guest_close(&stored);
	if (!r)
		made->path = strdup(a->path);
	if (!r && !made->path)
		r = gw__error_set(&job->run.error, -ENOMEM, "no memory");
	if (!r)
		made->summary.path = made->path;
	if (r) {
		gw_info_free(made);
		return r;
	}
	*a->info = made;
	return 0;
}

int gw_inspect(gw_job *job, const char *path, const struct gw_inspect_opts *o, gw_info **info)
{
	const struct inspect_args a = {path, o, info};
	return gw__call(job, inspect, &a, sizeof a);
}
