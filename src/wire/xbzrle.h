/* SPDX-License-Identifier: MIT */
/* XBZRLE deltas (docs/spec/stream.md 7.4). Pure codec. */
#ifndef GW_WIRE_XBZRLE_H
#define GW_WIRE_XBZRLE_H

#include "base/bytes.h"
#include "base/error.h"

enum { GW__XBZRLE_TYPE = 1 };

/* Apply a delta of `n` bytes to `page`; every rule of the spec is checked. On failure `page` is partly changed. */
int gw__xbzrle_decode(const uint8_t *delta, size_t n, uint8_t *page, size_t page_bytes, struct gw__why *why);

/* The delta from `old` to `new`. Bytes written, or -1 when it would not fit `room` (send the page whole instead). */
int gw__xbzrle_encode(const uint8_t *old, const uint8_t *new_page, size_t page_bytes, uint8_t *delta, size_t room);

#endif
