/* SPDX-License-Identifier: MIT */
/* The RAM section of an outgoing stream; see stream_writer.h. */
#include "engine/outgoing/stream_writer.h"

#include <assert.h>

#include "wire/ram_section.h"

enum { LIST_ROOM = 4096 };

void gw__stream_writer_init(struct gw__stream_writer *w, struct gw__chan *chan, const struct gw__blocks *blocks, uint32_t ram_id,
	uint64_t part_max_bytes)
{
	*w = (struct gw__stream_writer){.chan = chan,
		.blocks = blocks,
		.ram_id = ram_id,
		.part_max_bytes = part_max_bytes,
		.last_block = -1};
}

static int put(struct gw__stream_writer *w, const struct gw__wr *c, struct gw__error *error)
{
	assert(!c->full);
	return gw__chan_write_all(w->chan, c->start, gw__wr_used(c), error);
}

int gw__stream_writer_begin_list(struct gw__stream_writer *w, const struct gw__blocks_rule *rule, const uint64_t *page_bytes,
	struct gw__error *error)
{
	uint8_t room[LIST_ROOM];
	struct gw__wr c = gw__wr_over(room, sizeof room);
	int r = 0;
	gw__ram_section_encode_start(&c, w->ram_id, w->blocks->total_bytes);
	for (uint32_t i = 0; !r && i < w->blocks->n; i++) {
		struct gw__block block = w->blocks->v[i];
		if (page_bytes)
			block.page_bytes = page_bytes[i];
		gw__ram_section_encode_entry(&c, rule, &block);
		if (sizeof room - gw__wr_used(&c) < GW__RAM_ENTRY_MAX_BYTES) {
			r = put(w, &c, error);
			c = gw__wr_over(room, sizeof room);
		}
	}
	w->section_type = GW__ITEM_START;
	return r ? r : put(w, &c, error);
}

static int begin(struct gw__stream_writer *w, uint8_t type, struct gw__error *error)
{
	uint8_t head[8];
	struct gw__wr c = gw__wr_over(head, sizeof head);
	int r = gw__stream_writer_end_section(w, error);
	gw__section_encode(&c, &(struct gw__section){.type = type, .id = w->ram_id});
	w->section_type = type;
	w->part_bytes = 0;
	return r ? r : put(w, &c, error);
}

int gw__stream_writer_begin_part(struct gw__stream_writer *w, uint64_t bytes, struct gw__error *error)
{
	bool has_room = w->section_type == GW__ITEM_PART && w->part_bytes + bytes <= w->part_max_bytes;
	int r = w->section_type == GW__ITEM_END || has_room ? 0 : begin(w, GW__ITEM_PART, error);
	w->part_bytes += bytes;
	return r;
}

int gw__stream_writer_begin_end(struct gw__stream_writer *w, struct gw__error *error) { return begin(w, GW__ITEM_END, error); }

int gw__stream_writer_end_section(struct gw__stream_writer *w, struct gw__error *error)
{
	uint8_t bytes[16];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	if (!w->section_type)
		return 0;
	w->section_type = 0;
	gw__ram_section_encode_end(&c, w->ram_id);
	return put(w, &c, error);
}

void gw__stream_writer_encode_record(struct gw__stream_writer *w, struct gw__wr *c, uint32_t kind, uint32_t block, uint64_t off)
{
	gw__ram_record_encode(c, kind, off, w->last_block == block ? NULL : w->blocks->v[block].name);
	w->last_block = block;
	if (kind == GW__RAM_ZERO)
		gw__wr_u8(c, 0);
}

void gw__stream_writer_forget_block(struct gw__stream_writer *w) { w->last_block = -1; }
