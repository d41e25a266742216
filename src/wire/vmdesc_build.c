/* SPDX-License-Identifier: MIT */
/*
 * Objects and fields of a VM description: from JSON into the tree of vmdesc_private.h (stream.md 8.1).
 *
 * Every name and number is judged here. Failures say what is wrong; the callers put where it is before that.
 */
#include "wire/vmdesc_build.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"

int gw__vmdesc_no_memory(struct gw__vmdesc_build *b) { return gw__error_set(b->error, -ENOMEM, "no memory for the tree"); }

int gw__vmdesc_take_number(struct gw__vmdesc_build *b, const json_t *o, const char *key, uint64_t max, uint64_t *v)
{
	const json_t *j = json_object_get(o, key);
	if (!json_is_integer(j) || json_integer_value(j) < 0 || (uint64_t)json_integer_value(j) > max)
		return gw__error_set(b->error, -EPROTO, "\"%s\" is missing or not an integer from 0 to %llu", key, (unsigned long long)max);
	*v = (uint64_t)json_integer_value(j);
	return 0;
}

int gw__vmdesc_take_u32(struct gw__vmdesc_build *b, const json_t *o, const char *key, uint32_t *v)
{
	uint64_t wide = 0;
	int r = gw__vmdesc_take_number(b, o, key, UINT32_MAX, &wide);
	*v = (uint32_t)wide;
	return r;
}

int gw__vmdesc_take_name(struct gw__vmdesc_build *b, const json_t *o, const char *key, uint32_t *at)
{
	const json_t *j = json_object_get(o, key);
	size_t n = json_string_length(j);
	if (!json_is_string(j) || !gw__name_ok(json_string_value(j), n))
		return gw__error_set(b->error, -EPROTO, "\"%s\" is missing or not a text of 1 to %d printable bytes", key, GW__NAME_MAX);
	assert(b->d->text_n + n < b->text_room);
	*at = b->d->text_n;
	memcpy(b->d->text + *at, json_string_value(j), n + 1);
	b->d->text_n += (uint32_t)n + 1;
	return 0;
}

int gw__vmdesc_take_list(struct gw__vmdesc_build *b, const json_t *o, const char *key, const json_t **list, uint32_t *n)
{
	*list = json_object_get(o, key);
	if (!json_is_array(*list))
		return gw__error_set(b->error, -EPROTO, "\"%s\" is missing or not an array", key);
	size_t all = json_array_size(*list);
	for (size_t i = 0; i < all; i++)
		if (!json_is_object(json_array_get(*list, i)))
			return gw__error_set(b->error, -EPROTO, "\"%s\" has an element %zu that is not an object", key, i);
	*n = (uint32_t)all;
	return 0;
}

/* Room for `n` more in an array of `*room`; NULL when there is no memory. Counts are those of JSON arrays. */
static void *grow(void *v, size_t each, size_t have, size_t n, uint32_t *room)
{
	if (have + n <= *room)
		return v;
	size_t more = have + n + have / 2;
	v = realloc(v, more * each);
	if (v)
		*room = (uint32_t)more;
	return v;
}

static int add_fields(struct gw__vmdesc_build *b, size_t n, uint32_t *first)
{
	struct gw__vmdesc *d = b->d;
	*first = d->fields_n;
	if (n == 0)
		return 0;
	void *v = grow(d->fields, sizeof *d->fields, d->fields_n, n, &d->fields_room);
	if (!v)
		return gw__vmdesc_no_memory(b);
	d->fields = v;
	memset(d->fields + d->fields_n, 0, n * sizeof *d->fields);
	d->fields_n += (uint32_t)n;
	return 0;
}

int gw__vmdesc_add_objects(struct gw__vmdesc_build *b, size_t n, uint32_t *first)
{
	struct gw__vmdesc *d = b->d;
	*first = d->objects_n;
	if (n == 0)
		return 0;
	void *v = grow(d->objects, sizeof *d->objects, d->objects_n, n, &d->objects_room);
	if (!v)
		return gw__vmdesc_no_memory(b);
	d->objects = v;
	memset(d->objects + d->objects_n, 0, n * sizeof *d->objects);
	d->objects_n += (uint32_t)n;
	return 0;
}

/* What describes the inside of a field, if anything does. Lists write theirs once per element: not to be
 * relied on. */
static const json_t *nested_object(const json_t *j, const char *type)
{
	const json_t *nested = json_object_get(j, "struct");
	bool null_elements = json_is_object(nested) && json_object_size(nested) == 0 && json_object_get(j, "array_len");
	if (nested) /* an array whose first element is NULL has {}, and no more is said of it than its size [7.2, s390_css] */
		return null_elements ? NULL : nested;
	bool direct = !strcmp(type, "vstruct") || !strcmp(type, "tmp");
	return direct && json_object_get(j, "fields") ? j : NULL;
}

