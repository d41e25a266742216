/* SPDX-License-Identifier: MIT */
/* The page server's pages: what is still unsent, and putting it on the wire. See serve.h. */
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/serve_internal.h"

enum { PART_BYTES = 16 << 20, HEAD_BYTES = 8 + 1 + GW__NAME_MAX + 1 };

static uint64_t host_page_of(const struct gw__serve *s, const struct gw__block *b)
{
	for (uint32_t i = 0; i < s->o->blocks_n; i++)
		if (!strcmp(s->o->block[i].name, b->name) && s->o->block[i].page_bytes > s->page_bytes)
			return s->o->block[i].page_bytes;
	return s->page_bytes;
}

static int init_block(struct gw__serve *s, uint32_t i)
{
	const struct gw__block *b = &s->image->blocks.v[i];
	s->host_page_bytes[i] = host_page_of(s, b);
	if (!gw__is_aligned(b->used_bytes, s->host_page_bytes[i]))
		return gw__why_set(&s->run->why, -EINVAL, "block \"%s\" of %llu bytes is not a whole number of the destination's pages of %llu",
			b->name, (unsigned long long)b->used_bytes, (unsigned long long)s->host_page_bytes[i]);
	s->page_summary |= s->host_page_bytes[i];
	if (b->ignored)
		return 0;
	if (gw__bitmap_init(&s->unsent[i], b->used_bytes / s->page_bytes))
		return gw__why_set(&s->run->why, -ENOMEM, "no memory for a bitmap of block \"%s\"", b->name);
	gw__bitmap_set_range(&s->unsent[i], 0, s->unsent[i].bits);
	return 0;
}

void gw__serve_count_unsent(struct gw__serve *s)
{
	s->unsent_pages = 0;
	for (uint32_t i = 0; i < s->image->blocks.n; i++)
		s->unsent_pages += gw__bitmap_count(&s->unsent[i]);
}

int gw__serve_pages_init(struct gw__serve *s)
{
	uint32_t n = s->image->blocks.n;
	s->unsent = calloc(n, sizeof *s->unsent);
	s->host_page_bytes = calloc(n, sizeof *s->host_page_bytes);
	s->pages = malloc(GW__SERVE_BATCH_PAGES * s->page_bytes);
	if (!s->unsent || !s->host_page_bytes || !s->pages)
		return gw__why_set(&s->run->why, -ENOMEM, "no memory for %u RAM blocks", n);
	int r = 0;
	for (uint32_t i = 0; !r && i < n; i++)
		r = init_block(s, i);
	gw__serve_count_unsent(s);
	return r;
}

void gw__serve_pages_fini(struct gw__serve *s)
{
	for (uint32_t i = 0; s->unsent && i < s->image->blocks.n; i++)
		gw__bitmap_fini(&s->unsent[i]);
	free(s->unsent);
	free(s->host_page_bytes);
	free(s->pages);
}

int gw__serve_end_part(struct gw__serve *s)
{
	uint8_t bytes[16];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	if (!s->in_part)
		return 0;
	s->in_part = false;
	gw__wr_be64(&c, GW__RAM_EOS);
	gw__footer_encode(&c, s->image->ram_id);
	return gw__serve_write(s, bytes, gw__wr_used(&c));
}

static int begin_part(struct gw__serve *s)
{
	uint8_t bytes[8];
	struct gw__wr c = gw__wr_over(bytes, sizeof bytes);
	int r = s->part_bytes > PART_BYTES ? gw__serve_end_part(s) : 0;
	if (r || s->in_part)
		return r;
	s->in_part = true;
	s->part_bytes = 0;
	gw__section_encode(&c, &(struct gw__section){.type = GW__ITEM_PART, .id = s->image->ram_id});
	return gw__serve_write(s, bytes, gw__wr_used(&c));
}

