/* SPDX-License-Identifier: MIT */
/* What the two halves of the VM description's parser share: vmdesc.c (the whole) and vmdesc_build.c (the
 * inside). */
#ifndef GW_WIRE_VMDESC_BUILD_H
#define GW_WIRE_VMDESC_BUILD_H

#include <jansson.h>

#include "wire/vmdesc_private.h"

#define GW__VMDESC_FIELD_MAX_BYTES (UINT64_C(1) << 32)

struct gw__vmdesc_build {
	struct gw__vmdesc *d;
	struct gw__error *error;
	size_t text_room; /* in d->text: enough for every string of the description, as each stood there
			     between quotes */
	unsigned depth;
};

/* A member of `o` that must be there. 0, or -EPROTO. A list's elements are objects, all of them. */
int gw__vmdesc_take_number(struct gw__vmdesc_build *b, const json_t *o, const char *key, uint64_t max, uint64_t *v);
int gw__vmdesc_take_u32(struct gw__vmdesc_build *b, const json_t *o, const char *key, uint32_t *v);
int gw__vmdesc_take_name(struct gw__vmdesc_build *b, const json_t *o, const char *key, uint32_t *at);
int gw__vmdesc_take_list(struct gw__vmdesc_build *b, const json_t *o, const char *key, const json_t **list, uint32_t *n);

/* 0, -EPROTO or -ENOMEM. `at` is the index of an object made by add_objects. */
int gw__vmdesc_add_objects(struct gw__vmdesc_build *b, size_t n, uint32_t *first);
int gw__vmdesc_build_object(struct gw__vmdesc_build *b, const json_t *j, uint32_t at);
int gw__vmdesc_build_fields(struct gw__vmdesc_build *b, const json_t *j, uint32_t at);

int gw__vmdesc_no_memory(struct gw__vmdesc_build *b);

#endif
