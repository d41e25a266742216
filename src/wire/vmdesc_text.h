/* SPDX-License-Identifier: MIT */
/*
 * Writing VM descriptions (docs/spec/stream.md 8.1): the part about the configuration, which changes when a guest moves
 * between stream and image, and a whole one for a guest that came without. Texts are malloc'ed, owned by the caller.
 */
#ifndef GW_WIRE_VMDESC_TEXT_H
#define GW_WIRE_VMDESC_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/header.h"

/*
 * The same text with its "configuration" object as `config` would be described. A text without one (QEMU up to 8.1) is
 * copied. 0 or -ENOMEM.
 */
int gw__vmdesc_reconfigure(const uint8_t *text, size_t n, const struct gw__config *config, char **out, size_t *out_n);

/* A description that knows devices only as opaque bytes. Begin with a zeroed one. */
struct gw__vmdesc_plain {
	void *devices; /* a JSON array */
	uint32_t n;
};
bool gw__vmdesc_can_name(const char *idstr); /* a description is JSON, whose names are UTF-8 */
int gw__vmdesc_plain_add(struct gw__vmdesc_plain *p, const char *idstr, uint32_t instance, size_t body_bytes); /* 0, -ENOMEM */
int gw__vmdesc_plain_text(const struct gw__vmdesc_plain *p, const struct gw__config *config, char **out, size_t *out_n);
void gw__vmdesc_plain_fini(struct gw__vmdesc_plain *p);

#endif
