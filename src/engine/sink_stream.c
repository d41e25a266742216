/* SPDX-License-Identifier: MIT */
/*
 * The sink that speaks to a destination: writes a plain pre-copy stream as a QEMU source does (docs/spec/stream.md 6)
 * and listens on the return path for how it went.
 *
 * SWITCHOVER_START is never sent: releases before 10.0 die of it and the others do without. mapped-ram is taken out of the
 * configuration, because both ends must agree on it. The RAM section is sink_stream_ram.c. One thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/answer.h"
#include "engine/sink_stream_parts.h"
#include "wire/vmdesc_text.h"

enum { LAST_WORD_MS = 1000 };

/* A broken link is often the second half of the story: the destination may have said on the return path why it left. */
int gw__sink_stream_written(struct gw__sink_stream *s, int r, struct gw__why *why)
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

int gw__sink_stream_put(struct gw__sink_stream *s, const void *bytes, size_t n, struct gw__why *why)
{
	return gw__sink_stream_written(s, gw__chan_write_all(s->chan, bytes, n, why), why);
}

static int put_config(struct gw__sink *sink, const struct gw__config *config, struct gw__why *why)
{
	struct gw__sink_stream *s = (struct gw__sink_stream *)sink;
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
	return gw__sink_stream_put(s, s->records, gw__wr_used(&c), why);
}

static int peek(struct gw__sink *sink, uint32_t block, uint64_t off, void *page, struct gw__why *why)
{
	(void)sink;
	(void)block;
	(void)off;
	(void)page;
	return gw__why_set(why, -EOPNOTSUPP, "a stream with XBZRLE deltas cannot be passed on as a stream; convert it to an image first");
}

static int put_device(struct gw__sink *sink, const struct gw__section *section, uint64_t off, struct gw__view raw, struct gw__why *why)
{
	struct gw__sink_stream *s = (struct gw__sink_stream *)sink;
	(void)section, (void)off;
	int r = gw__sink_stream_end_part(s, why);
	return r ? r : gw__sink_stream_put(s, raw.p, raw.n, why);
}

static int note_nothing(struct gw__sink *sink, struct gw__why *why)
{
	(void)sink;
	(void)why;
	return 0;
}

static int put_end(struct gw__sink *sink, struct gw__view description, struct gw__why *why)
{
	struct gw__sink_stream *s = (struct gw__sink_stream *)sink;
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
	int r = gw__sink_stream_put(s, head, gw__wr_used(&c), why);
	if (!r)
		r = gw__sink_stream_put(s, text, n, why);
	free(text);
	return r;
}

static int commit(struct gw__sink *sink, struct gw__why *why)
{
	struct gw__sink_stream *s = (struct gw__sink_stream *)sink;
	if (s->o.ask_back)
		return gw__answer_await(s->run, s->chan, s->o.answer_ms, why);
	return gw__chan_end_writes(s->chan, why);
}

static void free_sink(struct gw__sink *sink)
{
	struct gw__sink_stream *s = (struct gw__sink_stream *)sink;
	gw__blocks_fini(&s->blocks);
	free(s);
}

#define STREAM_OPS                                                                                                                         \
	.config = put_config, .blocks = gw__sink_stream_put_blocks, .pages = gw__sink_stream_put_pages,                                    \
	.zeros = gw__sink_stream_put_zeros, .peek = peek, .device = put_device, .round = note_nothing, .switchover = note_nothing,         \
	.ram_end = gw__sink_stream_put_ram_end, .end = put_end, .commit = commit, .free = free_sink

static const struct gw__sink_ops one_channel = {STREAM_OPS};
static const struct gw__sink_ops many_channels = {STREAM_OPS, .ram_of_image = gw__sink_stream_take_ram};

int gw__sink_stream_new(struct gw__run *run, struct gw__chan *chan, const struct gw__sink_stream_opts *o, struct gw__sink **sink,
	struct gw__why *why)
{
	struct gw__sink_stream *s = calloc(1, sizeof *s);
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
