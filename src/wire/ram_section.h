/* SPDX-License-Identifier: MIT */
/*
 * The frame of the RAM section, for whoever writes one: START with the list of blocks, entry by entry, and the end of a START, PART or END
 * (docs/spec/stream.md 6, 7; mapped-ram.md 1). The decoder is stream_section.c and stream_ram.c. Pure codec.
 */
#ifndef GW_WIRE_RAM_SECTION_H
#define GW_WIRE_RAM_SECTION_H

#include "base/bytes.h"
#include "wire/mapped.h"
#include "wire/ram.h"

enum { GW__RAM_ENTRY_MAX_BYTES = 1 + GW__NAME_MAX + 8 + 8 + 8 + GW__MAPPED_HEADER_BYTES }; /* of any rule */

void gw__ram_section_encode_start(struct gw__wr *c, uint32_t id, uint64_t total_bytes);
/* With mapped-ram the entry goes on with the header that says where the block's bitmap and pages are; both 0: it is ignored. */
void gw__ram_section_encode_entry(struct gw__wr *c, const struct gw__blocks_rule *rule, const struct gw__block *block);
void gw__ram_section_encode_end(struct gw__wr *c, uint32_t id);

#endif
