/* SPDX-License-Identifier: MIT */
/*
 * The VM description as a whole: bounds, JSON, devices, lifetime; see vmdesc.h and docs/spec/stream.md 8.1.
 *
 * Everything is judged during the parse, once, so that a walk can trust what it reads. JSON trees live no
 * longer than that, and those of two devices not at the same time. The description belongs to the caller; it
 * never changes again, so several threads may walk it.
 */
#include "wire/vmdesc_build.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "wire/header.h"
#include "wire/vmdesc_pieces.h"

#define TREE_MAX_BYTES (UINT64_C(32) << 20) /* of one device, or of all else; some 100 kB are usual */

/*
 * The most memory jansson may need for a text, from what its nodes cost: an empty object of two characters
 * takes more than 200 bytes, so the text's length alone bounds nothing.
 */
static uint64_t tree_bytes(const uint8_t *text, size_t n)
{
	enum { OBJECT = 240, ARRAY = 144, MEMBER = 112 };
	uint64_t sum = n;
	bool in_string = false;
	for (size_t i = 0; i < n; i++) {
		if (in_string && text[i] == '\\')
			i++;
		else if (text[i] == '"')
			in_string = !in_string;
		else if (!in_string && text[i] == '{')
			sum += OBJECT;
		else if (!in_string && text[i] == '[')
			sum += ARRAY;
		else if (!in_string && (text[i] == ',' || text[i] == ':'))
			sum += MEMBER;
	}
	return sum;
}

/* A device of the old kind: no structure, one opaque field whose size is said twice. */
static int parse_legacy(struct gw__vmdesc_build *b, const json_t *j, uint32_t at)
{
	uint64_t bytes;
	int r = gw__vmdesc_take_number(b, j, "size", GW__VMDESC_FIELD_MAX_BYTES, &bytes);
	if (!r)
		r = gw__vmdesc_build_fields(b, j, at);
	if (r)
		return r;
	const struct gw__vmdesc_object *o = &b->d->objects[at];
	const struct gw__vmdesc_part *f = o->fields_n == 1 ? &b->d->fields[o->field] : NULL;
	if (f && f->array_len == 1 && f->bytes == bytes)
		return 0;
	return gw__error_set(b->error, -EPROTO, "a device without \"vmsd_name\" must have one field of its \"size\", %llu bytes",
		(unsigned long long)bytes);
}

static int parse_named(struct gw__vmdesc_build *b, const json_t *j, struct gw__vmdesc_root *root)
{
	int r = gw__vmdesc_take_u32(b, j, "instance_id", &root->instance);
	if (!r)
		r = gw__vmdesc_add_objects(b, 1, &root->object);
	if (r)
		return r;
	root->legacy = !json_object_get(j, "vmsd_name");
	return root->legacy ? parse_legacy(b, j, root->object) : gw__vmdesc_build_object(b, j, root->object);
}

static int parse_device(struct gw__vmdesc_build *b, const json_t *j, struct gw__vmdesc_root *root)
{
	int r = gw__vmdesc_take_name(b, j, "name", &root->name);
	if (r)
		return r;
	r = parse_named(b, j, root);
	if (r)
		gw__error_where(b->error, "\"%s\"", b->d->text + root->name);
	return r;
}

static int parse_page_size(struct gw__vmdesc_build *b, const json_t *j)
{
	if (!json_object_get(j, "page_size"))
		return 0;
	int r = gw__vmdesc_take_number(b, j, "page_size", UINT64_C(1) << GW__PAGE_BITS_MAX, &b->d->page_bytes);
	if (r)
		return r;
	if (gw__is_power_of_2(b->d->page_bytes) && b->d->page_bytes >= UINT64_C(1) << GW__PAGE_BITS_MIN)
		return 0;
	return gw__error_set(b->error, -EPROTO, "\"page_size\" is %llu, expected a power of two from %u to %u",
		(unsigned long long)b->d->page_bytes, 1u << GW__PAGE_BITS_MIN, 1u << GW__PAGE_BITS_MAX);
}

/* Jansson quotes the text it fell over; a terminal must not obey it. */
static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
}

/* One JSON value, that stands at `from` of the whole text. */
static int load(const uint8_t *text, size_t n, size_t from, json_t **j, struct gw__error *error)
{
	json_error_t e;
	*j = NULL;
	if (tree_bytes(text, n) > TREE_MAX_BYTES)
		return gw__error_set(error, -E2BIG, "the %zu bytes at %zu would take more than %llu bytes as a tree", n, from,
			(unsigned long long)TREE_MAX_BYTES);
	*j = json_loadb((const char *)text, n, JSON_DECODE_ANY, &e);
	if (*j)
		return 0;
	/* Jansson has words for everything but a lack of memory, and even that it may take for bad syntax. */
	if (!e.text[0])
		return gw__error_set(error, -ENOMEM, "no memory for the JSON");
	make_printable(e.text);
	return gw__error_set(error, -EPROTO, "not JSON at byte %zu: %s", from + (size_t)e.position, e.text);
}

