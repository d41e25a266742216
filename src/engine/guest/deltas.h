/* SPDX-License-Identifier: MIT */
/*
 * Pages as they were sent, so that of a page that is sent again only what has changed has to go: an XBZRLE delta (docs/spec/stream.md 7.4). Memory of a size that is
 * given once; a page that finds its place taken drops the one that is there. The thread of the call.
 */
#ifndef GW_ENGINE_GUEST_DELTAS_H
#define GW_ENGINE_GUEST_DELTAS_H

#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"

struct gw__deltas;
/* `bytes` for pages as they were sent; `batch`: how many bodies are lent at a time. -ENOMEM. */
int gw__deltas_new(uint64_t bytes, uint64_t page_bytes, uint32_t batch, struct gw__deltas **deltas, struct gw__error *error);
void gw__deltas_free(struct gw__deltas *d); /* NULL is fine */

/*
 * A page that is to be sent, and may change meanwhile. `number`: of all pages of the guest, whatever its block. Returns the flag of its record: GW__RAM_ZERO; GW__RAM_PAGE; GW__RAM_XBZRLE; or 0: the destination has
 * it as it is. *body is what follows the head of that record, lent until entry `i` of the batch is used again. The destination has to get it.
 */
uint32_t gw__deltas_take(struct gw__deltas *d, uint32_t i, uint64_t number, const uint8_t *page, struct iovec *body);

#endif
