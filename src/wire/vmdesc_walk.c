/* SPDX-License-Identifier: MIT */
/*
 * Walking a device's bytes with its description; see vmdesc.h and docs/spec/stream.md 8.1.
 *
 * Two walks. `measure` finds the length and believes only what a length depends on: the sizes of the device's
 * own fields, and its subsections' headers. `show` runs afterwards, inside the measured bytes, and descends
 * into structs; what does not fit there is left out, because a struct's size is true while its parts may
 * describe another element.
 */
#include "wire/vmdesc_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "base/conditions.h"
#include "wire/framing.h"

enum {
	COMPONENT_MAX = GW__NAME_MAX + sizeof ".[18446744073709551615]",
	PATH_ROOM = (GW__VMDESC_DEPTH_MAX + 2) * COMPONENT_MAX,
	STEPS_PER_BYTE = 16,
};

struct walk {
	const struct gw__vmdesc *d;
	const uint8_t *body;
	uint64_t steps; /* visits left: what keeps a short text from asking for a walk without end */
	gw__vmdesc_field_fn *fn;
	void *ctx;
	struct gw__error *error;
	char path[PATH_ROOM];
};

static const char *text_at(const struct walk *w, uint32_t at) { return w->d->text + at; }

static bool out_of_steps(struct walk *w)
{
	if (w->steps == 0)
		return true;
	w->steps--;
	return false;
}

/* All elements of a field that begins at `off`. 0, or GW__SHORT when they do not end before `end`. */
static int field_bytes(const struct walk *w, const struct gw__vmdesc_part *f, uint64_t off, uint64_t end, uint64_t *bytes)
{
	uint64_t at = off;
	if (!f->is_str8) {
		*bytes = f->bytes * f->array_len; /* the parse saw to it that this fits */
		return *bytes <= end - off ? 0 : GW__SHORT;
	}
	for (uint64_t i = 0; i < f->array_len; i++) {
		if (at >= end || w->body[at] > end - at - 1)
			return GW__SHORT;
		at += 1u + w->body[at];
	}
	*bytes = at - off;
	return 0;
}

/* 05, name, version: as the description says, or the bytes are something else. */
static int subsection_header(struct walk *w, const struct gw__vmdesc_object *o, uint64_t off, uint64_t end, uint64_t *next)
{
	struct gw__rd c = gw__rd_over(w->body + off, end - off);
	char name[GW__NAME_MAX + 1];
	const char *want = text_at(w, o->vmsd_name);
	uint8_t type = gw__rd_u8(&c);
	if (c.cut)
		return GW__SHORT;
	if (type != GW__ITEM_SUBSECTION)
		return gw__error_set(w->error, -EPROTO, "byte %llu: expected subsection \"%s\" (05), got byte %02x",
			(unsigned long long)off, want, type);
	uint8_t n = gw__rd_str8(&c, name);
	if (c.cut)
		return GW__SHORT;
	if (n != strlen(want) || memcmp(name, want, n))
		return gw__error_set(w->error, -EPROTO, "byte %llu: expected subsection \"%s\", got \"%s\"", (unsigned long long)off, want,
			gw__name_ok(name, n) ? name : "?");
	uint32_t version = gw__rd_be32(&c);
	if (c.cut)
		return GW__SHORT;
	if (version != o->version)
		return gw__error_set(w->error, -EPROTO, "byte %llu: subsection \"%s\" has version %u, expected %u", (unsigned long long)off,
			want, version, o->version);
	*next = off + gw__rd_used(&c);
	return 0;
}

static int measure(struct walk *w, const struct gw__vmdesc_object *o, uint64_t off, uint64_t end, uint64_t *next);

static int measure_subsection(struct walk *w, const struct gw__vmdesc_object *sub, uint64_t off, uint64_t end, uint64_t *next)
{
	int r = subsection_header(w, sub, off, end, &off);
	return r ? r : measure(w, sub, off, end, next);
}

static int measure(struct walk *w, const struct gw__vmdesc_object *o, uint64_t off, uint64_t end, uint64_t *next)
{
	uint64_t bytes;
	for (uint32_t i = 0; i < o->fields_n; i++) {
		if (out_of_steps(w))
			return -EPROTO;
		if (field_bytes(w, &w->d->fields[o->field + i], off, end, &bytes))
			return GW__SHORT;
		off += bytes;
	}
	for (uint32_t i = 0; i < o->subs_n; i++) {
		int r = measure_subsection(w, &w->d->objects[o->sub + i], off, end, &off);
		if (r)
			return r;
	}
	*next = off;
	return 0;
}

/* Where show is: the path so far, how deep, and the bytes of the struct it is in. */
struct place {
	size_t path_n;
	unsigned depth;
	uint64_t off, end;
};

/* Appends a name to the path; returns the new end. */
static size_t put_name(struct walk *w, size_t path_n, const char *name)
{
	const char *dot = path_n ? "." : "";
	int n = snprintf(w->path + path_n, PATH_ROOM - path_n, "%s%s", dot, name);
	assert(n > 0 && path_n + (size_t)n < PATH_ROOM);
	return path_n + (size_t)n;
}

