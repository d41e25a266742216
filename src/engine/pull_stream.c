/* SPDX-License-Identifier: MIT */
/*
 * Peer to sink: runs the stream decoder over a channel and hands what comes out to a sink.
 *
 * The way of a page: socket -> feed buffer -> sink, in batches of consecutive pages that point into the buffer. A batch
 * is given away before the buffer moves. One thread, the conductor.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/feed.h"
#include "engine/source.h"
#include "wire/retpath.h"
#include "wire/xbzrle.h"

typedef unsigned long long ull;

enum {
	BATCH_PAGES = 256,
	QUIET_MS = 5000,  /* docs/spec/stream.md 9: after a possible end without a description */
	FEED_SLACK = 64 << 10, /* so that the decoder, which knows what it reads, meets the limit first */
	LINGER_MS = 5000, /* after SHUT, for the source to close first */
};

struct pull {
	struct gw__run *run;
	struct gw__feed feed;
	struct gw__stream stream;
	struct gw__sink *sink;
	struct gw__stream_tally *tally;
	struct iovec batch[BATCH_PAGES];
	int batch_n;
	uint32_t batch_block;
	uint64_t batch_off;
	bool ram_ended; /* told to the sink */
	bool done;
	uint8_t *scratch; /* a page, for deltas */
};

void gw__stream_tally_fini(struct gw__stream_tally *t)
{
	free(t->block);
	t->block = NULL;
	t->blocks_n = 0;
}

