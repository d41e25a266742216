/* SPDX-License-Identifier: MIT */
/*
 * The sink that speaks to a destination: writes a plain pre-copy stream as a QEMU source does (docs/spec/stream.md 6)
 * and listens on the return path for how it went.
 *
 * SWITCHOVER_START is never sent: releases before 10.0 die of it and the others do without. mapped-ram is taken out of the
 * configuration, because both ends must agree on it. One thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/answer.h"
#include "engine/sinks.h"
#include "plan/dialect.h"
#include "wire/vmdesc_text.h"

enum {
	PART_BYTES = 64 << 20, /* of pages per PART section */
	PAGES_PER_WRITE = 128,
	HEAD_BYTES = 8 + 1 + GW__NAME_MAX + 1,
	ZEROS_PER_WRITE = 4096,
	LAST_WORD_MS = 1000,
};

struct stream_sink {
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
	uint8_t heads[PAGES_PER_WRITE][HEAD_BYTES];
	uint8_t records[ZEROS_PER_WRITE * 9 + HEAD_BYTES];
};

/* A broken link is often the second half of the story: the destination may have said on the return path why it left. */
static int written(struct stream_sink *s, int r, struct gw__why *why)
{
	atomic_store_explicit(&s->run->counters.moved_bytes, s->chan->out_bytes, memory_order_relaxed);
	gw__run_tick(s->run);
	if ((r != -EPIPE && r != -ECONNRESET) || !s->o.ask_back)
		return r;
	struct gw__why said = {0};
	if (gw__answer_await(s->run, s->chan, LAST_WORD_MS, &said) == -EREMOTEIO)
		*why = said;
	return why->code;
}

static int put(struct stream_sink *s, const void *bytes, size_t n, struct gw__why *why)
{
	return written(s, gw__chan_write_all(s->chan, bytes, n, why), why);
}

static int put_config(struct gw__sink *sink, const struct gw__config *config, struct gw__why *why)
{
	struct stream_sink *s = (struct stream_sink *)sink;
	struct gw__wr c = gw__wr_over(s->records, sizeof s->records);
	s->config = *config;
	gw__config_drop_cap(&s->config, "mapped-ram");
	s->page_bytes = gw__config_page_bytes(&s->config);
	s->dialect = gw__plan_dialect(s->config.machine);
	gw__header_encode(&c);
	gw__config_encode(&c, &s->config);
	if (s->o.ask_back) {
		const uint8_t token[4] = {0, 0, 0, 1};
		gw__command_encode(&c, GW__CMD_OPEN_RETURN_PATH, NULL, 0);
		gw__command_encode(&c, GW__CMD_PING, token, sizeof token);
	}
	return put(s, s->records, gw__wr_used(&c), why);
}

static int copy_blocks(struct stream_sink *s, const struct gw__blocks *blocks, struct gw__why *why)
{
	for (uint32_t i = 0; i < blocks->n; i++)
		if (gw__blocks_add(&s->blocks, &blocks->v[i]))
			return gw__why_set(why, -ENOMEM, "no memory for %u RAM blocks", blocks->n);
	return 0;
}

/* Where START and END of RAM end, all channels are brought in step; the mark goes out after the last SYNC. */
static int put_sync(struct stream_sink *s, struct gw__why *why)
{
	uint8_t word[8];
	struct gw__wr c = gw__wr_over(word, sizeof word);
	if (!s->o.gang)
		return 0;
	int r = gw__gang_send_sync(s->o.gang, s->page_bytes);
	gw__wr_be64(&c, GW__RAM_FLUSH);
	return r || s->dialect.sync_per_section ? r : put(s, word, gw__wr_used(&c), why);
}

static int put_ram_section_end(struct stream_sink *s, struct gw__why *why)
{
	uint8_t bytes[16];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	gw__wr_be64(&c, GW__RAM_EOS);
	gw__footer_encode(&c, s->ram_id);
	return put(s, bytes, gw__wr_used(&c), why);
}

