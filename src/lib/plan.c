/* SPDX-License-Identifier: MIT */
/* gw_plan_restore: the public face of src/plan. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/info.h"
#include "lib/job.h"
#include "plan/restore_method.h"
#include "plan/run_state.h"

static struct gw__plan_block *blocks_of_info(const gw_info *info)
{
	const struct gw__blocks *blocks = &info->guest.blocks;
	struct gw__plan_block *v = calloc(blocks->n, sizeof *v);
	for (uint32_t i = 0; v && i < blocks->n; i++)
		v[i] = (struct gw__plan_block){.name = blocks->v[i].name,
			.used_bytes = blocks->v[i].used_bytes,
			.ignored = blocks->v[i].ignored};
	return v;
}

static struct gw__plan_block *blocks_of_destination(const struct gw_destination *d)
{
	uint32_t n = GW__OPT(d, blocks);
	struct gw__plan_block *v = calloc((size_t)n + 1, sizeof *v);
	for (uint32_t i = 0; v && i < n; i++) {
		const struct gw_destination_block *b = GW_AT(d->block, i);
		v[i] = (struct gw__plan_block){
			.name = GW__OPT(b, name),
			.used_bytes = GW__OPT(b, used_bytes),
			.max_bytes = GW__OPT(b, max_bytes),
			.unshared = GW__OPT(b, unshared),
			.mapped = GW__OPT(b, mapped),
		};
	}
	return v;
}

/* Names, one for each device section. */
static const char **sections_of_info(const gw_info *info)
{
	const char **v = calloc((size_t)info->guest.devices_n + 1, sizeof *v);
	for (uint32_t i = 0; v && i < info->guest.devices_n; i++)
		v[i] = info->guest.device[i].section.idstr;
	return v;
}

/* Every architecture has this section once for each CPU. */
static uint32_t cpus_of_info(const gw_info *info)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < info->guest.devices_n; i++)
		n += !strcmp(info->guest.device[i].section.idstr, "cpu_common");
	return n;
}

static struct gw__plan_device *devices_of_destination(const struct gw_destination *d)
{
	uint32_t n = GW__OPT(d, devices);
	struct gw__plan_device *v = calloc((size_t)n + 1, sizeof *v);
	for (uint32_t i = 0; v && i < n; i++)
		v[i] = (struct gw__plan_device){GW__OPT(GW_AT(d->device, i), address), GW__OPT(GW_AT(d->device, i), type)};
	return v;
}

int gw_plan_restore(const gw_info *info, const struct gw_destination *d, struct gw_restore_plan *plan)
{
	int bad = info && d && plan ? GW__CHECK(d, NULL) : -EINVAL;
	if (!bad)
		bad = GW__CHECK(plan, NULL);
	if (bad)
		return bad;
	struct gw__plan_block *ours = blocks_of_info(info), *theirs = blocks_of_destination(d);
	struct gw__plan_device *devices = devices_of_destination(d);
	const char **sections = sections_of_info(info);
	struct gw_restore_plan out = {.way = GW_WAY_REFUSED, .reason = "no memory"};
	if (ours && theirs && devices && sections) {
		struct gw__plan_guest g = {
			.machine = info->guest.config.machine,
			.image = info->format == GW_FORMAT_IMAGE,
			.ignore_shared = info->guest.config.ignore_shared,
			.memory_only = info->guest.config.memory_only,
			.xbzrle = info->summary.xbzrle_bytes > 0,
			.page_bytes = info->summary.page_bytes,
			.blocks_n = info->guest.blocks.n,
			.block = ours,
			.cpus = cpus_of_info(info),
			.sections_n = info->guest.devices_n,
			.section = sections,
		};
		struct gw__plan_destination there = {
			.machine = GW__OPT(d, machine),
			.reads_images = GW__OPT(d, reads_images),
			.accepts_ignored_blocks = GW__OPT(d, accepts_ignored_blocks),
			.same_host = GW__OPT(d, same_host),
			.blocks_n = GW__OPT(d, blocks),
			.block = theirs,
			.cpus = GW__OPT(d, cpus),
			.devices_n = GW__OPT(d, devices),
			.device = devices,
		};
		static const enum gw_way public[] = {[GW__RESTORE_METHOD_REFUSED] = GW_WAY_REFUSED,
			[GW__RESTORE_METHOD_DIRECT] = GW_WAY_DIRECT,
			[GW__RESTORE_METHOD_STREAM] = GW_WAY_STREAM,
			[GW__RESTORE_METHOD_CLONE] = GW_WAY_CLONE};
		out.way = public[gw__plan_restore_method(&g, &there, out.reason, sizeof out.reason)];
	}
	free(ours);
	free(theirs);
	free(devices);
	free(sections);
	gw__struct_out(plan, plan->size, &out, sizeof out);
	return 0;
}

int gw_plan_run_state(enum gw_run_state state, unsigned qemu, bool stop, struct gw_run_state_plan *plan)
{
	static const enum gw_after_save public[] = {[GW__RUN_REFUSED] = GW_AFTER_REFUSED,
		[GW__RUN_RUNS] = GW_AFTER_RUNS,
		[GW__RUN_KEPT] = GW_AFTER_KEPT,
		[GW__RUN_STOPPED] = GW_AFTER_STOPPED};
	struct gw_run_state_plan out = {.after = GW_AFTER_REFUSED};
	const char *name = gw_run_state_name(state);
	int r = name && plan ? GW__CHECK(plan, NULL) : -EINVAL;
	if (r)
		return r;
	out.after = public[gw__plan_run_state(name, qemu, stop, out.reason, sizeof out.reason)];
	gw__struct_out(plan, plan->size, &out, sizeof out);
	return 0;
}