/* The text without its devices, which come one by one: what is left must be right in itself. */
static int load_rest(const uint8_t *text, size_t n, const struct gw__vmdesc_pieces *devices, json_t **j, struct gw__error *error)
{
	size_t before = devices->from, behind = n - devices->to;
	uint8_t *rest = malloc(before + behind);
	if (!rest)
		return gw__error_set(error, -ENOMEM, "no memory for %zu bytes of it", before + behind);
	memcpy(rest, text, before);
	memcpy(rest + before, text + devices->to, behind);
	int r = load(rest, before + behind, 0, j, error);
	free(rest);
	return r;
}

static int add_device(struct gw__vmdesc_build *b, uint32_t *room)
{
	struct gw__vmdesc *d = b->d;
	if (d->devices_n == *room) {
		uint32_t more = *room ? *room * 2 : 64;
		void *v = realloc(d->devices, more * sizeof *d->devices);
		if (!v)
			return gw__vmdesc_no_memory(b);
		d->devices = v;
		*room = more;
	}
	d->devices[d->devices_n++] = (struct gw__vmdesc_root){0};
	return 0;
}

static int load_device(struct gw__vmdesc_build *b, const uint8_t *text, size_t from, size_t to, uint32_t *room)
{
	json_t *j;
	uint32_t i = b->d->devices_n;
	int r = load(text + from, to - from, from, &j, b->error);
	if (!r && !json_is_object(j))
		r = gw__error_set(b->error, -EPROTO, "\"devices\" has an element %u that is not an object", i);
	if (!r)
		r = add_device(b, room);
	if (!r) {
		r = parse_device(b, j, &b->d->devices[i]);
		if (r)
			gw__error_where(b->error, "device %u", i);
	}
	json_decref(j);
	return r;
}

static int load_devices(struct gw__vmdesc_build *b, struct gw__vmdesc_pieces *devices)
{
	size_t from, to;
	uint32_t room = 0;
	int r = 0;
	while (!r && gw__vmdesc_next_piece(devices, &from, &to))
		r = load_device(b, devices->text, from, to, &room);
	return r;
}

/* What stands around the devices. */
static int check_rest(struct gw__vmdesc_build *b, const json_t *j)
{
	const json_t *list;
	uint32_t n;
	int r = gw__vmdesc_take_list(b, j, "devices", &list, &n);
	if (!r && n)
		r = gw__error_set(b->error, -EPROTO, "\"devices\" stands there twice");
	return r ? r : parse_page_size(b, j);
}

static int build(struct gw__vmdesc_build *b, const uint8_t *text, size_t n)
{
	struct gw__vmdesc_pieces devices;
	json_t *j = NULL;
	b->d->text = malloc(b->text_room);
	if (!b->d->text)
		return gw__vmdesc_no_memory(b);
	b->d->text[b->d->text_n++] = 0;
	bool found = gw__vmdesc_find_devices(text, n, &devices);
	int r = found ? load_rest(text, n, &devices, &j, b->error) : load(text, n, 0, &j, b->error);
	if (!r)
		r = check_rest(b, j);
	json_decref(j);
	return r || !found ? r : load_devices(b, &devices);
}

int gw__vmdesc_parse(const uint8_t *text, size_t n, struct gw__vmdesc **d, struct gw__error *error)
{
	struct gw__error here = {0}; /* the caller's may hold an earlier sentence, which must not be prefixed */
	struct gw__vmdesc_build b = {.error = &here, .text_room = n + 1};
	int r = n > GW__VMDESC_MAX_BYTES ? gw__error_set(&here, -E2BIG, "it has %zu bytes, expected at most %u", n, GW__VMDESC_MAX_BYTES)
					 : 0;
	if (!r && !(b.d = calloc(1, sizeof *b.d)))
		r = gw__vmdesc_no_memory(&b);
	if (!r)
		r = build(&b, text, n);
	if (!r) {
		*d = b.d;
		return 0;
	}
	gw__vmdesc_free(b.d);
	return gw__error_set(error, r, "VM description: %s", here.text);
}

void gw__vmdesc_free(struct gw__vmdesc *d)
{
	if (!d)
		return;
	free(d->text);
	free(d->fields);
	free(d->objects);
	free(d->devices);
	free(d);
}

uint64_t gw__vmdesc_page_bytes(const struct gw__vmdesc *d) { return d->page_bytes; }

size_t gw__vmdesc_count(const struct gw__vmdesc *d) { return d->devices_n; }

struct gw__vmdesc_device gw__vmdesc_device(const struct gw__vmdesc *d, size_t i)
{
	assert(i < d->devices_n);
	const struct gw__vmdesc_root *root = &d->devices[i];
	const struct gw__vmdesc_object *o = &d->objects[root->object];
	return (struct gw__vmdesc_device){
		.name = d->text + root->name,
		.vmsd_name = root->legacy ? NULL : d->text + o->vmsd_name,
		.instance = root->instance,
		.has_version = !root->legacy,
		.version = o->version,
	};
}