/* At most a batch of pages, one after the other in a block. None of them was sent before, none will be again. */
static int send_run(struct gw__serve *s, uint32_t block, uint64_t first, uint64_t n)
{
	uint8_t heads[GW__SERVE_BATCH_PAGES][HEAD_BYTES];
	struct iovec iov[2 * GW__SERVE_BATCH_PAGES];
	int used = 0;
	int r = begin_part(s);
	if (!r)
		r = gw__image_read_pages(s->image, block, first, n, s->pages, &s->run->why);
	if (r)
		return r;
	for (uint64_t i = 0; i < n; i++) {
		bool present = gw__bitmap_test(&s->image->present[block], first + i);
		struct gw__wr c = gw__wr_over(heads[i], HEAD_BYTES);
		gw__ram_record_encode(&c, present ? GW__RAM_PAGE : GW__RAM_ZERO, (first + i) * s->page_bytes,
			s->last_block == block ? NULL : s->image->blocks.v[block].name);
		s->last_block = block;
		if (!present)
			gw__wr_u8(&c, 0);
		s->tally->zero_pages += !present;
		iov[used++] = (struct iovec){heads[i], gw__wr_used(&c)};
		if (present)
			iov[used++] = (struct iovec){s->pages + i * s->page_bytes, s->page_bytes};
	}
	r = gw__chan_write_allv(s->chan, iov, used, &s->run->why);
	if (r)
		return r;
	gw__bitmap_clear_range(&s->unsent[block], first, n);
	s->unsent_pages -= n;
	s->part_bytes += n * s->page_bytes;
	atomic_fetch_add_explicit(&s->run->counters.pages, n, memory_order_relaxed);
	atomic_store_explicit(&s->run->counters.moved_bytes, s->chan->out_bytes, memory_order_relaxed);
	return 0;
}

/* A host page is sent whole and in order: the destination places it when its last target page came. */
static int send_host_page(struct gw__serve *s, uint32_t block, uint64_t first, uint64_t *sent)
{
	uint64_t n = s->host_page_bytes[block] / s->page_bytes;
	int r = 0;
	first -= first % n;
	for (uint64_t i = 0; !r && i < n; i += GW__SERVE_BATCH_PAGES)
		r = send_run(s, block, first + i, gw__min(n - i, GW__SERVE_BATCH_PAGES));
	*sent = n;
	return r;
}

int gw__serve_request(struct gw__serve *s, uint32_t block, uint64_t start_off, uint64_t bytes)
{
	const struct gw__bitmap *unsent = &s->unsent[block];
	uint64_t end = (start_off + bytes) / s->page_bytes;
	int r = 0;
	for (uint64_t i = gw__bitmap_next_set(unsent, start_off / s->page_bytes); !r && i < end; i = gw__bitmap_next_set(unsent, i)) {
		uint64_t sent;
		r = send_host_page(s, block, i, &sent);
		s->tally->requested_pages += r ? 0 : sent;
	}
	s->at_block = block; /* what is touched next is often what lies behind */
	s->at_page = end;
	return r;
}

static bool find_unsent(struct gw__serve *s)
{
	for (uint32_t tried = 0; tried <= s->image->blocks.n; tried++) {
		s->at_page = gw__bitmap_next_set(&s->unsent[s->at_block], s->at_page);
		if (s->at_page < s->unsent[s->at_block].bits)
			return true;
		s->at_block = (s->at_block + 1) % s->image->blocks.n;
		s->at_page = 0;
	}
	return false;
}

int gw__serve_push(struct gw__serve *s)
{
	uint64_t sent;
	if (!find_unsent(s))
		return 0;
	uint64_t end = gw__bitmap_next_clear(&s->unsent[s->at_block], s->at_page);
	int r;
	if (s->host_page_bytes[s->at_block] > s->page_bytes) {
		r = send_host_page(s, s->at_block, s->at_page, &sent);
	} else {
		sent = gw__min(end - s->at_page, GW__SERVE_BATCH_PAGES);
		r = send_run(s, s->at_block, s->at_page, sent);
	}
	s->tally->pushed_pages += r ? 0 : sent;
	return r;
}
