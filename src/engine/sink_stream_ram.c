/* SPDX-License-Identifier: MIT */
/*
 * The RAM section of a stream to a destination: START with the blocks, pages in PARTs, END (docs/spec/stream.md 6). With a gang the pages
 * themselves go over its channels, and here stands what keeps these in step. See sink_stream.c; its thread.
 */
#include <errno.h>

#include "base/math.h"
#include "engine/sink_stream_parts.h"

enum { PART_BYTES = 64 << 20 }; /* of pages per PART section */

static int copy_blocks(struct gw__sink_stream *s, const struct gw__blocks *blocks, struct gw__why *why)
{
	return gw__blocks_add_all(&s->blocks, blocks) ? gw__why_set(why, -ENOMEM, "no memory for %u RAM blocks", blocks->n) : 0;
}

/* Where START and END of RAM end, all channels are brought in step; the mark goes out after the last SYNC. */
static int put_sync(struct gw__sink_stream *s, struct gw__why *why)
{
	uint8_t word[8];
	struct gw__wr c = gw__wr_over(word, sizeof word);
	if (!s->o.gang)
		return 0;
	int r = gw__gang_send_sync(s->o.gang, s->page_bytes);
	gw__wr_be64(&c, GW__RAM_FLUSH);
	return r || s->dialect.sync_per_section ? r : gw__sink_stream_put(s, word, gw__wr_used(&c), why);
}

static int put_ram_section_end(struct gw__sink_stream *s, struct gw__why *why)
{
	uint8_t bytes[16];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	gw__wr_be64(&c, GW__RAM_EOS);
	gw__footer_encode(&c, s->ram_id);
	return gw__sink_stream_put(s, bytes, gw__wr_used(&c), why);
}

int gw__sink_stream_put_blocks(struct gw__sink *sink, uint32_t section_id, const struct gw__blocks *blocks, struct gw__why *why)
{
	struct gw__sink_stream *s = (struct gw__sink_stream *)sink;
	int r = copy_blocks(s, blocks, why);
	s->ram_id = section_id;
	struct gw__blocks_rule rule = {.page_bytes = s->page_bytes, .address = s->config.ignore_shared};
	struct gw__wr c = gw__wr_over(s->records, sizeof s->records);
	gw__section_encode(&c, &(struct gw__section){.type = GW__ITEM_START, .id = section_id, .idstr = "ram", .version = GW__RAM_VERSION});
	gw__wr_be64(&c, blocks->total_bytes | GW__RAM_MEM_SIZE);
	for (uint32_t i = 0; !r && i < blocks->n; i++) {
		gw__block_encode(&c, &rule, &blocks->v[i]);
		if (sizeof s->records - gw__wr_used(&c) < 2 * GW__PAGE_HEAD_BYTES) {
			r = gw__sink_stream_put(s, s->records, gw__wr_used(&c), why);
			c = gw__wr_over(s->records, sizeof s->records);
		}
	}
	if (!r)
		r = gw__sink_stream_put(s, s->records, gw__wr_used(&c), why);
	if (!r)
		r = put_sync(s, why);
	return r ? r : put_ram_section_end(s, why);
}

int gw__sink_stream_end_part(struct gw__sink_stream *s, struct gw__why *why)
{
	if (!s->in_part)
		return 0;
	s->in_part = false;
	return put_ram_section_end(s, why);
}

/* Pages travel in PART sections of bounded length, so that a destination gets to look at other things in between. */
static int in_part(struct gw__sink_stream *s, uint64_t bytes, struct gw__why *why)
{
	int r = s->part_bytes + bytes > PART_BYTES && !s->in_end ? gw__sink_stream_end_part(s, why) : 0;
	if (r || s->in_end)
		return r;
	if (s->in_part) {
		s->part_bytes += bytes;
		return 0;
	}
	uint8_t head[8];
	struct gw__wr c = gw__wr_over(head, sizeof head);
	gw__section_encode(&c, &(struct gw__section){.type = GW__ITEM_PART, .id = s->ram_id});
	s->in_part = true;
	s->part_bytes = bytes;
	return gw__sink_stream_put(s, head, gw__wr_used(&c), why);
}

static const char *name_unless_same(struct gw__sink_stream *s, uint32_t block)
{
	bool same = s->last_block == block;
	s->last_block = block;
	return same ? NULL : s->blocks.v[block].name;
}

