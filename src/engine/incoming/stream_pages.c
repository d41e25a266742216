/* SPDX-License-Identifier: MIT */
/*
 * Pages of a stream on their way into the sink: neighbours are gathered in a batch that points into the stream buffer. Not those of multifd
 * channels, which the multifd threads have. See stream.h; the main thread's.
 */
#include <errno.h>

#include "engine/incoming/stream_private.h"
#include "wire/xbzrle.h"

typedef unsigned long long ull;

static void count(_Atomic uint64_t *counter, uint64_t by) { atomic_fetch_add_explicit(counter, by, memory_order_relaxed); }

static int flush_zeros(struct gw__incoming_stream *p)
{
	uint64_t n = p->zeros_n;
	p->zeros_n = 0;
	count(&p->run->counters.zero_pages, n);
	p->stats->zero_pages += n;
	p->stats->block[p->batch_block].zero_pages += n;
	return p->sink->ops->zeros(p->sink, p->batch_block, p->batch_off, n, &p->run->error);
}

int gw__incoming_flush_batch(struct gw__incoming_stream *p)
{
	if (p->zeros_n)
		return flush_zeros(p);
	if (!p->batch_n)
		return 0;
	int n = p->batch_n;
	p->batch_n = 0;
	count(&p->run->counters.pages, (uint64_t)n);
	return p->sink->ops->pages(p->sink, p->batch_block, p->batch_off, p->batch, n, &p->run->error);
}

/* The payload of a page is in the buffer, or is brought there; the decoder never sees it. */
static int take_payload(struct gw__incoming_stream *p, const uint8_t **payload)
{
	while (gw__stream_buf_left(&p->buf) < p->stream.page_bytes) {
		if (p->buf.ended)
			return gw__error_set(&p->run->error, -EPROTO,
				"at stream offset %llu: the stream ends inside a page; it was cut short", (ull)p->stream.off);
		int r = gw__incoming_fill(p);
		if (r)
			return r;
	}
	*payload = gw__stream_buf_bytes(&p->buf);
	gw__stream_buf_use(&p->buf, p->stream.page_bytes);
	return 0;
}

/* Is this page the next one of the batch, which has `n` pages of its kind? */
static bool continues(const struct gw__incoming_stream *p, const struct gw__event *ev, uint64_t n)
{
	return n && ev->where.block == p->batch_block && ev->where.off == p->batch_off + n * p->stream.page_bytes;
}

static int begin_batch(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	int r = gw__incoming_flush_batch(p);
	if (r)
		return r;
	p->batch_block = ev->where.block;
	p->batch_off = ev->where.off;
	return 0;
}

int gw__incoming_page(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	const uint8_t *payload = NULL;
	int r = take_payload(p, &payload); /* may flush: look at the batch afterwards */
	if (r)
		return r;
	if (!gw__incoming_page_is_needed(p, &ev->where))
		return 0;
	uint64_t page_bytes = p->stream.page_bytes;
	if (!continues(p, ev, (uint64_t)p->batch_n) || p->batch_n == GW__BATCH_PAGES)
		r = begin_batch(p, ev);
	if (r)
		return r;
	p->batch[p->batch_n++] = (struct iovec){(void *)payload, page_bytes};
	p->stats->pages++;
	p->stats->page_payload_bytes += page_bytes;
	p->stats->block[ev->where.block].pages++;
	return 0;
}

int gw__incoming_zero(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	if (!gw__incoming_page_is_needed(p, &ev->where))
		return 0;
	int r = continues(p, ev, p->zeros_n) ? 0 : begin_batch(p, ev);
	p->zeros_n += !r;
	return r;
}

int gw__incoming_xbzrle(struct gw__incoming_stream *p, const struct gw__event *ev)
{
	struct gw__error *error = &p->run->error;
	const char *name = p->stream.blocks.v[ev->where.block].name;
	int r = gw__incoming_flush_batch(p);
	if (!r)
		r = p->sink->ops->read_back(p->sink, ev->where.block, ev->where.off, p->scratch, error);
	if (r == GW__SHORT)
		return gw__error_set(error, -EPROTO,
			"at stream offset %llu: an XBZRLE delta for page %llx of block \"%s\", which was never sent", (ull)ev->off,
			(ull)ev->where.off, name);
	if (!r)
		r = gw__xbzrle_decode(ev->delta.p, ev->delta.n, p->scratch, p->stream.page_bytes, error);
	if (r)
		return gw__error_where(error, "at stream offset %llu, page %llx of block \"%s\"", (ull)ev->off, (ull)ev->where.off, name);
	struct iovec page = {p->scratch, p->stream.page_bytes};
	p->stats->xbzrle_pages++;
	p->stats->xbzrle_bytes += ev->delta.n;
	p->stats->block[ev->where.block].xbzrle_pages++;
	return p->sink->ops->pages(p->sink, ev->where.block, ev->where.off, &page, 1, error);
}
