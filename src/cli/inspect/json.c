/* SPDX-License-Identifier: MIT */
/* What inspect found, for programs: one object for the guest, one per RAM block, one per device with its
 * fields. */
#include <errno.h>
#include <stdio.h>

#include "cli/inspect/inspect.h"
#include "cli/ui/output.h"

static json_t *uuid_text(const struct gw_info_summary *s)
{
	char text[40], *to = text;
	if (!s->uuid)
		return json_null();
	for (unsigned i = 0; i < 16; i++)
		to += sprintf(to, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", s->uuid[i]);
	return json_string(text);
}

static json_t *list(const gw_info *info, const char *(*item)(const gw_info *info, uint32_t i))
{
	json_t *a = json_array();
	const char *text;
	for (uint32_t i = 0; (text = item(info, i)); i++)
		json_array_append_new(a, gw__cli_json_text(text));
	return a;
}

json_t *gw__inspect_guest_json(const struct gw__inspect *in)
{
	const struct gw_info_summary *s = &in->summary;
	json_t *bytes = json_pack("{so so so so so so}", "all", gw__cli_json_size(s->end_off - s->begin_off), "pages",
		gw__cli_json_size(s->page_bytes_stored), "xbzrle", gw__cli_json_size(s->xbzrle_bytes), "devices",
		gw__cli_json_size(s->device_bytes), "description", gw__cli_json_size(s->description_bytes), "framing",
		gw__cli_json_size(s->framing_bytes));
	json_t *o = json_pack("{ss so ss so so so so so so so so so si si si sb sb sb sb sb sb so so so so so}", "event", "guest", "file",
		gw__cli_json_text(in->file), "format", s->format == GW_FORMAT_IMAGE ? "image" : "stream", "machine",
		gw__cli_json_text(s->machine), "run_state", gw__cli_json_text(s->run_state_name), "uuid", uuid_text(s), "page_bytes",
		gw__cli_json_size(s->page_bytes), "ram_bytes", gw__cli_json_size(s->ram_bytes), "zero_pages",
		gw__cli_json_size(s->zero_pages), "begin", gw__cli_json_size(s->begin_off), "end", gw__cli_json_size(s->end_off),
		"trailing_bytes", gw__cli_json_size(s->trailing_bytes), "blocks", (int)s->blocks, "devices", (int)s->devices, "rounds",
		(int)s->rounds, "described", s->described, "switchover", s->switchover, "background", s->background, "return_path",
		s->return_path, "postcopy_advised", s->postcopy_advised, "memory_only", s->memory_only, "checkpoints",
		gw__cli_json_size(s->checkpoints), "checkpoint_pages", gw__cli_json_size(s->checkpoint_pages), "capabilities",
		list(in->info, gw_info_capability), "warnings", list(in->info, gw_info_warning), "bytes", bytes);
	if (s->format == GW_FORMAT_IMAGE) {
		json_object_set_new(o, "clonable", json_boolean(s->clonable));
		json_object_set_new(o, "not_clonable", gw__cli_json_text(s->not_clonable));
	}
	return o;
}

json_t *gw__inspect_block_json(const struct gw__inspect *in, const struct gw_info_block *b)
{
	json_t *o = json_pack("{ss so so so so so so so sb}", "event", "block", "name", gw__cli_json_text(b->name), "used_bytes",
		gw__cli_json_size(b->used_bytes), "backing_page_bytes", gw__cli_json_size(b->backing_page_bytes), "address",
		gw__cli_json_size(b->address), "pages", gw__cli_json_size(b->pages), "zero_pages", gw__cli_json_size(b->zero_pages),
		"xbzrle_pages", gw__cli_json_size(b->xbzrle_pages), "ignored", b->ignored);
	if (b->working_set_pages)
		json_object_set_new(o, "working_set_pages", gw__cli_json_size(b->working_set_pages));
	if (in->summary.format == GW_FORMAT_IMAGE) {
		json_object_set_new(o, "bitmap_offset", gw__cli_json_size(b->bitmap_off));
		json_object_set_new(o, "pages_offset", gw__cli_json_size(b->pages_off));
	}
	return o;
}

static void show_blocks(const struct gw__inspect *in)
{
	struct gw_info_block b = GW_INIT(b);
	for (uint32_t i = 0; gw_info_block(in->info, i, &b) == 0; i++)
		gw__cli_json(gw__inspect_block_json(in, &b));
}

json_t *gw__inspect_working_set_json(const struct gw__inspect *in)
{
	struct gw_info_working_set w = GW_INIT(w);
	if (gw_info_working_set(in->info, &w))
		return NULL;
	return json_pack("{ss so so so so so so so}", "event", "working_set", "file", gw__cli_json_text(in->working_set), "unused",
		gw__cli_json_text(w.unused), "pages", gw__cli_json_size(w.pages), "runs", gw__cli_json_size(w.runs), "begun",
		gw__cli_json_size(w.begun), "added", gw__cli_json_size(w.added), "torn_bytes", gw__cli_json_size(w.torn_bytes));
}

static void show_working_set(const struct gw__inspect *in)
{
	struct gw_info_working_set w = GW_INIT(w);
	if (!gw_info_working_set(in->info, &w))
		gw__cli_json(gw__inspect_working_set_json(in));
}

struct fields {
	const struct gw__inspect *in;
	const struct gw_info_device *d;
	uint32_t device;
};

static json_t *field_item(void *ctx, uint32_t k)
{
	const struct fields *of = ctx;
	struct gw_info_field f = GW_INIT(f);
	return gw_info_field(of->in->info, of->device, k, &f) ? NULL : gw__inspect_field_json(&f, of->d);
}

/* Of fields there may be more than fit into memory as objects. */
static void show_device(const struct gw__inspect *in, uint32_t i, const struct gw_info_device *d)
{
	struct gw_info_field f = GW_INIT(f);
	struct fields of = {in, d, i};
	uint32_t n = 0;
	int r;
	while ((r = gw_info_field(in->info, i, n, &f)) == 0)
		n++;
	json_t *o = json_pack("{ss so sI sI so so sb}", "event", "device", "name", gw__cli_json_text(d->name), "instance",
		(json_int_t)d->instance, "version", (json_int_t)d->version, "offset", gw__cli_json_size(d->off), "bytes",
		gw__cli_json_size(d->bytes), "early", d->early);
	gw__inspect_say_too_many(d, r);
	if (r == -ERANGE)
		gw__cli_json_and_list(o, "fields", n, field_item, &of);
	else
		gw__cli_json(o);
}

static void show_devices(const struct gw__inspect *in)
{
	struct gw_info_device d = GW_INIT(d);
	for (uint32_t i = 0; gw_info_device(in->info, i, &d) == 0; i++)
		if (!in->device || gw__inspect_wants(in, &d))
			show_device(in, i, &d);
}

void gw__inspect_json(const struct gw__inspect *in)
{
	bool all = !in->blocks && !in->devices && !in->device;
	if (all)
		gw__cli_json(gw__inspect_guest_json(in));
	if (all)
		show_working_set(in);
	if (all || in->blocks)
		show_blocks(in);
	if (all || in->devices || in->device)
		show_devices(in);
}
