/* SPDX-License-Identifier: MIT */
/* Where what stands in a state file (docs/spec/partial.md 1); shared by the files partial*.c alone. */
#ifndef GW_IMAGE_JOURNAL_RECV_STATE_LAYOUT_H
#define GW_IMAGE_JOURNAL_RECV_STATE_LAYOUT_H

#include "base/math.h"
#include "image/journal/recv_state.h"

enum {
	GW__RECV_STATE_LIVE_HEAD_OFF = 1 * GW__RECV_STATE_PAGE,
	GW__RECV_STATE_FINISH_OFF = 2 * GW__RECV_STATE_PAGE,
	GW__RECV_STATE_SLOT_HEAD_OFF = 3 * GW__RECV_STATE_PAGE, /* two of them */
	GW__RECV_STATE_MAPS_OFF = 5 * GW__RECV_STATE_PAGE,      /* the live ones, then those of the two slots */
	GW__RECV_STATE_LIST_ROOM = 2 << 20,   /* after the maps, for the list alone; what is held follows, and never touches it */
	GW__RECV_STATE_V2_LIST_GAP = 1 << 20, /* version 2: what is held came first, and was written over the list */
};

/* Content and received, of each block that is in the image. */
static inline uint64_t gw__recv_state_maps_bytes(const struct gw__blocks *blocks, uint64_t page_bytes)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < blocks->n; i++)
		n += blocks->v[i].ignored ? 0 : 2 * gw__bitmap_wire_bytes(blocks->v[i].used_bytes / page_bytes);
	return gw__round_up(n, GW__RECV_STATE_PAGE);
}

static inline uint64_t gw__recv_state_slot_off(uint64_t maps_bytes, unsigned slot)
{
	return GW__RECV_STATE_MAPS_OFF + (1 + slot) * maps_bytes;
}

static inline uint64_t gw__recv_state_meta_off(uint64_t maps_bytes) { return GW__RECV_STATE_MAPS_OFF + 3 * maps_bytes; }

static inline uint64_t gw__recv_state_meta_place(const struct gw__recv_state_head *h)
{
	uint64_t off = gw__recv_state_meta_off(h->maps_bytes);
	if (h->version < GW__RECV_STATE_VERSION)
		return off + (h->layout_only ? GW__RECV_STATE_V2_LIST_GAP : 0);
	return off + (h->layout_only ? 0 : GW__RECV_STATE_LIST_ROOM);
}

static inline uint64_t gw__recv_state_file_bytes(uint64_t maps_bytes, uint64_t meta_bytes)
{
	return gw__recv_state_meta_off(maps_bytes) + meta_bytes;
}

void gw__recv_state_sum(const void *bytes, size_t n, uint8_t sum[16]);

#endif
