/* SPDX-License-Identifier: MIT */
/* The file that keeps which pages a guest asked for first (docs/spec/working-set.md). Pure codec; which image it belongs to is the caller's. */
#ifndef GW_WIRE_WORKING_SET_H
#define GW_WIRE_WORKING_SET_H

#include "base/bytes.h"
#include "base/error.h"

enum {
	GW__WS_HEAD_BYTES = 64,
	GW__WS_ENTRIES_MAX = 4096, /* of a chunk */
	GW__WS_CHUNK_BYTES_MAX = 16 + 8 * GW__WS_ENTRIES_MAX + 8,
	GW__WS_FILE_BYTES_MAX = 4 << 20,
	GW__WS_FINGERPRINT_BYTES = 16,
};

struct gw__ws_head {
	uint32_t page_bytes;
	uint8_t fingerprint[GW__WS_FINGERPRINT_BYTES]; /* of the image */
	uint64_t begun_s;                              /* since 1970 */
	uint64_t seed;                                 /* of its chunks; decoded, or set by encode */
};

struct gw__ws_run {
	uint16_t block, pages;
	uint32_t first;
};

void gw__ws_head_encode(struct gw__wr *c, struct gw__ws_head *h);
/* 0, GW__SHORT, -EPROTO: no working set; -EOPNOTSUPP: of a newer version. */
int gw__ws_head_decode(struct gw__rd *c, struct gw__ws_head *h, struct gw__error *error);

/* n of 1..GW__WS_ENTRIES_MAX. */
void gw__ws_chunk_encode(struct gw__wr *c, uint64_t seed, uint64_t when_s, const struct gw__ws_run *v, uint32_t n);
/* `v` has room for GW__WS_ENTRIES_MAX. 0, GW__SHORT, -EPROTO. */
int gw__ws_chunk_decode(struct gw__rd *c, uint64_t seed, uint64_t *when_s, struct gw__ws_run *v, uint32_t *n, struct gw__error *error);

#endif
