/* SPDX-License-Identifier: MIT */
/*
 * The VM description: the JSON after EOF that says how long every field of every device is
 * (docs/spec/stream.md 8.1). Parses it, and walks a device's bytes with it. Pure; memory bounded by the text's length.
 */
#ifndef GW_WIRE_VMDESC_H
#define GW_WIRE_VMDESC_H

#include "base/bytes.h"
#include "base/error.h"

#define GW__VMDESC_MAX_BYTES (UINT32_C(4) << 20) /* text; 100 kB is usual */

struct gw__vmdesc;

struct gw__vmdesc_device {
	const char *name;      /* idstr; lives as long as the description */
	const char *vmsd_name; /* NULL for a legacy device */
	uint32_t instance;
	bool has_version;
	uint32_t version;
};

/* One field as met on a walk. `path` is dotted ("cpu.regs[3]") and valid during the call only. */
struct gw__vmdesc_field {
	const char *path, *type;
	unsigned depth;	 /* nesting, 0 for the device's own fields */
	bool is_struct;	 /* its parts follow as further fields */
	uint64_t off, bytes; /* within the body */
	uint64_t array_len;  /* 1 unless a compressed array */
};
typedef void gw__vmdesc_field_fn(void *ctx, const struct gw__vmdesc_field *field);

/* 0, or -EPROTO (not JSON, no devices array, names missing), -E2BIG, -ENOMEM. `*d` owned by the caller. */
int gw__vmdesc_parse(const uint8_t *text, size_t n, struct gw__vmdesc **d, struct gw__why *why);
void gw__vmdesc_free(struct gw__vmdesc *d);

uint64_t gw__vmdesc_page_bytes(const struct gw__vmdesc *d); /* 0 if it does not say */
size_t gw__vmdesc_count(const struct gw__vmdesc *d);
struct gw__vmdesc_device gw__vmdesc_device(const struct gw__vmdesc *d, size_t i);

/*
 * Length of device i's body by walking it from `body` (right behind the section header). 0 and `*len`; GW__SHORT when
 * the walk needs bytes beyond `n`; -EPROTO when a subsection is not what the description says. `fn` may be NULL.
 */
int gw__vmdesc_walk(const struct gw__vmdesc *d, size_t i, const uint8_t *body, size_t n, size_t *len,
	gw__vmdesc_field_fn *fn, void *ctx, struct gw__why *why);

#endif
