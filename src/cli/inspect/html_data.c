/* SPDX-License-Identifier: MIT */
/* The data of the page; see html_data.h. */
#include "cli/inspect/html_data.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/ui/output.h"

/* Bytes of the page for each list; with the page itself, they are less than 2 MiB. */
enum { BLOCK_BYTES = 576 << 10, DEVICE_BYTES = 320 << 10, FIELD_BYTES = 704 << 10, DIFFERENCE_BYTES = 128 << 10 };
enum { CELLS_MOST = 65536, BLOCK_CELLS_MOST = 16384 };

char *gw__html_text(const json_t *o)
{
	char *text = o ? json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY) : NULL;
	char *to = text ? malloc(6 * strlen(text) + 1) : NULL, *p = to;
	for (const char *from = text; to && *from; from++)
		if (strchr("<>&\x7f", *from))
			p += sprintf(p, "\\u%04x", (unsigned)*from);
		else
			*p++ = *from;
	if (to)
		*p = 0;
	free(text);
	return to;
}

/* Appends `o`, which it owns, if there is room for it. */
static bool add(json_t *list, json_t *o, size_t *room)
{
	char *text = gw__html_text(o);
	size_t bytes = text ? strlen(text) + 1 : SIZE_MAX;
	bool fits = bytes <= *room;
	free(text);
	if (fits)
		*room -= bytes;
	if (!fits || json_array_append(list, o))
		fits = false;
	json_decref(o);
	return fits;
}

/* --- the map --- */

static uint64_t cell_pages(uint64_t pages, uint64_t most) { return pages ? (pages - 1) / most + 1 : 1; }

/* So many cells for a block at most that all blocks together stay within their limit. */
static uint64_t cells_for_each(const struct gw__inspect *in)
{
	uint64_t most = 2 * BLOCK_CELLS_MOST, sum = CELLS_MOST + 1;
	while (sum > CELLS_MOST && most > 1) {
		struct gw_info_block b = GW_INIT(b);
		most /= 2;
		sum = 0;
		for (uint32_t i = 0; gw_info_block(in->info, i, &b) == 0; i++)
			sum += gw__min(b.used_bytes / in->summary.page_bytes, most);
	}
	return most;
}

