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
#include "engine/sinks.h"
#include "wire/retpath.h"
#include "wire/vmdesc_text.h"

enum {
	PART_BYTES = 64 << 20, /* of pages per PART section */
	PAGES_PER_WRITE = 128,
	HEAD_BYTES = 8 + 1 + GW__NAME_MAX + 1,
	ZEROS_PER_WRITE = 4096,
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
	bool in_part;
	uint64_t part_bytes;
	uint8_t heads[PAGES_PER_WRITE][HEAD_BYTES];
	uint8_t records[ZEROS_PER_WRITE * 9 + HEAD_BYTES];
};

static int answer(struct stream_sink *s, int ms, struct gw__why *why);

/* A broken link is often the second half of the story: the destination may have said on the return path why it left. */
static int written(struct stream_sink *s, int r, struct gw__why *why)
{
	atomic_store_explicit(&s->run->counters.moved_bytes, s->chan->out_bytes, memory_order_relaxed);
	gw__run_tick(s->run);
	if ((r != -EPIPE && r != -ECONNRESET) || !s->o.ask_back)
		return r;
	struct gw__why said = {0};
	if (answer(s, 1000, &said) == -EREMOTEIO)
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
	int r = s->part_bytes + bytes > PART_BYTES ? end_part(s, why) : 0;
	if (r)
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

/* One message of the return path. 0, or a sentence. */
static int read_message(struct stream_sink *s, int ms, struct gw__rp_msg *m, struct gw__why *why)
{
	uint8_t bytes[GW__RP_MAX_BYTES];
	size_t n = 0;
	for (;;) {
		struct gw__rd c = gw__rd_over(bytes, n);
		int r = gw__rp_decode(&c, m, why);
		if (r != GW__SHORT)
			return r;
		r = gw__chan_wait_readable(s->chan, ms, why);
		if (r == 0)
			return gw__why_set(why, -ETIMEDOUT,
				"%s: the destination has everything, but did not say within %d s whether it could load it", s->chan->name,
				ms / 1000);
		/* Exactly one message: a header first, then what it announces. */
		size_t want = n < 4 ? 4 - n : 4 + gw__be_get(bytes + 2, 2) - n;
		ssize_t got = r < 0 ? r : gw__chan_read(s->chan, bytes + n, gw__min(want, sizeof bytes - n), why);
		if (got < 0)
			return (int)got;
		if (got == 0)
			return gw__why_set(why, -ECONNRESET,
				"%s: the destination closed the connection without saying that it has the guest; its log tells why",
				s->chan->name);
		n += (size_t)got;
	}
}

/* Waits for SHUT: 0, -EREMOTEIO when the destination says that it failed, or what went wrong on the way. */
static int answer(struct stream_sink *s, int ms, struct gw__why *why)
{
	for (;;) {
		struct gw__rp_msg m;
		int r = read_message(s, ms, &m, why);
		if (r)
			return r;
		GW__TRACE(&s->run->trace, return_path_receive, "%s %u", gw__rp_name(m.type), m.value);
		if (m.type == GW__RP_PONG || m.type == GW__RP_SWITCHOVER_ACK)
			continue;
		if (m.type != GW__RP_SHUT)
			return gw__why_set(why, -EPROTO, "%s: the destination sent %s, which has no place in a pre-copy", s->chan->name,
				gw__rp_name(m.type));
		if (m.value)
			return gw__why_set(why, -EREMOTEIO, "%s: the destination could not load the guest (it reports error %u); its log tells why",
				s->chan->name, m.value);
		return 0;
	}
}

static int commit(struct gw__sink *sink, struct gw__why *why)
{
	struct stream_sink *s = (struct stream_sink *)sink;
	if (s->o.ask_back)
		return answer(s, s->o.answer_ms, why);
	return gw__chan_end_writes(s->chan, why);
}

static void free_sink(struct gw__sink *sink)
{
	struct stream_sink *s = (struct stream_sink *)sink;
	gw__blocks_fini(&s->blocks);
	free(s);
}

int gw__sink_stream_new(struct gw__run *run, struct gw__chan *chan, const struct gw__sink_stream_opts *o,
	struct gw__sink **sink, struct gw__why *why)
{
	static const struct gw__sink_ops ops = {
		.config = put_config,
		.blocks = put_blocks,
		.pages = put_pages,
		.zeros = put_zeros,
		.peek = peek,
		.device = put_device,
		.round = note_nothing,
		.switchover = note_nothing,
		.ram_end = put_ram_end,
		.end = put_end,
		.commit = commit,
		.free = free_sink,
	};
	struct stream_sink *s = calloc(1, sizeof *s);
	if (!s)
		return gw__why_set(why, -ENOMEM, "no memory for a stream");
	s->sink.ops = &ops;
	s->run = run;
	s->chan = chan;
	s->o = *o;
	s->last_block = -1;
	*sink = &s->sink;
	return 0;
}