static void count(_Atomic uint64_t *counter, uint64_t by)
{
	/* One writer: no need for a locked add. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by, memory_order_relaxed);
}

static int send_message(struct pull *p, uint16_t type, uint32_t value, struct gw__why *why)
{
	uint8_t bytes[16];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	gw__rp_encode(&c, &(struct gw__rp_msg){.type = type, .value = value});
	GW__TRACE(&p->run->trace, return_path_send, "%s %u", gw__rp_name(type), value);
	return gw__chan_write_all(p->feed.chan, bytes, gw__wr_used(&c), why);
}

static int flush_batch(struct pull *p)
{
	if (!p->batch_n)
		return 0;
	int n = p->batch_n;
	p->batch_n = 0;
	count(&p->run->counters.pages, (uint64_t)n);
	return p->sink->ops->pages(p->sink, p->batch_block, p->batch_off, p->batch, n, &p->run->why);
}

static int fill(struct pull *p)
{
	int r = flush_batch(p);
	if (r)
		return r;
	r = gw__feed_fill(&p->feed, &p->run->why);
	atomic_store_explicit(&p->run->counters.moved_bytes, p->feed.chan->in_bytes, memory_order_relaxed);
	gw__run_tick(p->run);
	return r;
}

/* The payload of a page is in the buffer, or is brought there; the decoder never sees it. */
static int take_payload(struct pull *p, const uint8_t **payload)
{
	while (gw__feed_left(&p->feed) < p->stream.page_bytes) {
		if (p->feed.ended)
			return gw__why_set(&p->run->why, -EPROTO,
				"at stream offset %llu: the stream ends inside a page; it was cut short", (ull)p->stream.off);
		int r = fill(p);
		if (r)
			return r;
	}
	*payload = gw__feed_bytes(&p->feed);
	gw__feed_use(&p->feed, p->stream.page_bytes);
	return 0;
}

static int on_page(struct pull *p, const struct gw__event *ev)
{
	const uint8_t *payload = NULL;
	int r = take_payload(p, &payload); /* may flush: look at the batch afterwards */
	if (r)
		return r;
	uint64_t page_bytes = p->stream.page_bytes;
	bool continues = p->batch_n && p->batch_n < BATCH_PAGES && ev->where.block == p->batch_block &&
			 ev->where.off == p->batch_off + (uint64_t)p->batch_n * page_bytes;
	if (!continues) {
		r = flush_batch(p);
		if (r)
			return r;
		p->batch_block = ev->where.block;
		p->batch_off = ev->where.off;
	}
	p->batch[p->batch_n++] = (struct iovec){(void *)payload, page_bytes};
	p->tally->pages++;
	p->tally->page_payload_bytes += page_bytes;
	p->tally->block[ev->where.block].pages++;
	return 0;
}

static int on_zero(struct pull *p, const struct gw__event *ev)
{
	int r = flush_batch(p);
	if (r)
		return r;
	count(&p->run->counters.zero_pages, 1);
	p->tally->zero_pages++;
	p->tally->block[ev->where.block].zero_pages++;
	return p->sink->ops->zeros(p->sink, ev->where.block, ev->where.off, 1, &p->run->why);
}

static int on_xbzrle(struct pull *p, const struct gw__event *ev)
{
	struct gw__why *why = &p->run->why;
	const char *name = p->stream.blocks.v[ev->where.block].name;
	int r = flush_batch(p);
	if (!r)
		r = p->sink->ops->peek(p->sink, ev->where.block, ev->where.off, p->scratch, why);
	if (r == GW__SHORT)
		return gw__why_set(why, -EPROTO, "at stream offset %llu: an XBZRLE delta for page %llx of block \"%s\", which was never sent",
			(ull)ev->off, (ull)ev->where.off, name);
	if (!r)
		r = gw__xbzrle_decode(ev->delta.p, ev->delta.n, p->scratch, p->stream.page_bytes, why);
	if (r)
		return gw__why_where(why, "at stream offset %llu, page %llx of block \"%s\"", (ull)ev->off, (ull)ev->where.off, name);
	struct iovec page = {p->scratch, p->stream.page_bytes};
	p->tally->xbzrle_pages++;
	p->tally->xbzrle_bytes += ev->delta.n;
	p->tally->block[ev->where.block].xbzrle_pages++;
	return p->sink->ops->pages(p->sink, ev->where.block, ev->where.off, &page, 1, why);
}

static int on_blocks(struct pull *p, const struct gw__event *ev)
{
	(void)ev;
	struct gw__stream *s = &p->stream;
	p->scratch = malloc(s->page_bytes);
	p->tally->block = calloc(s->blocks.n, sizeof *p->tally->block);
	p->tally->blocks_n = s->blocks.n;
	if (!p->scratch || !p->tally->block)
		return gw__why_set(&p->run->why, -ENOMEM, "no memory for %u RAM blocks", s->blocks.n);
	atomic_store(&p->run->counters.total_bytes, s->blocks.total_bytes);
	gw__run_phase(p->run, GW__PHASE_RAM);
	return p->sink->ops->blocks(p->sink, s->ram_id, &s->blocks, &p->run->why);
}

static int on_config(struct pull *p, const struct gw__event *ev)
{
	(void)ev;
	if (p->stream.config.mapped_ram)
		return gw__why_set(&p->run->why, -EOPNOTSUPP, "this is a mapped-ram image, which has to be read as a file, not as a stream");
	return p->sink->ops->config(p->sink, &p->stream.config, &p->run->why);
}

static int on_command(struct pull *p, const struct gw__event *ev)
{
	const struct gw__command *cmd = &ev->command;
	GW__TRACE(&p->run->trace, command, "%s", gw__command_name(cmd->number));
	p->tally->commands[cmd->number]++;
	if (cmd->number == GW__CMD_PING && p->feed.chan->two_way)
		return send_message(p, GW__RP_PONG, cmd->ping_token, &p->run->why);
	if (cmd->number == GW__CMD_SWITCHOVER_START)
		return p->sink->ops->switchover(p->sink, &p->run->why);
	return 0;
}

static int end_ram(struct pull *p)
{
	int r = flush_batch(p);
	if (r || p->ram_ended)
		return r;
	p->ram_ended = true;
	gw__run_phase(p->run, GW__PHASE_DEVICES);
	return p->sink->ops->ram_end(p->sink, &p->run->why);
}

static int on_section_end(struct pull *p, const struct gw__event *ev)
{
	int r = flush_batch(p);
	if (r)
		return r;
	if (ev->section.type == GW__ITEM_END)
		return end_ram(p);
	if (ev->section.type != GW__ITEM_PART)
		return 0;
	atomic_fetch_add_explicit(&p->run->counters.rounds, 1, memory_order_relaxed);
	return p->sink->ops->round(p->sink, &p->run->why);
}

static int on_device(struct pull *p, const struct gw__event *ev)
{
	/* A background snapshot never ends its RAM section: the first device behind it does. */
	int r = p->stream.background ? end_ram(p) : 0;
	if (r)
		return r;
	GW__TRACE(&p->run->trace, device, "%s/%u %zu bytes", ev->section.idstr, ev->section.instance, ev->body.n);
	p->tally->device_bytes += ev->raw.n;
	return p->sink->ops->device(p->sink, &ev->section, ev->off, ev->raw, &p->run->why);
}

static int on_opaque(struct pull *p, const struct gw__event *ev)
{
	p->tally->opaque_sections++;
	return gw__why_set(&p->run->why, -EOPNOTSUPP,
		"at stream offset %llu: section \"%s\" has a format of its own that cannot be kept; switch off what makes the source send it "
		"(for dirty-bitmap: the capability dirty-bitmaps)",
		(ull)ev->off, ev->section.idstr);
}

static int on_desc(struct pull *p, const struct gw__event *ev)
{
	p->tally->description_bytes = ev->raw.n;
	p->tally->described = true;
	return p->sink->ops->end(p->sink, ev->body, &p->run->why);
}

static int on_end(struct pull *p, const struct gw__event *ev)
{
	(void)ev;
	p->done = true;
	p->tally->trailing_bytes = gw__feed_left(&p->feed);
	return p->tally->described ? 0 : p->sink->ops->end(p->sink, (struct gw__view){0}, &p->run->why);
}

static int on_flush(struct pull *p, const struct gw__event *ev)
{
	(void)ev;
	p->tally->flushes++;
	return 0;
}

static int handle(struct pull *p, const struct gw__event *ev)
{
	static int (*const by_kind[])(struct pull *p, const struct gw__event *ev) = {
		[GW__EVENT_CONFIG] = on_config,
		[GW__EVENT_COMMAND] = on_command,
		[GW__EVENT_BLOCKS] = on_blocks,
		[GW__EVENT_SECTION_END] = on_section_end,
		[GW__EVENT_PAGE] = on_page,
		[GW__EVENT_ZERO] = on_zero,
		[GW__EVENT_XBZRLE] = on_xbzrle,
		[GW__EVENT_FLUSH] = on_flush,
		[GW__EVENT_DEVICE] = on_device,
		[GW__EVENT_OPAQUE] = on_opaque,
		[GW__EVENT_DESC] = on_desc,
		[GW__EVENT_END] = on_end,
	};
	if ((size_t)ev->kind < sizeof by_kind / sizeof by_kind[0] && by_kind[ev->kind])
		return by_kind[ev->kind](p, ev);
	return 0; /* SECTION, EOF: what they announce comes by itself */
}

/* More bytes for the decoder. `*last`: there will be none, or the source is silent after what may be the end. */
static int more(struct pull *p, bool *last)
{
	if (p->stream.state == GW__STREAM_TAIL && gw__feed_left(&p->feed)) {
		int r = gw__chan_wait_readable(p->feed.chan, QUIET_MS, &p->run->why);
		if (r < 0)
			return r;
		if (r == 0 && gw__tail_could_end(gw__feed_bytes(&p->feed), gw__feed_left(&p->feed))) {
			*last = true;
			return 0;
		}
	}
	int r = fill(p);
	*last = p->feed.ended;
	return r;
}

static int decode_all(struct pull *p)
{
	bool last = false;
	while (!p->done) {
		struct gw__event ev;
		size_t used;
		int r = gw__stream_next(&p->stream, gw__feed_bytes(&p->feed), gw__feed_left(&p->feed), last, &used, &ev, &p->run->why);
		if (r < 0)
			return r;
		gw__feed_use(&p->feed, used);
		r = r ? handle(p, &ev) : more(p, &last);
		if (r < 0)
			return r;
	}
	return 0;
}

static void sum_up(struct pull *p)
{
	struct gw__stream_tally *t = p->tally;
	t->stream_bytes = p->stream.off;
	t->devices = p->stream.devices_n;
	t->parts = p->stream.parts;
	t->background = p->stream.background;
	t->return_path = p->stream.return_path;
	t->advised = p->stream.advised;
	t->switchover = p->stream.switchover;
}

/*
 * Tell the source how it went. Success is told only when the data is safe; then the source closes first, because
 * closing with its last words unread would reset the connection.
 */
static int tell_source(struct pull *p, int result)
{
	if (!p->stream.return_path || !p->feed.chan->two_way)
		return result;
	if (result) {
		struct gw__why ignored = {0}; /* the first failure is what matters; the source notices a closed link as well */
		send_message(p, GW__RP_SHUT, 1, &ignored);
		return result;
	}
	int r = send_message(p, GW__RP_SHUT, 0, &p->run->why);
	if (r)
		return gw__why_where(&p->run->why, "the guest is kept, but the source could not be told so and will run on");
	struct gw__why ignored = {0};
	if (gw__chan_wait_readable(p->feed.chan, LINGER_MS, &ignored) == 1)
		gw__feed_fill(&p->feed, &ignored);
	return 0;
}

int gw__pull_stream(struct gw__run *run, struct gw__chan *chan, struct gw__sink *sink, struct gw__stream_tally *tally)
{
	struct gw__stream_tally own = {0};
	struct pull *p = calloc(1, sizeof *p);
	if (!p)
		return gw__why_set(&run->why, -ENOMEM, "no memory for a stream decoder");
	p->run = run;
	p->sink = sink;
	p->tally = tally ? tally : &own;
	gw__stream_init(&p->stream, &(struct gw__stream_opts){.tail_max_bytes = run->tail_max_bytes});
	int r = gw__feed_init(&p->feed, chan, run->tail_max_bytes + FEED_SLACK, &run->why);
	if (!r)
		r = decode_all(p);
	if (!r) {
		gw__run_phase(run, GW__PHASE_SYNC);
		r = sink->ops->commit(sink, &run->why);
	}
	r = tell_source(p, r);
	if (!r)
		gw__run_phase(run, GW__PHASE_DONE);
	sum_up(p);
	gw__stream_fini(&p->stream);
	gw__feed_fini(&p->feed);
	gw__stream_tally_fini(&own);
	free(p->scratch);
	free(p);
	return r;
}