int gw__sink_stream_put_pages(struct gw__sink *sink, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__why *why)
{
	struct gw__sink_stream *s = (struct gw__sink_stream *)sink;
	int r = 0;
	for (int done = 0; !r && done < n;) {
		struct iovec iov[2 * GW__PAGES_PER_WRITE];
		int batch = n - done < GW__PAGES_PER_WRITE ? n - done : GW__PAGES_PER_WRITE;
		r = in_part(s, (uint64_t)batch * s->page_bytes, why);
		for (int i = 0; i < batch; i++) {
			struct gw__wr c = gw__wr_over(s->heads[i], GW__PAGE_HEAD_BYTES);
			gw__ram_record_encode(&c, GW__RAM_PAGE, off + (uint64_t)(done + i) * s->page_bytes, name_unless_same(s, block));
			iov[2 * i] = (struct iovec){s->heads[i], gw__wr_used(&c)};
			iov[2 * i + 1] = pages[done + i];
		}
		if (!r)
			r = gw__sink_stream_written(s, gw__chan_write_allv(s->chan, iov, 2 * batch, why), why);
		done += batch;
	}
	return r;
}

int gw__sink_stream_put_zeros(struct gw__sink *sink, uint32_t block, uint64_t off, uint64_t pages, struct gw__why *why)
{
	struct gw__sink_stream *s = (struct gw__sink_stream *)sink;
	int r = 0;
	while (!r && pages) {
		uint64_t batch = gw__min(pages, GW__ZEROS_PER_WRITE);
		r = in_part(s, batch * 9, why);
		struct gw__wr c = gw__wr_over(s->records, sizeof s->records);
		for (uint64_t i = 0; i < batch; i++, off += s->page_bytes) {
			gw__ram_record_encode(&c, GW__RAM_ZERO, off, name_unless_same(s, block));
			gw__wr_u8(&c, 0);
		}
		if (!r)
			r = gw__sink_stream_put(s, s->records, gw__wr_used(&c), why);
		pages -= batch;
	}
	return r;
}

/* All pages over the multifd channels. */
int gw__sink_stream_take_ram(struct gw__sink *sink, const struct gw__image *image, struct gw__why *why)
{
	struct gw__sink_stream *s = (struct gw__sink_stream *)sink;
	(void)why; /* is run->why, which the workers' conductor writes */
	s->image = image;
	int r = gw__gang_send_start(s->o.gang, image);
	int joined = gw__gang_send_join(s->o.gang);
	return r ? r : joined;
}

static int put_zeros_of(struct gw__sink_stream *s, uint32_t block, struct gw__why *why)
{
	const struct gw__bitmap *present = &s->image->present[block];
	int r = 0;
	for (uint64_t i = gw__bitmap_next_clear(present, 0), n; !r && i < present->bits; i = gw__bitmap_next_clear(present, i + n)) {
		n = gw__bitmap_next_set(present, i) - i;
		atomic_fetch_add_explicit(&s->run->counters.zero_pages, n, memory_order_relaxed);
		r = gw__sink_stream_put_zeros(&s->sink, block, i * s->page_bytes, n, why);
	}
	return r;
}

/*
 * A destination too old to read zero pages in packets hears of them here, in the END section: a PART of their own would be
 * one more sync for those to whom every section's end is one.
 */
static int put_absent_pages(struct gw__sink_stream *s, struct gw__why *why)
{
	int r = 0;
	if (!s->image || s->o.zeros_in_packets)
		return 0;
	for (uint32_t i = 0; !r && i < s->image->blocks.n; i++)
		r = s->image->blocks.v[i].ignored ? 0 : put_zeros_of(s, i, why);
	return r;
}

int gw__sink_stream_put_ram_end(struct gw__sink *sink, struct gw__why *why)
{
	struct gw__sink_stream *s = (struct gw__sink_stream *)sink;
	uint8_t head[8];
	struct gw__wr c = gw__wr_over(head, sizeof head);
	int r = gw__sink_stream_end_part(s, why);
	gw__section_encode(&c, &(struct gw__section){.type = GW__ITEM_END, .id = s->ram_id});
	if (!r)
		r = gw__sink_stream_put(s, head, gw__wr_used(&c), why);
	s->in_end = true;
	if (!r)
		r = put_absent_pages(s, why);
	if (!r)
		r = put_sync(s, why);
	return r ? r : put_ram_section_end(s, why);
}
