/* SPDX-License-Identifier: MIT */
/*
 * Pages of a stream on their way into the sink: neighbours are gathered in a batch that points into the feed's buffer. Not those of multifd
 * channels, which the gang has. See source.h; the conductor's.
 */
#include <errno.h>

#include "engine/pull_internal.h"
#include "wire/xbzrle.h"

typedef unsigned long long ull;

static void count(_Atomic uint64_t *counter, uint64_t by) { atomic_fetch_add_explicit(counter, by, memory_order_relaxed); }

static int flush_zeros(struct gw__pull *p)
{
	uint64_t n = p->zeros_n;
	p->zeros_n = 0;
	count(&p->run->counters.zero_pages, n);
	p->tally->zero_pages += n;
	p->tally->block[p->batch_block].zero_pages += n;
	return p->sink->ops->zeros(p->sink, p->batch_block, p->batch_off, n, &p->run->why);
}

int gw__pull_flush_batch(struct gw__pull *p)
{
	if (p->zeros_n)
		return flush_zeros(p);
	if (!p->batch_n)
		return 0;
	int n = p->batch_n;
	p->batch_n = 0;
	count(&p->run->counters.pages, (uint64_t)n);
	return p->sink->ops->pages(p->sink, p->batch_block, p->batch_off, p->batch, n, &p->run->why);
}

/* The payload of a page is in the buffer, or is brought there; the decoder never sees it. */
static int take_payload(struct gw__pull *p, const uint8_t **payload)
{
	while (gw__feed_left(&p->feed) < p->stream.page_bytes) {
		if (p->feed.ended)
			return gw__why_set(&p->run->why, -EPROTO, "at stream offset %llu: the stream ends inside a page; it was cut short",
				(ull)p->stream.off);
		int r = gw__pull_fill(p);
		if (r)
			return r;
	}
	*payload = gw__feed_bytes(&p->feed);
	gw__feed_use(&p->feed, p->stream.page_bytes);
	return 0;
}

/* Is this page the next one of the batch, which has `n` pages of its kind? */
static bool continues(const struct gw__pull *p, const struct gw__event *ev, uint64_t n)
{
	return n && ev->where.block == p->batch_block && ev->where.off == p->batch_off + n * p->stream.page_bytes;
}

static int begin_batch(struct gw__pull *p, const struct gw__event *ev)
{
	int r = gw__pull_flush_batch(p);
	if (r)
		return r;
	p->batch_block = ev->where.block;
	p->batch_off = ev->where.off;
	return 0;
}

int gw__pull_page(struct gw__pull *p, const struct gw__event *ev)
{
	const uint8_t *payload = NULL;
	int r = take_payload(p, &payload); /* may flush: look at the batch afterwards */
	if (r)
		return r;
	if (!gw__pull_wants(p, &ev->where))
		return 0;
	uint64_t page_bytes = p->stream.page_bytes;
	if (!continues(p, ev, (uint64_t)p->batch_n) || p->batch_n == GW__BATCH_PAGES)
		r = begin_batch(p, ev);
	if (r)
		return r;
	p->batch[p->batch_n++] = (struct iovec){(void *)payload, page_bytes};
	p->tally->pages++;
	p->tally->page_payload_bytes += page_bytes;
	p->tally->block[ev->where.block].pages++;
	return 0;
}

int gw__pull_zero(struct gw__pull *p, const struct gw__event *ev)
{
	if (!gw__pull_wants(p, &ev->where))
		return 0;
	int r = continues(p, ev, p->zeros_n) ? 0 : begin_batch(p, ev);
	p->zeros_n += !r;
	return r;
}

int gw__pull_xbzrle(struct gw__pull *p, const struct gw__event *ev)
{
	struct gw__why *why = &p->run->why;
	const char *name = p->stream.blocks.v[ev->where.block].name;
	int r = gw__pull_flush_batch(p);
	if (!r)
		r = p->sink->ops->peek(p->sink, ev->where.block, ev->where.off, p->scratch, why);
	if (r == GW__SHORT)
		return gw__why_set(why, -EPROTO,
			"at stream offset %llu: an XBZRLE delta for page %llx of block \"%s\", which was never sent", (ull)ev->off,
			(ull)ev->where.off, name);
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