static int put_blocks(struct gw__sink *sink, uint32_t section_id, const struct gw__blocks *blocks, struct gw__why *why)
{
	struct stream_sink *s = (struct stream_sink *)sink;
	int r = copy_blocks(s, blocks, why);
	s->ram_id = section_id;
	struct gw__blocks_rule rule = {.page_bytes = s->page_bytes, .address = s->config.ignore_shared};
	struct gw__wr c = gw__wr_over(s->records, sizeof s->records);
	gw__section_encode(&c,
		&(struct gw__section){.type = GW__ITEM_START, .id = section_id, .idstr = "ram", .version = GW__RAM_VERSION});
	gw__wr_be64(&c, blocks->total_bytes | GW__RAM_MEM_SIZE);
	for (uint32_t i = 0; !r && i < blocks->n; i++) {
		gw__block_encode(&c, &rule, &blocks->v[i]);
		if (sizeof s->records - gw__wr_used(&c) < 2 * HEAD_BYTES) {
			r = put(s, s->records, gw__wr_used(&c), why);
			c = gw__wr_over(s->records, sizeof s->records);
		}
	}
	if (!r)
		r = put(s, s->records, gw__wr_used(&c), why);
	if (!r)
		r = put_sync(s, why);
	return r ? r : put_ram_section_end(s, why);
}

static int end_part(struct stream_sink *s, struct gw__why *why)
{
	if (!s->in_part)
		return 0;
	s->in_part = false;
	return put_ram_section_end(s, why);
}

/* Pages travel in PART sections of bounded length, so that a destination gets to look at other things in between. */
static int in_part(struct stream_sink *s, uint64_t bytes, struct gw__why *why)
{
	int r = s->part_bytes + bytes > PART_BYTES && !s->in_end ? end_part(s, why) : 0;
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
	return put(s, head, gw__wr_used(&c), why);
}

static const char *name_unless_same(struct stream_sink *s, uint32_t block)
{
	bool same = s->last_block == block;
	s->last_block = block;
	return same ? NULL : s->blocks.v[block].name;
}

static int put_pages(struct gw__sink *sink, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__why *why)
{
	struct stream_sink *s = (struct stream_sink *)sink;
	int r = 0;
	for (int done = 0; !r && done < n;) {
		struct iovec iov[2 * PAGES_PER_WRITE];
		int batch = n - done < PAGES_PER_WRITE ? n - done : PAGES_PER_WRITE;
		r = in_part(s, (uint64_t)batch * s->page_bytes, why);
		for (int i = 0; i < batch; i++) {
			struct gw__wr c = gw__wr_over(s->heads[i], HEAD_BYTES);
			gw__ram_record_encode(&c, GW__RAM_PAGE, off + (uint64_t)(done + i) * s->page_bytes, name_unless_same(s, block));
			iov[2 * i] = (struct iovec){s->heads[i], gw__wr_used(&c)};
			iov[2 * i + 1] = pages[done + i];
		}
		if (!r)
			r = written(s, gw__chan_write_allv(s->chan, iov, 2 * batch, why), why);
		done += batch;
	}
	return r;
}

static int put_zeros(struct gw__sink *sink, uint32_t block, uint64_t off, uint64_t pages, struct gw__why *why)
{
	struct stream_sink *s = (struct stream_sink *)sink;
	int r = 0;
	while (!r && pages) {
		uint64_t batch = gw__min(pages, ZEROS_PER_WRITE);
		r = in_part(s, batch * 9, why);
		struct gw__wr c = gw__wr_over(s->records, sizeof s->records);
		for (uint64_t i = 0; i < batch; i++, off += s->page_bytes) {
			gw__ram_record_encode(&c, GW__RAM_ZERO, off, name_unless_same(s, block));
			gw__wr_u8(&c, 0);
		}
		if (!r)
			r = put(s, s->records, gw__wr_used(&c), why);
		pages -= batch;
	}
	return r;
}

/* All pages over the multifd channels. */
static int take_ram(struct gw__sink *sink, const struct gw__image *image, struct gw__why *why)
{
	struct stream_sink *s = (struct stream_sink *)sink;
	(void)why; /* is run->why, which the workers' conductor writes */
	s->image = image;
	int r = gw__gang_send_start(s->o.gang, image);
	int joined = gw__gang_send_join(s->o.gang);
	return r ? r : joined;
}

static int put_zeros_of(struct stream_sink *s, uint32_t block, struct gw__why *why)
{
	const struct gw__bitmap *present = &s->image->present[block];
	int r = 0;
	for (uint64_t i = gw__bitmap_next_clear(present, 0), n; !r && i < present->bits; i = gw__bitmap_next_clear(present, i + n)) {
		n = gw__bitmap_next_set(present, i) - i;
		atomic_fetch_add_explicit(&s->run->counters.zero_pages, n, memory_order_relaxed);
		r = put_zeros(&s->sink, block, i * s->page_bytes, n, why);
	}
	return r;
}

