/* SPDX-License-Identifier: MIT */
/*
 * The VM description: the JSON after EOF that says how long every field of every device is
 * (docs/spec/stream.md 8.1). Parses it, and walks a device's bytes with it. Pure; memory bounded by the text's length.
 */
#ifndef GW_WIRE_VMDESC_H
#define GW_WIRE_VMDESC_H

#include "base/bytes.h"
#include "base/error.h"

#define GW__VMDESC_MAX_BYTES (UINT32_C(64) << 20) /* text; 100 kB and 8 per processor are usual */

struct gw__vmdesc;

struct gw__vmdesc_device {
	const char *name;      /* idstr; lives as long as the description */
	const char *vmsd_name; /* NULL for a legacy device */
	uint32_t instance;
	bool has_version;
	uint32_t version;
};

/*
 * One field as met on a walk. `path` is dotted ("cpu.regs[3]"; fields of one name in a row are numbered) and valid
 * during the call only. A subsection comes as a struct of type "subsection" that begins with its header. An array of
 * structs comes element by element, any other compressed array as one field.
 */
struct gw__vmdesc_field {
	const char *path, *type;
	unsigned depth;      /* nesting, 0 for the device's own fields */
	bool is_struct;      /* its parts follow as further fields */
	uint64_t off, bytes; /* within the body; of all elements */
	uint64_t array_len;  /* elements in `bytes`: 1 unless a compressed array */
};
/* False: no more of them. */
typedef bool gw__vmdesc_field_fn(void *ctx, const struct gw__vmdesc_field *field);

/* 0, or -EPROTO (not JSON, no devices array, anything missing or out of range), -E2BIG, -ENOMEM. `*d` owned by the caller. */
int gw__vmdesc_parse(const uint8_t *text, size_t n, struct gw__vmdesc **d, struct gw__error *error);
void gw__vmdesc_free(struct gw__vmdesc *d);

uint64_t gw__vmdesc_page_bytes(const struct gw__vmdesc *d); /* 0 if it does not say */
size_t gw__vmdesc_count(const struct gw__vmdesc *d);
struct gw__vmdesc_device gw__vmdesc_device(const struct gw__vmdesc *d, size_t i);

/*
 * Length of device i's body by walking it from `body` (right after the section header). 0 and `*len`; GW__SHORT when
 * the walk needs bytes beyond `n`; -EPROTO when a subsection is not what the description says. The footer after it is
 * the caller's to check: compressed arrays state the size of their first element only, so the length can be wrong.
 *
 * `fn` (may be NULL) is called once the length is known, for each field in order. Parts of a struct that do not fit its
 * size are left out. A description that repeats so much that showing it would take more than time in proportion to the
 * body and the description gives -EPROTO half way. GW__STOPPED: `fn` wanted no more.
 */
int gw__vmdesc_walk(const struct gw__vmdesc *d, size_t i, const uint8_t *body, size_t n, size_t *len, gw__vmdesc_field_fn *fn, void *ctx,
	struct gw__error *error);

#endif
