/* SPDX-License-Identifier: MIT */
/* Sizes of the caller's structs; see opts.h. */
#include "lib/opts.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

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

static const void *linked_to(enum gw__struct_id id, const void *given, size_t size)
{
	const void *linked = NULL;
	size_t at = rows[id].linked_off;
	if (at != NO_FIELD && size >= at + sizeof linked)
		memcpy(&linked, (const uint8_t *)given + at, sizeof linked);
	return linked;
}

int gw__struct_check(enum gw__struct_id id, const void *given, struct gw__error *error)
{
	for (; given; given = linked_to(id, given, *(const size_t *)given), id = rows[id].linked) {
		size_t size = *(const size_t *)given;
		if (size <= sizeof size || size > GW__STRUCT_BYTES_MAX)
			return gw__error_set(error, -EINVAL,
				"struct %s has the size %zu, expected %zu: set it with GW_INIT (struct %s o = GW_INIT(o);)", rows[id].name,
				size, rows[id].bytes, rows[id].name);
		if (!rows[id].is_result && asks_for_more(given, size, rows[id].bytes))
			return gw__error_set(error, -E2BIG,
				"struct %s has %zu bytes and a field is set that this library does not know (it knows %zu bytes): use a newer libgodwit",
				rows[id].name, size, rows[id].bytes);
	}
	return 0;
}