static int parse_nested(struct gw__vmdesc_build *b, const json_t *nested, uint32_t field)
{
	uint32_t object;
	int r = gw__vmdesc_add_objects(b, 1, &object);
	if (r)
		return r;
	b->d->fields[field].object = object + 1;
	return gw__vmdesc_build_object(b, nested, object);
}

static int parse_field(struct gw__vmdesc_build *b, const json_t *j, uint32_t at)
{
	struct gw__vmdesc_part f = {.array_len = 1};
	uint64_t total;
	int r = gw__vmdesc_take_name(b, j, "name", &f.name);
	if (!r)
		r = gw__vmdesc_take_name(b, j, "type", &f.type);
	if (!r)
		r = gw__vmdesc_take_number(b, j, "size", GW__VMDESC_FIELD_MAX_BYTES, &f.bytes);
	if (!r && json_object_get(j, "array_len"))
		r = gw__vmdesc_take_number(b, j, "array_len", INT64_MAX, &f.array_len);
	if (r)
		return r;
	if (gw__mul_overflows(f.bytes, f.array_len, &total))
		return gw__error_set(b->error, -EPROTO, "%llu elements of %llu bytes are more than any stream holds",
			(unsigned long long)f.array_len, (unsigned long long)f.bytes);
	const char *type = b->d->text + f.type;
	const json_t *nested = nested_object(j, type);
	f.is_str8 = !nested && !strcmp(type, "capability");
	b->d->fields[at] = f;
	return nested ? parse_nested(b, nested, at) : 0;
}

/* Fields of the same name in a row are elements of an array; "index" cannot tell, it comes and goes with
 * releases. */
static void number_elements(struct gw__vmdesc *d, const struct gw__vmdesc_object *o)
{
	for (uint32_t i = 0; i < o->fields_n; i++) {
		struct gw__vmdesc_part *f = &d->fields[o->field + i];
		f->numbered |= f->object && f->array_len != 1;
		if (i == 0 || strcmp(d->text + f[-1].name, d->text + f->name))
			continue;
		f[-1].numbered = f->numbered = true;
		f->element = f[-1].element + f[-1].array_len;
	}
}

int gw__vmdesc_build_fields(struct gw__vmdesc_build *b, const json_t *j, uint32_t at)
{
	const json_t *list;
	uint32_t first, n;
	int r = gw__vmdesc_take_list(b, j, "fields", &list, &n);
	if (!r)
		r = add_fields(b, n, &first);
	for (uint32_t i = 0; !r && i < n; i++) {
		r = parse_field(b, json_array_get(list, i), first + i);
		if (r)
			gw__error_where(b->error, "field %u", i);
	}
	if (r)
		return r;
	b->d->objects[at].field = first;
	b->d->objects[at].fields_n = n;
	number_elements(b->d, &b->d->objects[at]);
	return 0;
}

static int parse_subsections(struct gw__vmdesc_build *b, const json_t *j, uint32_t at)
{
	const json_t *list;
	uint32_t first, n;
	if (!json_object_get(j, "subsections"))
		return 0;
	int r = gw__vmdesc_take_list(b, j, "subsections", &list, &n);
	if (!r)
		r = gw__vmdesc_add_objects(b, n, &first);
	for (uint32_t i = 0; !r && i < n; i++) {
		r = gw__vmdesc_build_object(b, json_array_get(list, i), first + i);
		if (r)
			gw__error_where(b->error, "subsection %u", i);
	}
	if (r)
		return r;
	b->d->objects[at].sub = first;
	b->d->objects[at].subs_n = n;
	return 0;
}

int gw__vmdesc_build_object(struct gw__vmdesc_build *b, const json_t *j, uint32_t at)
{
	uint32_t vmsd_name, version;
	if (b->depth == GW__VMDESC_DEPTH_MAX)
		return gw__error_set(b->error, -EPROTO, "objects lie more than %d deep in each other", GW__VMDESC_DEPTH_MAX);
	int r = gw__vmdesc_take_name(b, j, "vmsd_name", &vmsd_name);
	if (!r)
		r = gw__vmdesc_take_u32(b, j, "version", &version);
	if (r)
		return r;
	b->d->objects[at].vmsd_name = vmsd_name;
	b->d->objects[at].version = version;
	b->depth++;
	r = gw__vmdesc_build_fields(b, j, at);
	if (!r)
		r = parse_subsections(b, j, at);
	b->depth--;
	return r;
}
