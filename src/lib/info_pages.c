/* SPDX-License-Identifier: MIT */
/* Which pages of a kept guest are present, in its working set, or different from another one's; see info.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/files/compare.h"
#include "engine/files/stored_guest.h"
#include "lib/info.h"
#include "lib/job.h"

/* Made by whoever comes first. NULL: no memory. */
static struct gw__info_pages *pages_of(struct gw_info *info)
{
	if (!info->pages)
		info->pages = calloc(1, sizeof *info->pages);
	if (info->pages)
		info->pages->blocks = info->guest.blocks.n;
	return info->pages;
}

static int no_memory(struct gw__error *error) { return gw__error_set(error, -ENOMEM, "no memory for the bitmaps of the pages"); }

static struct gw__bitmap *take(struct gw__bitmap *from, uint32_t n)
{
	struct gw__bitmap *to = calloc(n ? n : 1, sizeof *to);
	for (uint32_t i = 0; to && from && i < n; i++) {
		to[i] = from[i];
		from[i] = (struct gw__bitmap){0};
	}
	return to;
}

int gw__info_take_pages(struct gw_info *info, struct gw__image *image, struct gw__error *error)
{
	struct gw__info_pages *p = pages_of(info);
	struct gw__bitmap *from = image ? image->present : info->guest.present;
	if (p)
		p->present = take(from, p->blocks);
	return p && p->present ? 0 : no_memory(error);
}

int gw__info_take_known(struct gw_info *info, struct gw__working_set *ws, struct gw__error *error)
{
	struct gw__info_pages *p = pages_of(info);
	if (p)
		p->known = take(ws->known, p->blocks);
	return p && p->known ? 0 : no_memory(error);
}

static bool keep_difference(void *ctx, const char *sentence)
{
	struct gw__info_pages *p = ctx;
	if (p->differences < GW__INFO_DIFFERENCES)
		p->difference[p->differences] = strdup(sentence);
	p->differences++;
	return true;
}

static void count_others(struct gw__info_pages *p)
{
	char text[64];
	if (p->differences <= GW__INFO_DIFFERENCES)
		return;
	snprintf(text, sizeof text, "there are %u more differences", p->differences - GW__INFO_DIFFERENCES);
	p->difference[GW__INFO_DIFFERENCES] = strdup(text);
}

static int make_differing(struct gw__info_pages *p, const struct gw__image *image, struct gw__error *error)
{
	int r = 0;
	p->differing = calloc(p->blocks ? p->blocks : 1, sizeof *p->differing);
	if (!p->differing)
		return no_memory(error);
	for (uint32_t i = 0; !r && i < p->blocks; i++)
		r = gw__bitmap_init(&p->differing[i], image->present[i].bits);
	return r ? no_memory(error) : 0;
}

int gw__info_compare(struct gw__run *run, struct gw_info *info, const struct gw__image *image, const char *path)
{
	struct gw__stored_guest other = {0};
	struct gw__info_pages *p = pages_of(info);
	int r = p ? make_differing(p, image, &run->error) : no_memory(&run->error);
	if (!r)
		r = gw__stored_guest_open(run, path, 0, &other);
	if (!r)
		r = gw__stored_guest_as_image(run, &other);
	if (!r)
		r = gw__compare_images(run, image, other.image, p->differing, keep_difference, p);
	gw__stored_guest_close(&other);
	if (r < 0)
		return r;
	count_others(p);
	return 0;
}

static void free_bitmaps(struct gw__bitmap *b, uint32_t n)
{
	for (uint32_t i = 0; b && i < n; i++)
		gw__bitmap_fini(&b[i]);
	free(b);
}

void gw__info_pages_free(struct gw__info_pages *p)
{
	if (!p)
		return;
	free_bitmaps(p->present, p->blocks);
	free_bitmaps(p->known, p->blocks);
	free_bitmaps(p->differing, p->blocks);
	for (unsigned i = 0; i <= GW__INFO_DIFFERENCES; i++)
		free(p->difference[i]);
	free(p);
}

/* Of pages [first, first + n); a block that is not in the file has an empty bitmap. */
static uint64_t count(const struct gw__bitmap *b, uint32_t block, uint64_t first, uint64_t n)
{
	return b && first + n <= b[block].bits ? gw__bitmap_count_range(&b[block], first, n) : 0;
}

int gw_info_pages(const gw_info *info, uint32_t block, uint64_t first, uint64_t n, struct gw_info_pages *out)
{
	int r = info && out ? GW__CHECK(out, NULL) : -EINVAL;
	if (r)
		return r;
	const struct gw__info_pages *p = info->pages;
	if (!p || !p->present)
		return -ENODATA;
	uint64_t page_bytes = gw__config_page_bytes(&info->guest.config);
	if (block >= p->blocks || first > info->guest.blocks.v[block].used_bytes / page_bytes ||
		n > info->guest.blocks.v[block].used_bytes / page_bytes - first)
		return -ERANGE;
	struct gw_info_pages ours = {
		.present = count(p->present, block, first, n),
		.working_set = count(p->known, block, first, n),
		.differing = count(p->differing, block, first, n),
	};
	gw__struct_out(out, out->size, &ours, sizeof ours);
	return 0;
}

const char *gw_info_difference(const gw_info *info, uint32_t i)
{
	return info && info->pages && i <= GW__INFO_DIFFERENCES ? info->pages->difference[i] : NULL;
}
