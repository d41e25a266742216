/* SPDX-License-Identifier: MIT */
/* What sink_stream.c and sink_stream_ram.c share. Nobody else includes it. */
#ifndef GW_ENGINE_SINK_STREAM_PARTS_H
#define GW_ENGINE_SINK_STREAM_PARTS_H

#include "engine/sinks.h"
#include "plan/dialect.h"

enum {
	GW__PAGES_PER_WRITE = 128,
	GW__PAGE_HEAD_BYTES = 8 + 1 + GW__NAME_MAX + 1,
	GW__ZEROS_PER_WRITE = 4096,
};

/* The conductor's. */
struct gw__sink_stream {
	struct gw__sink sink; /* first */
	struct gw__run *run;
	struct gw__chan *chan;
	struct gw__sink_stream_opts o;
	struct gw__config config;
	struct gw__blocks blocks;
	uint32_t ram_id;
	uint64_t page_bytes;
	int64_t last_block;
	bool in_part, in_end;
	uint64_t part_bytes;
	const struct gw__image *image; /* whose pages the gang sent; NULL without */
	struct gw__dialect dialect;
	uint8_t heads[GW__PAGES_PER_WRITE][GW__PAGE_HEAD_BYTES];
	uint8_t records[GW__ZEROS_PER_WRITE * 9 + GW__PAGE_HEAD_BYTES];
};

/* --- sink_stream.c --- */

/* What became of a write: counts, and looks for a last word of the destination if the link broke. */
int gw__sink_stream_written(struct gw__sink_stream *s, int r, struct gw__why *why);
int gw__sink_stream_put(struct gw__sink_stream *s, const void *bytes, size_t n, struct gw__why *why);

/* --- sink_stream_ram.c: the first: no other section may begin inside a PART; the others as in struct gw__sink_ops --- */

int gw__sink_stream_end_part(struct gw__sink_stream *s, struct gw__why *why);
int gw__sink_stream_put_blocks(struct gw__sink *sink, uint32_t section_id, const struct gw__blocks *blocks, struct gw__why *why);
int gw__sink_stream_put_pages(struct gw__sink *sink, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__why *why);
int gw__sink_stream_put_zeros(struct gw__sink *sink, uint32_t block, uint64_t off, uint64_t pages, struct gw__why *why);
int gw__sink_stream_take_ram(struct gw__sink *sink, const struct gw__image *image, struct gw__why *why);
int gw__sink_stream_put_ram_end(struct gw__sink *sink, struct gw__why *why);

#endif