/*
 * A destination too old to read zero pages in packets hears of them here, in the END section: a PART of their own would be
 * one more sync for those to whom every section's end is one.
 */
static int put_absent_pages(struct stream_sink *s, struct gw__why *why)
{
	int r = 0;
	if (!s->image || s->o.zeros_in_packets)
		return 0;
	for (uint32_t i = 0; !r && i < s->image->blocks.n; i++)
		r = s->image->blocks.v[i].ignored ? 0 : put_zeros_of(s, i, why);
	return r;
}

static int peek(struct gw__sink *sink, uint32_t block, uint64_t off, void *page, struct gw__why *why)
{
	(void)sink;
	(void)block;
	(void)off;
	(void)page;
	return gw__why_set(why, -EOPNOTSUPP, "a stream with XBZRLE deltas cannot be passed on as a stream; convert it to an image first");
}

static int put_device(struct gw__sink *sink, const struct gw__section *section, uint64_t off, struct gw__view raw,
	struct gw__why *why)
{
	struct stream_sink *s = (struct stream_sink *)sink;
	(void)section, (void)off;
	return put(s, raw.p, raw.n, why);
}

static int note_nothing(struct gw__sink *sink, struct gw__why *why)
{
	(void)sink;
	(void)why;
	return 0;
}

static int put_ram_end(struct gw__sink *sink, struct gw__why *why)
{
	struct stream_sink *s = (struct stream_sink *)sink;
	uint8_t head[8];
	struct gw__wr c = gw__wr_over(head, sizeof head);
	int r = end_part(s, why);
	gw__section_encode(&c, &(struct gw__section){.type = GW__ITEM_END, .id = s->ram_id});
	if (!r)
		r = put(s, head, gw__wr_used(&c), why);
	s->in_end = true;
	if (!r)
		r = put_absent_pages(s, why);
	if (!r)
		r = put_sync(s, why);
	return r ? r : put_ram_section_end(s, why);
}

static int put_end(struct gw__sink *sink, struct gw__view description, struct gw__why *why)
{
	struct stream_sink *s = (struct stream_sink *)sink;
	uint8_t head[8];
	char *text = NULL;
	size_t n = 0;
	struct gw__wr c = gw__wr_over(head, sizeof head);
	gw__wr_u8(&c, GW__ITEM_EOF);
	if (description.n) {
		if (gw__vmdesc_reconfigure(description.p, description.n, &s->config, &text, &n))
			return gw__why_set(why, -ENOMEM, "no memory for the VM description");
		gw__wr_u8(&c, GW__ITEM_VMDESC);
		gw__wr_be32(&c, (uint32_t)n);
	}
	int r = put(s, head, gw__wr_used(&c), why);
	if (!r)
		r = put(s, text, n, why);
	free(text);
	return r;
}

static int commit(struct gw__sink *sink, struct gw__why *why)
{
	struct stream_sink *s = (struct stream_sink *)sink;
	if (s->o.ask_back)
		return gw__answer_await(s->run, s->chan, s->o.answer_ms, why);
	return gw__chan_end_writes(s->chan, why);
}

static void free_sink(struct gw__sink *sink)
{
	struct stream_sink *s = (struct stream_sink *)sink;
	gw__blocks_fini(&s->blocks);
	free(s);
}

#define STREAM_OPS                                                                                                   \
	.config = put_config, .blocks = put_blocks, .pages = put_pages, .zeros = put_zeros, .peek = peek,             \
	.device = put_device, .round = note_nothing, .switchover = note_nothing, .ram_end = put_ram_end, .end = put_end, \
	.commit = commit, .free = free_sink

static const struct gw__sink_ops one_channel = {STREAM_OPS};
static const struct gw__sink_ops many_channels = {STREAM_OPS, .ram_of_image = take_ram};

int gw__sink_stream_new(struct gw__run *run, struct gw__chan *chan, const struct gw__sink_stream_opts *o,
	struct gw__sink **sink, struct gw__why *why)
{
	struct stream_sink *s = calloc(1, sizeof *s);
	if (!s)
		return gw__why_set(why, -ENOMEM, "no memory for a stream");
	s->sink.ops = o->gang ? &many_channels : &one_channel;
	s->run = run;
	s->chan = chan;
	s->o = *o;
	s->last_block = -1;
	*sink = &s->sink;
	return 0;
}
