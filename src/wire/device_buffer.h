/* SPDX-License-Identifier: MIT */
/*
 * The device state of a COLO checkpoint: FULL sections and one byte 00, nothing else (docs/spec/colo.md 5.2). Pure codec over the whole buffer,
 * which it borrows.
 */
#ifndef GW_WIRE_DEVICE_BUFFER_H
#define GW_WIRE_DEVICE_BUFFER_H

#include "base/bytes.h"
#include "base/error.h"
#include "wire/framing.h"
#include "wire/vmdesc.h"

struct gw__device_buffer {
	const uint8_t *bytes;
	size_t n, at; /* `at`: of the next section */
	uint32_t devices;
	const struct gw__vmdesc *desc; /* of the initial migration, whose devices these are; NULL: there was none */
	uint32_t index;                /* of the next section in it */
};

/* Judges everything. 0, or -EPROTO with a sentence; *b is then good for gw__device_buffer_next. */
int gw__device_buffer_decode(const uint8_t *bytes, size_t n, const struct gw__vmdesc *desc, struct gw__device_buffer *b,
	struct gw__error *error);
/* The next section, whole: 1, 0 when there is none left. Never fails on a buffer that was judged. */
int gw__device_buffer_next(struct gw__device_buffer *b, struct gw__section *section, struct gw__view *raw);

#endif
