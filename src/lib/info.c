/* SPDX-License-Identifier: MIT */
/* Accessors of what inspect found. */
#include "engine/sink/summary.h"
#include "lib/info.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/job.h"

void gw_info_free(gw_info *info)
{
	if (!info)
		return;
	gw__guest_summary_fini(&info->guest);
	gw__vmdesc_free(info->desc);
	free(info->block);
	free(info->working_set.pages);
	free(info);
}

int gw_info_summary(const gw_info *info, struct gw_info_summary *s)
{
	int r = info && s ? GW__CHECK(s, NULL) : -EINVAL;
	if (r)
		return r;
	struct gw_info_summary ours = info->summary;
	ours.warnings = info->warnings_n;
	gw__struct_out(s, s->size, &ours, sizeof ours);
	return 0;
}

const char *gw_info_capability(const gw_info *info, uint32_t i)
{
	return info && i < info->guest.config.caps_n ? info->guest.config.caps[i] : NULL;
}

const char *gw_info_warning(const gw_info *info, uint32_t i) { return info && i < info->warnings_n ? info->warning[i] : NULL; }

int gw_info_block(const gw_info *info, uint32_t i, struct gw_info_block *b)
{
	int r = info && b ? GW__CHECK(b, NULL) : -EINVAL;
	if (r)
		return r;
	if (i >= info->guest.blocks.n)
		return -ERANGE;
	const struct gw__block *block = &info->guest.blocks.v[i];
	struct gw_info_block ours = {
		.name = block->name,
		.used_bytes = block->used_bytes,
		.backing_page_bytes = block->page_bytes,
		.address = block->address,
		.ignored = block->ignored,
		.pages = info->block[i].pages,
		.zero_pages = info->block[i].zero_pages,
		.xbzrle_pages = info->block[i].xbzrle_pages,
		.bitmap_off = block->bitmap_off,
		.pages_off = block->pages_off,
		.working_set_pages = info->working_set.pages ? info->working_set.pages[i] : 0,
	};
	gw__struct_out(b, b->size, &ours, sizeof ours);
	return 0;
}

int gw_info_working_set(const gw_info *info, struct gw_info_working_set *w)
{
	int r = info && w ? GW__CHECK(w, NULL) : -EINVAL;
	if (r)
		return r;
	struct gw_info_working_set ours = info->working_set.sum;
	if (!info->working_set.there)
		return -ENOENT;
	ours.unused = info->working_set.unused.code ? info->working_set.unused.text : NULL;
	gw__struct_out(w, w->size, &ours, sizeof ours);
	return 0;
}

int gw_info_device(const gw_info *info, uint32_t i, struct gw_info_device *d)
{
	int r = info && d ? GW__CHECK(d, NULL) : -EINVAL;
	if (r)
		return r;
	if (i >= info->guest.devices_n)
		return -ERANGE;
	const struct gw__section *s = &info->guest.device[i].section;
	struct gw__view body = gw__info_body(info, i);
	struct gw_info_device ours = {
		.name = s->idstr,
		.instance = s->instance,
		.version = s->version,
		.off = info->guest.device[i].off + (uint64_t)(body.p - info->guest.raw - info->guest.device[i].at),
		.bytes = body.n + info->guest.device[i].more,
		.early = info->guest.device[i].early,
		.body = body.p,
	};
	gw__struct_out(d, d->size, &ours, sizeof ours);
	return 0;
}

struct field_call {
	gw_field_fn *fn;
	void *ctx;
};

static void pass_field(void *ctx, const struct gw__vmdesc_field *field)
{
	struct field_call *call = ctx;
	struct gw_info_field f = {
		.size = sizeof f,
		.path = field->path,
		.type = field->type,
		.depth = field->depth,
		.is_struct = field->is_struct,
		.off = field->off,
		.bytes = field->bytes,
		.array_len = field->array_len,
	};
	call->fn(call->ctx, &f);
}

int gw_info_fields(const gw_info *info, uint32_t i, gw_field_fn *fn, void *ctx)
{
	if (!info || !fn)
		return -EINVAL;
	if (i >= info->guest.devices_n)
		return -ERANGE;
	uint32_t described = info->guest.device[i].described;
	if (!info->desc || described == UINT32_MAX)
		return -ENODATA;
	struct gw__view body = gw__info_body(info, i);
	struct field_call call = {fn, ctx};
	size_t len;
	return gw__vmdesc_walk(info->desc, described, body.p, body.n, &len, pass_field, &call, NULL) ? -EPROTO : 0;
}
