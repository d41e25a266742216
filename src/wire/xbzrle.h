/* SPDX-License-Identifier: MIT */
/* XBZRLE deltas (docs/spec/stream.md 7.4). Pure codec. */
#ifndef GW_WIRE_XBZRLE_H
#define GW_WIRE_XBZRLE_H

#include "base/bytes.h"
#include "base/error.h"

enum {
	GW__XBZRLE_TYPE = 1,
	GW__XBZRLE_RUN_MAX = 0x3fff, /* what two length bytes can say */
};

/* Apply a delta of `n` bytes to `page`; every rule of the spec is checked. 0 or -EPROTO; then `page` is partly changed. */
int gw__xbzrle_decode(const uint8_t *delta, size_t n, uint8_t *page, size_t page_bytes, struct gw__error *error);

/*
 * The delta from `old_page` to `new_page`. Bytes written (0: they are equal), or -1 when it cannot be said in `room`
 * bytes, in a page's length, or in runs of GW__XBZRLE_RUN_MAX (send the page whole instead).
 */
int gw__xbzrle_encode(const uint8_t *old_page, const uint8_t *new_page, size_t page_bytes, uint8_t *delta, size_t room);

#endif
