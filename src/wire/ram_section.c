/* SPDX-License-Identifier: MIT */
/* The encoder of the RAM section's frame; see ram_section.h. */
#include "wire/ram_section.h"

#include "wire/framing.h"

void gw__ram_section_encode_start(struct gw__wr *c, uint32_t id, uint64_t total_bytes)
{
	const struct gw__section start = {.type = GW__ITEM_START, .id = id, .idstr = "ram", .version = GW__RAM_VERSION};
	gw__section_encode(c, &start);
	gw__wr_be64(c, total_bytes | GW__RAM_MEM_SIZE);
}

void gw__ram_section_encode_entry(struct gw__wr *c, const struct gw__blocks_rule *rule, const struct gw__block *block)
{
	gw__block_encode(c, rule, block);
	if (!rule->mapped_ram)
		return;
	const struct gw__mapped_header h = {.version = GW__MAPPED_VERSION,
		.page_bytes = rule->page_bytes,
		.bitmap_off = block->bitmap_off,
		.pages_off = block->pages_off};
	gw__mapped_header_encode(c, &h);
}

void gw__ram_section_encode_end(struct gw__wr *c, uint32_t id)
{
	gw__wr_be64(c, GW__RAM_EOS);
	gw__footer_encode(c, id);
}