/* One character: A is none of n, / is all of them, between them are 62 steps. */
static char level(uint64_t count, uint64_t n)
{
	static const char steps[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	if (!count || count == n)
		return steps[count ? 63 : 0];
	return steps[1 + count * 62 / n];
}

struct map {
	char *present, *working_set, *differing;
	struct gw_info_pages all;
};

static void fill_map(const struct gw__inspect *in, uint32_t block, uint64_t pages, uint64_t each, struct map *m)
{
	struct gw_info_pages c = GW_INIT(c);
	uint64_t cell = 0;
	for (uint64_t first = 0; first < pages; first += each, cell++) {
		uint64_t n = gw__min(each, pages - first);
		if (gw_info_pages(in->info, block, first, n, &c))
			break;
		m->present[cell] = level(c.present, n);
		m->working_set[cell] = level(c.working_set, n);
		m->differing[cell] = level(c.differing, n);
		m->all.differing += c.differing;
		m->all.working_set += c.working_set;
	}
}

static json_t *block_json(const struct gw__inspect *in, uint32_t i, const struct gw_info_block *b, uint64_t most)
{
	uint64_t pages = b->used_bytes / in->summary.page_bytes, each = cell_pages(pages, most);
	uint64_t cells = pages / each + (pages % each != 0);
	json_t *o = gw__inspect_block_json(in, b);
	char *room = calloc(3, cells + 1);
	struct map m = {.present = room, .working_set = room + cells + 1, .differing = room + 2 * (cells + 1)};
	if (room && !b->ignored) {
		fill_map(in, i, pages, each, &m);
		json_object_set_new(o, "cell_pages", gw__cli_json_size(each));
		json_object_set_new(o, "present", json_string(m.present));
	}
	if (room && m.all.working_set)
		json_object_set_new(o, "working_set", json_string(m.working_set));
	if (room && in->compare) {
		json_object_set_new(o, "differing_pages", gw__cli_json_size(m.all.differing));
		json_object_set_new(o, "differing", json_string(m.differing));
	}
	free(room);
	return o;
}

static json_t *blocks_json(const struct gw__inspect *in, uint64_t *left_out)
{
	json_t *list = json_array();
	size_t room = BLOCK_BYTES;
	struct gw_info_block b = GW_INIT(b);
	uint64_t most = cells_for_each(in);
	for (uint32_t i = 0; gw_info_block(in->info, i, &b) == 0; i++)
		*left_out += !add(list, block_json(in, i, &b, most), &room);
	return list;
}

/* --- devices --- */

/* An array, as there are many: path, type, offset, bytes, depth, elements, value. */
static json_t *field_json(const struct gw_info_field *f, const struct gw_info_device *d)
{
	struct gw__inspect_value v = {""};
	if (!f->is_struct)
		gw__inspect_value(f, d, &v);
	return json_pack("[o,o,o,o,i,o,o]", gw__cli_json_text(f->path), gw__cli_json_text(f->type), gw__cli_json_size(f->off),
		gw__cli_json_size(f->bytes), (int)f->depth, gw__cli_json_size(f->array_len),
		f->is_struct ? json_null() : json_string(*v.text ? v.text + 1 : ""));
}

static json_t *fields_json(const struct gw__inspect *in, uint32_t i, const struct gw_info_device *d, size_t *room, uint64_t *left_out)
{
	json_t *list = json_array();
	struct gw_info_field f = GW_INIT(f);
	int r;
	for (uint32_t k = 0; (r = gw_info_field(in->info, i, k, &f)) == 0; k++)
		*left_out += !add(list, field_json(&f, d), room);
	*left_out += gw__inspect_say_too_many(d, r);
	return list;
}

static json_t *devices_json(const struct gw__inspect *in, uint64_t *left_out, uint64_t *fields_left_out)
{
	json_t *list = json_array();
	size_t room = DEVICE_BYTES, field_room = FIELD_BYTES;
	struct gw_info_device d = GW_INIT(d);
	for (uint32_t i = 0; gw_info_device(in->info, i, &d) == 0; i++) {
		json_t *o = json_pack("{so sI sI so so sb}", "name", gw__cli_json_text(d.name), "instance", (json_int_t)d.instance,
			"version", (json_int_t)d.version, "offset", gw__cli_json_size(d.off), "bytes", gw__cli_json_size(d.bytes), "early",
			d.early);
		if (!add(list, json_incref(o), &room))
			++*left_out;
		else
			json_object_set_new(o, "fields", fields_json(in, i, &d, &field_room, fields_left_out));
		json_decref(o);
	}
	return list;
}

/* --- all of it --- */

static json_t *differences_json(const struct gw__inspect *in, uint64_t *left_out)
{
	json_t *list = json_array();
	size_t room = DIFFERENCE_BYTES;
	const char *text;
	for (uint32_t i = 0; in->compare && (text = gw_info_difference(in->info, i)); i++)
		*left_out += !add(list, gw__cli_json_text(text), &room);
	return list;
}

json_t *gw__html_data(const struct gw__inspect *in)
{
	uint64_t blocks = 0, devices = 0, fields = 0, differences = 0;
	json_t *working_set = gw__inspect_working_set_json(in);
	json_t *o = json_pack("{ss so so so so so so}", "version", GW__VERSION, "guest", gw__inspect_guest_json(in), "compare",
		gw__cli_json_text(in->compare), "working_set", working_set ? working_set : json_null(), "blocks", blocks_json(in, &blocks),
		"devices", devices_json(in, &devices, &fields), "differences", differences_json(in, &differences));
	if (!o)
		return NULL;
	json_object_set_new(o, "left_out",
		json_pack("{so so so so}", "blocks", gw__cli_json_size(blocks), "devices", gw__cli_json_size(devices), "fields",
			gw__cli_json_size(fields), "differences", gw__cli_json_size(differences)));
	return o;
}
