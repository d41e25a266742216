/* SPDX-License-Identifier: MIT */
/*
 * Pages onto a connection: records, and the parts of the RAM section around them. What is sent, and in which order, is for
 * page_scheduler.c. See serve.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/pageserver/pageserver_private.h"

enum {
	PART_BYTES = 16 << 20,
	HEAD_BYTES = 8 + 1, /* of a record that goes on in its block, with the fill byte of a zero page */
	NAME_BYTES = 1 + GW__NAME_MAX,
	/* One piece. It delays the next request by the time its writing takes, so it is small; pages of zeros are nothing but a head. */
	PIECE_PAGES = 8,
	FAR_PIECE_PAGES = 32, /* while nobody asks */
	PIECE_IOV = 2 * FAR_PIECE_PAGES + 1,
};

int gw__page_out_init(struct gw__pageserver *s)
{
	struct gw__page_batch *p = &s->piece;
	p->heads = malloc(NAME_BYTES + GW__PAGESERVER_PIECE_MAX * HEAD_BYTES);
	p->pages = malloc(FAR_PIECE_PAGES * s->page_bytes);
	p->iov = calloc(PIECE_IOV, sizeof *p->iov);
	return p->heads && p->pages && p->iov ? 0 : gw__error_set(&s->run->error, -ENOMEM, "no memory for %d pages", FAR_PIECE_PAGES);
}

void gw__page_out_fini(struct gw__pageserver *s)
{
	free(s->piece.heads);
	free(s->piece.pages);
	free(s->piece.iov);
	s->piece = (struct gw__page_batch){0};
}

uint64_t gw__page_out_bytes(const struct gw__pageserver *s)
{
	return s->main.chan->out_bytes + (s->preempt.chan ? s->preempt.chan->out_bytes : 0);
}

int gw__pageserver_write(struct gw__pageserver *s, const void *bytes, size_t n)
{
	return gw__chan_write_all(s->main.chan, bytes, n, &s->run->error);
}

int gw__pageserver_end_part(struct gw__pageserver *s)
{
	uint8_t bytes[16];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	if (!s->main.in_part)
		return 0;
	s->main.in_part = false;
	gw__wr_be64(&c, GW__RAM_EOS);
	gw__footer_encode(&c, s->image->ram_id);
	return gw__pageserver_write(s, bytes, gw__wr_used(&c));
}

static int begin_part(struct gw__pageserver *s)
{
	uint8_t bytes[8];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	int r = s->main.part_bytes > PART_BYTES ? gw__pageserver_end_part(s) : 0;
	if (r || s->main.in_part)
		return r;
	s->main.in_part = true;
	s->main.part_bytes = 0;
	gw__section_encode(&c, &(struct gw__section){.type = GW__ITEM_PART, .id = s->image->ram_id});
	return gw__pageserver_write(s, bytes, gw__wr_used(&c));
}

/* Neighbours in memory are one entry. */
static void add_bytes(struct gw__page_batch *p, void *bytes, size_t n)
{
	struct iovec *last = p->iov_n ? &p->iov[p->iov_n - 1] : NULL;
	if (last && (uint8_t *)last->iov_base + last->iov_len == bytes)
		last->iov_len += n;
	else
		p->iov[p->iov_n++] = (struct iovec){bytes, n};
}

static void add_records(struct gw__pageserver *s, struct gw__page_out *out, struct gw__wr *heads, uint32_t block, uint64_t first,
	uint64_t n, uint8_t *pages)
{
	for (uint64_t i = 0; i < n; i++) {
		uint8_t *head = heads->p;
		gw__ram_record_encode(heads, pages ? GW__RAM_PAGE : GW__RAM_ZERO, (first + i) * s->page_bytes,
			out->last_block == block ? NULL : s->image->blocks.v[block].name);
		out->last_block = block;
		if (!pages)
			gw__wr_u8(heads, 0);
		add_bytes(&s->piece, head, (size_t)(heads->p - head));
		if (pages)
			add_bytes(&s->piece, pages + i * s->page_bytes, s->page_bytes);
	}
}

/* Fills the piece with runs of pages that have content and runs of those that do not; up to which page in *end. */
static int fill_piece(struct gw__pageserver *s, struct gw__page_out *out, uint32_t block, uint64_t first, uint64_t *end)
{
	const struct gw__bitmap *present = &s->image->present[block];
	struct gw__wr heads = gw__wr_over(s->piece.heads, NAME_BYTES + GW__PAGESERVER_PIECE_MAX * HEAD_BYTES);
	uint64_t at = first, next, pages = 0, limit = gw__min(*end, first + GW__PAGESERVER_PIECE_MAX);
	uint64_t pages_max = s->bulk_mode && !s->preempt.chan ? FAR_PIECE_PAGES : PIECE_PAGES;
	int r = 0;
	s->piece.iov_n = 0;
	for (; at < limit && pages < pages_max; at = next) {
		uint8_t *to = s->piece.pages + pages * s->page_bytes;
		next = gw__bitmap_next_set_before(present, at, limit);
		if (next > at) {
			s->stats->zero_pages += next - at;
			add_records(s, out, &heads, block, at, next - at, NULL);
			continue;
		}
		next = gw__bitmap_next_clear_before(present, at, gw__min(limit, at + pages_max - pages));
		r = s->piece.may_wait ? gw__image_read_pages(s->image, block, at, next - at, to, &s->run->error)
				      : gw__image_read_pages_now(s->image, block, at, next - at, to);
		if (r)
			break;
		add_records(s, out, &heads, block, at, next - at, to);
		pages += next - at;
	}
	*end = at;
	return r < 0 || at == first ? r : 0;
}

int gw__page_out_pages(struct gw__pageserver *s, struct gw__page_out *out, uint32_t block, uint64_t first, uint64_t end, uint64_t *n)
{
	int r = out == &s->main ? begin_part(s) : 0; /* the preempt channel carries records and nothing else */
	if (!r)
		r = fill_piece(s, out, block, first, &end);
	if (!r)
		r = gw__chan_write_allv(out->chan, s->piece.iov, s->piece.iov_n, &s->run->error);
	if (r)
		return r;
	*n = end - first;
	out->part_bytes += *n * s->page_bytes;
	gw__bitmap_set_range(&s->sent[block], first, *n);
	s->unsent_pages -= *n;
	atomic_fetch_add_explicit(&s->run->counters.pages, *n, memory_order_relaxed);
	atomic_store_explicit(&s->run->counters.moved_bytes, gw__page_out_bytes(s), memory_order_relaxed);
	return 0;
}
