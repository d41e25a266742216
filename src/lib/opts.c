/* SPDX-License-Identifier: MIT */
/* Sizes of the caller's structs; see opts.h. */
#include "lib/opts.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/math.h"

enum { NO_FIELD = 0 /* where the size is */ };

static const struct {
	const char *name;
	size_t bytes;
	bool is_result;
	size_t linked_off; /* of a pointer to another one */
	enum gw__struct_id linked;
} rows[] = {
#define OPTS(s)                 [GW__STRUCT_##s] = {#s, sizeof(struct s), false, NO_FIELD, GW__STRUCTS_N},
#define LINKED(s, field, inner) [GW__STRUCT_##s] = {#s, sizeof(struct s), false, offsetof(struct s, field), GW__STRUCT_##inner},
#define RESULT(s)               [GW__STRUCT_##s] = {#s, sizeof(struct s), true, NO_FIELD, GW__STRUCTS_N},
	GW__STRUCTS(OPTS, LINKED, RESULT)};

/* What a newer program has set and we do not know. */
static bool asks_for_more(const uint8_t *given, size_t size, size_t ours)
{
	for (size_t i = ours; i < size; i++)
		if (given[i])
			return true;
	return false;
}

static const struct {
	enum gw__struct_id of;
	size_t count_off, field_off;
	const char *field;
	enum gw__struct_id element;
} arrays[] = {
#define ARRAY(s, count, field, inner)                                                                                                      \
	{GW__STRUCT_##s, offsetof(struct s, count), offsetof(struct s, field), #s "." #field, GW__STRUCT_##inner},
	GW__STRUCT_ARRAYS(ARRAY)};

static const struct {
	enum gw__struct_id of;
	size_t off;
	const char *field;
	unsigned last;
} enums[] = {
#define ENUM(s, field, last) {GW__STRUCT_##s, offsetof(struct s, field), #s "." #field, last},
	GW__STRUCT_ENUMS(ENUM)};

static int check_enums(enum gw__struct_id id, const void *given, struct gw__error *error)
{
	for (size_t i = 0; i < GW__LEN(enums); i++) {
		unsigned value = 0;
		if (enums[i].of != id || *(const size_t *)given < enums[i].off + sizeof value)
			continue;
		memcpy(&value, (const uint8_t *)given + enums[i].off, sizeof value);
		if (value > enums[i].last)
			return gw__error_set(error, -EINVAL, "%s is %d, expected 0 to %u", enums[i].field, (int)value, enums[i].last);
	}
	return 0;
}

/* A pointer in the caller's struct; NULL where that is from before there was one. */
static const void *pointer_at(const void *given, size_t off)
{
	const void *p = NULL;
	if (*(const size_t *)given >= off + sizeof p)
		memcpy(&p, (const uint8_t *)given + off, sizeof p);
	return p;
}

static int check_one(enum gw__struct_id id, const void *given, struct gw__error *error)
{
	size_t size = *(const size_t *)given;
	if (size <= sizeof size || size > GW__STRUCT_BYTES_MAX)
		return gw__error_set(error, -EINVAL,
			"struct %s has the size %zu, expected %zu: set it with GW_INIT (struct %s o = GW_INIT(o);)", rows[id].name, size,
			rows[id].bytes, rows[id].name);
	if (!rows[id].is_result && asks_for_more(given, size, rows[id].bytes))
		return gw__error_set(error, -E2BIG,
			"struct %s has %zu bytes and a field is set that this library does not know (it knows %zu bytes): use a newer libgodwit",
			rows[id].name, size, rows[id].bytes);
	return check_enums(id, given, error);
}

/* The size of the first element is the distance from one to the next. */
static int check_elements(const char *field, enum gw__struct_id id, const void *array, uint32_t n, struct gw__error *error)
{
	if (n && !array)
		return gw__error_set(error, -EINVAL, "%s is NULL, expected %u of them", field, n);
	size_t stride = n ? *(const size_t *)array : 0;
	if (stride % _Alignof(size_t))
		return gw__error_set(error, -EINVAL, "%s: elements of %zu bytes are not possible: set the size with GW_INIT", field,
			stride);
	for (uint32_t i = 0; i < n; i++) {
		const void *element = (const uint8_t *)array + i * stride;
		int r = check_one(id, element, error);
		if (r)
			return r;
		if (*(const size_t *)element != stride)
			return gw__error_set(error, -EINVAL, "%s[%u] has the size %zu, expected that of the first, %zu", field, i,
				*(const size_t *)element, stride);
	}
	return 0;
}

static int check_arrays(enum gw__struct_id id, const void *given, struct gw__error *error)
{
	int r = 0;
	for (size_t i = 0; !r && i < GW__LEN(arrays); i++) {
		uint32_t n = 0;
		if (arrays[i].of != id || *(const size_t *)given < arrays[i].count_off + sizeof n)
			continue;
		memcpy(&n, (const uint8_t *)given + arrays[i].count_off, sizeof n);
		r = check_elements(arrays[i].field, arrays[i].element, pointer_at(given, arrays[i].field_off), n, error);
	}
	return r;
}

int gw__struct_check(enum gw__struct_id id, const void *given, struct gw__error *error)
{
	int r = 0;
	while (!r && given) {
		size_t linked_off = rows[id].linked_off;
		r = check_one(id, given, error);
		if (!r)
			r = check_arrays(id, given, error);
		if (r || linked_off == NO_FIELD)
			return r;
		given = pointer_at(given, linked_off);
		id = rows[id].linked;
	}
	return r;
}
