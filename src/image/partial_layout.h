/* SPDX-License-Identifier: MIT */
/* Where what stands in a state file (docs/spec/partial.md 1); shared by the files partial*.c alone. */
#ifndef GW_IMAGE_PARTIAL_LAYOUT_H
#define GW_IMAGE_PARTIAL_LAYOUT_H

#include "base/math.h"
#include "image/partial.h"

enum {
	GW__PARTIAL_LIVE_HEAD_OFF = 1 * GW__PARTIAL_PAGE,
	GW__PARTIAL_FINISH_OFF = 2 * GW__PARTIAL_PAGE,
	GW__PARTIAL_SLOT_HEAD_OFF = 3 * GW__PARTIAL_PAGE, /* two of them */
	GW__PARTIAL_MAPS_OFF = 5 * GW__PARTIAL_PAGE,      /* the live ones, then those of the two slots */
	GW__PARTIAL_LIST_ROOM = 2 << 20,   /* behind the maps, for the list alone; what is held follows, and never touches it */
	GW__PARTIAL_V2_LIST_GAP = 1 << 20, /* version 2: what is held came first, and was written over the list */
};

/* Content and received, of each block that is in the image. */
static inline uint64_t gw__partial_maps_bytes(const struct gw__blocks *blocks, uint64_t page_bytes)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < blocks->n; i++)
		n += blocks->v[i].ignored ? 0 : 2 * gw__bitmap_wire_bytes(blocks->v[i].used_bytes / page_bytes);
	return gw__round_up(n, GW__PARTIAL_PAGE);
}

static inline uint64_t gw__partial_slot_off(uint64_t maps_bytes, unsigned slot) { return GW__PARTIAL_MAPS_OFF + (1 + slot) * maps_bytes; }

static inline uint64_t gw__partial_meta_off(uint64_t maps_bytes) { return GW__PARTIAL_MAPS_OFF + 3 * maps_bytes; }

static inline uint64_t gw__partial_meta_place(const struct gw__partial_head *h)
{
	uint64_t off = gw__partial_meta_off(h->maps_bytes);
	if (h->version < GW__PARTIAL_VERSION)
		return off + (h->only_list ? GW__PARTIAL_V2_LIST_GAP : 0);
	return off + (h->only_list ? 0 : GW__PARTIAL_LIST_ROOM);
}

static inline uint64_t gw__partial_file_bytes(uint64_t maps_bytes, uint64_t meta_bytes)
{
	return gw__partial_meta_off(maps_bytes) + meta_bytes;
}

void gw__partial_sum(const void *bytes, size_t n, uint8_t sum[16]);

#endif