static size_t put_element(struct walk *w, size_t path_n, uint64_t element)
{
	int n = snprintf(w->path + path_n, PATH_ROOM - path_n, "[%llu]", (unsigned long long)element);
	assert(n > 0 && path_n + (size_t)n < PATH_ROOM);
	return path_n + (size_t)n;
}

static int show(struct walk *w, const struct gw__vmdesc_object *o, struct place p);

static int tell(struct walk *w, struct gw__vmdesc_field field)
{
	field.path = w->path;
	return w->fn(w->ctx, &field) ? 0 : GW__STOPPED;
}

static int show_leaf(struct walk *w, const struct gw__vmdesc_part *f, const struct place *p, uint64_t bytes)
{
	size_t path_n = put_name(w, p->path_n, text_at(w, f->name));
	if (f->numbered)
		put_element(w, path_n, f->element);
	return tell(w, (struct gw__vmdesc_field){.type = text_at(w, f->type),
			       .depth = p->depth,
			       .off = p->off,
			       .bytes = bytes,
			       .array_len = f->array_len});
}

/* Elements of no bytes are all the same: one of them stands for all. Each costs a step, as its struct may have no fields. */
static int show_structs(struct walk *w, const struct gw__vmdesc_part *f, const struct place *p)
{
	const struct gw__vmdesc_object *o = &w->d->objects[f->object - 1];
	uint64_t n = f->bytes ? f->array_len : 1;
	size_t path_n = put_name(w, p->path_n, text_at(w, f->name));
	struct place in = {.path_n = path_n, .depth = p->depth + 1, .off = p->off};
	for (uint64_t k = 0; k < n; k++, in.off = in.end) {
		if (out_of_steps(w))
			return -EPROTO;
		if (f->numbered)
			in.path_n = put_element(w, path_n, f->element + k);
		int r = tell(w, (struct gw__vmdesc_field){.type = text_at(w, f->type),
					.depth = p->depth,
					.is_struct = true,
					.off = in.off,
					.bytes = f->bytes,
					.array_len = f->bytes ? 1 : f->array_len});
		in.end = in.off + f->bytes;
		if (!r)
			r = show(w, o, in);
		if (r)
			return r;
	}
	return 0;
}

/* Shows one subsection and steps over it. GW__SHORT when it is not there; else as show. */
static int show_subsection(struct walk *w, const struct gw__vmdesc_object *sub, struct place *p)
{
	uint64_t fields, end;
	if (subsection_header(w, sub, p->off, p->end, &fields) || measure(w, sub, fields, p->end, &end))
		return w->steps ? GW__SHORT : -EPROTO;
	size_t path_n = put_name(w, p->path_n, text_at(w, sub->vmsd_name));
	int r = tell(w, (struct gw__vmdesc_field){.type = "subsection",
				.depth = p->depth,
				.is_struct = true,
				.off = p->off,
				.bytes = end - p->off,
				.array_len = 1});
	p->off = end;
	return r ? r : show(w, sub, (struct place){.path_n = path_n, .depth = p->depth + 1, .off = fields, .end = end});
}

/* 0, -EPROTO when out of steps, or GW__STOPPED. */
static int show(struct walk *w, const struct gw__vmdesc_object *o, struct place p)
{
	for (uint32_t i = 0; i < o->fields_n; i++) {
		const struct gw__vmdesc_part *f = &w->d->fields[o->field + i];
		uint64_t bytes;
		if (out_of_steps(w))
			return -EPROTO;
		if (field_bytes(w, f, p.off, p.end, &bytes))
			return 0;
		int r = f->object ? show_structs(w, f, &p) : show_leaf(w, f, &p, bytes);
		if (r)
			return r;
		p.off += bytes;
	}
	for (uint32_t i = 0; i < o->subs_n; i++) {
		int r = out_of_steps(w) ? -EPROTO : show_subsection(w, &w->d->objects[o->sub + i], &p);
		if (r)
			return r == GW__SHORT ? 0 : r;
	}
	return 0;
}

static int show_all(struct walk *w, const struct gw__vmdesc_object *o, uint64_t len)
{
	w->steps = STEPS_PER_BYTE * (len + w->d->fields_n + w->d->objects_n);
	w->error = NULL; /* what does not fit is not an error any more */
	return show(w, o, (struct place){.end = len});
}

int gw__vmdesc_walk(const struct gw__vmdesc *d, size_t i, const uint8_t *body, size_t n, size_t *len, gw__vmdesc_field_fn *fn, void *ctx,
	struct gw__error *error)
{
	assert(i < d->devices_n);
	struct gw__error here = {0}; /* the caller's may hold an earlier sentence, which must not be prefixed */
	struct walk w = {.d = d, .body = body, .steps = UINT64_MAX, .fn = fn, .ctx = ctx, .error = &here};
	const struct gw__vmdesc_object *o = &d->objects[d->devices[i].object];
	const char *name = text_at(&w, d->devices[i].name);
	uint64_t end;
	int r = measure(&w, o, 0, n, &end);
	if (r < 0)
		return gw__error_set(error, r, "body of device \"%s\": %s", name, here.text);
	if (r)
		return r;
	*len = end;
	r = fn ? show_all(&w, o, end) : 0;
	if (r >= 0)
		return r;
	return gw__error_set(error, -EPROTO, "the description of device \"%s\" repeats too much for its %llu bytes", name,
		(unsigned long long)end);
}
