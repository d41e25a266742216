/* SPDX-License-Identifier: MIT */
/* gw_plan_restore: the public face of src/plan. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/info.h"
#include "lib/job.h"
#include "plan/restore.h"

static struct gw__plan_block *blocks_of_info(const gw_info *info)
{
	const struct gw__blocks *blocks = &info->gist.blocks;
	struct gw__plan_block *v = calloc(blocks->n, sizeof *v);
	for (uint32_t i = 0; v && i < blocks->n; i++)
		v[i] = (struct gw__plan_block){.name = blocks->v[i].name,
			.used_bytes = blocks->v[i].used_bytes,
			.ignored = blocks->v[i].ignored};
	return v;
}

static struct gw__plan_block *blocks_of_destination(const struct gw_destination *d)
{
	struct gw__plan_block *v = calloc(d->blocks + 1, sizeof *v);
	for (uint32_t i = 0; v && i < d->blocks; i++)
		v[i] = (struct gw__plan_block){
			.name = d->block[i].name,
			.used_bytes = d->block[i].used_bytes,
			.max_bytes = d->block[i].max_bytes,
			.unshared = d->block[i].unshared,
		};
	return v;
}

int gw_plan_restore(const gw_info *info, const struct gw_destination *d, struct gw_restore_plan *plan)
{
	int bad = GW__CHECK(d, NULL);
	if (!bad)
		bad = GW__CHECK(plan, NULL);
	if (bad)
		return bad;
	struct gw__plan_block *ours = blocks_of_info(info), *theirs = blocks_of_destination(d);
	struct gw_restore_plan out = {.way = GW_WAY_REFUSED, .why = "no memory"};
	if (ours && theirs) {
		struct gw__plan_guest g = {
			.machine = info->gist.config.machine,
			.image = info->format == GW_FORMAT_IMAGE,
			.ignore_shared = info->gist.config.ignore_shared,
			.memory_only = info->gist.config.memory_only,
			.xbzrle = info->summary.xbzrle_bytes > 0,
			.page_bytes = info->summary.page_bytes,
			.blocks_n = info->gist.blocks.n,
			.block = ours,
		};
		struct gw__plan_destination there = {
			.machine = d->machine,
			.reads_images = d->reads_images,
			.reads_gaps = d->reads_gaps,
			.same_host = d->same_host,
			.blocks_n = d->blocks,
			.block = theirs,
		};
		static const enum gw_way public[] =
			{[GW__WAY_REFUSED] = GW_WAY_REFUSED, [GW__WAY_DIRECT] = GW_WAY_DIRECT, [GW__WAY_STREAM] = GW_WAY_STREAM};
		out.way = public[gw__plan_restore(&g, &there, out.why, sizeof out.why)];
	}
	free(ours);
	free(theirs);
	gw__struct_out(plan, plan->size, &out, sizeof out);
	return 0;
}
