/* SPDX-License-Identifier: MIT */
/* Accessors of what inspect found. */
#include "engine/sink/summary.h"
#include "lib/info.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/job.h"

static void free_fields(struct gw_info *info)
{
	for (uint32_t i = 0; info->fields && i < info->guest.devices_n; i++) {
		for (uint32_t k = 0; k < info->fields[i].n; k++)
			free((char *)(uintptr_t)info->fields[i].v[k].path); /* and its type */
		free(info->fields[i].v);
	}
	free(info->fields);
}

void gw_info_free(gw_info *info)
{
	if (!info)
		return;
	free_fields(info);
	pthread_mutex_destroy(&info->lock);
	gw__guest_summary_fini(&info->guest);
	gw__vmdesc_free(info->desc);
	free(info->block);
	free(info->block_clonable);
	free(info->path);
	free(info->working_set.pages);
	gw__info_pages_free(info->pages);
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
		.clonable = info->block_clonable && info->block_clonable[i],
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

/* --- fields --- */

/* Both in one piece of memory. */
static const char *keep_names(const struct gw__vmdesc_field *field, const char **type)
{
	size_t path_bytes = strlen(field->path) + 1, type_bytes = strlen(field->type) + 1;
	char *names = malloc(path_bytes + type_bytes);
	if (!names)
		return NULL;
	*type = memcpy(names + path_bytes, field->type, type_bytes);
	return memcpy(names, field->path, path_bytes);
}

static bool make_room(struct gw__info_fields *to)
{
	if (to->n < to->room)
		return true;
	uint32_t room = to->room ? 2 * to->room : 16;
	struct gw_info_field *v = realloc(to->v, room * sizeof *v);
	if (!v)
		return false;
	to->v = v;
	to->room = room;
	return true;
}

/* A short description can ask for many fields with long paths, so what is kept is counted. */
static bool may_keep(struct gw_info *info, const struct gw__vmdesc_field *field)
{
	size_t bytes = sizeof(struct gw_info_field) + strlen(field->path) + strlen(field->type) + 2;
	if (bytes > info->fields_room_bytes)
		return false;
	info->fields_room_bytes -= bytes;
	return true;
}

struct keeping {
	struct gw_info *info;
	struct gw__info_fields *to;
};

static bool keep_field(void *ctx, const struct gw__vmdesc_field *field)
{
	struct keeping *keeping = ctx;
	struct gw__info_fields *to = keeping->to;
	struct gw_info_field f = {
		.size = sizeof f,
		.depth = field->depth,
		.is_struct = field->is_struct,
		.off = field->off,
		.bytes = field->bytes,
		.array_len = field->array_len,
	};
	if (!may_keep(keeping->info, field)) {
		to->end = -E2BIG;
		return false;
	}
	f.path = make_room(to) ? keep_names(field, &f.type) : NULL;
	if (f.path)
		to->v[to->n++] = f;
	else
		to->end = -ENOMEM;
	return f.path;
}

/* Locked. */
static void make_fields(struct gw_info *info, uint32_t device, struct gw__info_fields *to)
{
	uint32_t described = info->guest.device[device].described;
	struct gw__view body = gw__info_body(info, device);
	size_t len;
	if (!info->desc || described == UINT32_MAX) {
		to->end = -ENODATA;
		return;
	}
	struct keeping keeping = {info, to};
	int r = gw__vmdesc_walk(info->desc, described, body.p, body.n, &len, keep_field, &keeping, NULL);
	if (!to->end)
		to->end = r ? -EPROTO : -ERANGE;
}

static int find_field(struct gw_info *info, uint32_t device, uint32_t i, struct gw_info_field *f)
{
	if (!info->fields)
		info->fields = calloc(info->guest.devices_n, sizeof *info->fields);
	if (!info->fields)
		return -ENOMEM;
	struct gw__info_fields *of = &info->fields[device];
	if (!of->end)
		make_fields(info, device, of);
	if (i >= of->n)
		return of->end;
	*f = of->v[i];
	return 0;
}

int gw_info_field(const gw_info *info, uint32_t device, uint32_t i, struct gw_info_field *f)
{
	struct gw_info *inside = (struct gw_info *)(uintptr_t)info;
	struct gw_info_field ours;
	int r = info && f ? GW__CHECK(f, NULL) : -EINVAL;
	if (r)
		return r;
	if (device >= info->guest.devices_n)
		return -ERANGE;
	pthread_mutex_lock(&inside->lock);
	r = find_field(inside, device, i, &ours);
	pthread_mutex_unlock(&inside->lock);
	if (!r)
		gw__struct_out(f, f->size, &ours, sizeof ours);
	return r;
}
