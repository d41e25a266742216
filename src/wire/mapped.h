/* SPDX-License-Identifier: MIT */
/* The mapped-ram header of a block and the arithmetic of the layout (docs/spec/mapped-ram.md 1-3). Pure codec. */
#ifndef GW_WIRE_MAPPED_H
#define GW_WIRE_MAPPED_H

#include "base/bytes.h"
#include "base/error.h"
#include "wire/ram.h"

enum {
	GW__MAPPED_VERSION = 1,
	GW__MAPPED_HEADER_BYTES = 28,
};
#define GW__MAPPED_ALIGN (UINT64_C(1) << 20)

struct gw__mapped_header {
	uint32_t version;
	uint64_t page_bytes, bitmap_off, pages_off;
};

int gw__mapped_header_decode(struct gw__rd *c, struct gw__mapped_header *h); /* 0 or GW__SHORT; no judgement */
void gw__mapped_header_encode(struct gw__wr *c, const struct gw__mapped_header *h);

/* Where a writer puts the block whose header ends at absolute file offset `header_end_off`. 0 or -EOVERFLOW. */
int gw__mapped_place(uint64_t header_end_off, uint64_t used_bytes, uint64_t page_bytes, struct gw__mapped_header *h);

/*
 * All checks of mapped-ram.md 9 that need only the header: version, page size, order of bitmap and pages, overflow,
 * alignment, and the 0/0 form, legal only with x-ignore-shared (sets `*ignored`). `header_off` is where the header
 * begins. 0, or -EPROTO. `*odd` (may be NULL) is set to a sentence for what is legal but no writer does.
 */
int gw__mapped_header_check(const struct gw__mapped_header *h, uint64_t header_off, const struct gw__block *block, uint64_t page_bytes,
	bool ignore_shared, bool *ignored, const char **anomaly, struct gw__error *error);

#endif
