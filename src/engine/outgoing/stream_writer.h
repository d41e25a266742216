/* SPDX-License-Identifier: MIT */
/*
 * Writes the RAM section of an outgoing stream: START with the block list, PARTs of bounded length, END, and the records in them
 * (docs/spec/stream.md 6, 7). It knows which section is open and which block was named last, and nothing of what is sent or in which order.
 *
 * Owned by whoever sends; one thread. The channel and the blocks are borrowed.
 */
#ifndef GW_ENGINE_OUTGOING_STREAM_WRITER_H
#define GW_ENGINE_OUTGOING_STREAM_WRITER_H

#include "base/error.h"
#include "io/chan.h"
#include "wire/framing.h"
#include "wire/ram.h"

enum { GW__RECORD_HEAD_MAX_BYTES = 8 + 1 + GW__NAME_MAX + 1 }; /* word, name, fill byte of a zero page */

struct gw__stream_writer {
	struct gw__chan *chan;
	const struct gw__blocks *blocks;
	uint32_t ram_id;
	uint64_t part_max_bytes; /* of pages in a PART */

	/* Its own. */
	uint8_t section_type; /* of the section that is open; 0: none */
	uint64_t part_bytes;
	int64_t last_block; /* for CONTINUE; -1: the next record names its block */
};

void gw__stream_writer_init(struct gw__stream_writer *w, struct gw__chan *chan, const struct gw__blocks *blocks, uint32_t ram_id,
	uint64_t part_max_bytes);

/* START and the block list; `page_bytes` NULL: no block says a page size of its own. Ended by end_section. */
int gw__stream_writer_begin_list(struct gw__stream_writer *w, const struct gw__blocks_rule *rule, const uint64_t *page_bytes,
	struct gw__error *error);
/* Records for `bytes` of pages follow: a PART is open and has room for them. Inside END nothing happens. */
int gw__stream_writer_begin_part(struct gw__stream_writer *w, uint64_t bytes, struct gw__error *error);
/* END, also of a PART that is open. Ended by end_section. */
int gw__stream_writer_begin_end(struct gw__stream_writer *w, struct gw__error *error);
/* EOS and footer of the section that is open; nothing if there is none. */
int gw__stream_writer_end_section(struct gw__stream_writer *w, struct gw__error *error);

/* A page's record without its payload, and with the fill byte of a ZERO. */
void gw__stream_writer_encode_record(struct gw__stream_writer *w, struct gw__wr *c, uint32_t kind, uint32_t block, uint64_t off);
/* The next record names its block again. */
void gw__stream_writer_forget_block(struct gw__stream_writer *w);

#endif
