/* SPDX-License-Identifier: MIT */
/* The page server's pages: which are still unsent, and which of them go next. See serve.h. */
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/pageserver/pageserver_private.h"

enum {
	NS_PER_S = 1000000000,
	FIRST_NS = NS_PER_S / 50,
	FIRST_BYTES = 16 << 20,
	PREFETCH_NEIGHBOURS = 16, /* what lies around a page that was asked for */
};

static uint64_t host_page_of(const struct gw__pageserver *s, const struct gw__block *b)
{
	for (uint32_t i = 0; i < s->o->blocks_n; i++)
		if (!strcmp(s->o->block[i].name, b->name) && s->o->block[i].page_bytes > s->page_bytes)
			return s->o->block[i].page_bytes;
	return s->page_bytes;
}

static int init_block(struct gw__pageserver *s, uint32_t i)
{
	const struct gw__block *b = &s->image->blocks.v[i];
	s->host_page_bytes[i] = host_page_of(s, b);
	if (!gw__is_power_of_2(s->host_page_bytes[i]))
		return gw__error_set(&s->run->error, -EINVAL,
			"the destination's pages of block \"%s\" are said to have %llu bytes, which is not a power of two", b->name,
			(unsigned long long)s->host_page_bytes[i]);
	if (!gw__is_aligned(b->used_bytes, s->host_page_bytes[i]))
		return gw__error_set(&s->run->error, -EINVAL,
			"block \"%s\" of %llu bytes is not a whole number of the destination's pages of %llu", b->name,
			(unsigned long long)b->used_bytes, (unsigned long long)s->host_page_bytes[i]);
	s->page_summary |= s->host_page_bytes[i];
	if (!b->ignored && gw__bitmap_init(&s->sent[i], b->used_bytes / s->page_bytes))
		return gw__error_set(&s->run->error, -ENOMEM, "no memory for a bitmap of block \"%s\"", b->name);
	s->unsent_pages += s->sent[i].bits;
	return 0;
}

int gw__pageserver_pages_init(struct gw__pageserver *s)
{
	uint32_t n = s->image->blocks.n;
	s->sent = calloc(n, sizeof *s->sent);
	s->host_page_bytes = calloc(n, sizeof *s->host_page_bytes);
	if (!s->sent || !s->host_page_bytes)
		return gw__error_set(&s->run->error, -ENOMEM, "no memory for %u RAM blocks", n);
	int r = 0;
	for (uint32_t i = 0; !r && i < n; i++)
		r = init_block(s, i);
	return r;
}

void gw__pageserver_pages_fini(struct gw__pageserver *s)
{
	for (uint32_t i = 0; s->sent && i < s->image->blocks.n; i++)
		gw__bitmap_fini(&s->sent[i]);
	free(s->sent);
	free(s->host_page_bytes);
}

void gw__pageserver_count_unsent(struct gw__pageserver *s)
{
	s->unsent_pages = 0;
	for (uint32_t i = 0; i < s->image->blocks.n; i++)
		s->unsent_pages += s->sent[i].bits - gw__bitmap_count(&s->sent[i]);
}

/* The host page that a page lies in is sent whole and in order: the destination places it when its last target page came. */
static uint64_t host_page_end(const struct gw__pageserver *s, uint32_t block, uint64_t page)
{
	uint64_t n = s->host_page_bytes[block] / s->page_bytes;
	return page - page % n + n;
}

/* Unsent pages up to `end`, in pieces. */
static int send_up_to(struct gw__pageserver *s, struct gw__page_out *out, uint32_t block, uint64_t first, uint64_t end, uint64_t *stats)
{
	int r = 0;
	s->piece.may_wait = true;
	for (uint64_t n = 0; !r && first < end; first += n) {
		r = gw__page_out_pages(s, out, block, first, end, &n);
		*stats += r ? 0 : n;
	}
	return r;
}

/* Nothing may come between the parts of a host page on its channel, and all of them go over the same one. */
static int finish_half(struct gw__pageserver *s)
{
	uint64_t end = s->partial_host_page.end;
	s->partial_host_page.end = 0;
	return send_up_to(s, &s->main, s->partial_host_page.block, s->partial_host_page.at, end, &s->stats->pushed_pages);
}

int gw__pageserver_request(struct gw__pageserver *s, uint32_t block, uint64_t start_off, uint64_t bytes)
{
	const struct gw__bitmap *sent = &s->sent[block];
	struct gw__page_out *out = s->preempt.chan ? &s->preempt : &s->main;
	uint64_t at = start_off / s->page_bytes, end = at + bytes / s->page_bytes;
	uint64_t first = gw__bitmap_next_clear_before(sent, at, end);
	bool in_half = block == s->partial_host_page.block && at < s->partial_host_page.end && end > s->partial_host_page.at;
	int r = out == &s->preempt ? gw__pageserver_reconnect_preempt(s) : 0;
	if (!r && s->partial_host_page.end && (in_half || out == &s->main))
		r = finish_half(s);
	for (at = gw__bitmap_next_clear_before(sent, first, end); !r && at < end; at = gw__bitmap_next_clear_before(sent, at, end))
		r = send_up_to(s, out, block, gw__round_down(at, s->host_page_bytes[block] / s->page_bytes), host_page_end(s, block, at),
			&s->stats->requested_pages);
	if (!r && first < end)
		gw__pageserver_note_answered(s, block, first, end - first);
	s->at_block = block; /* what is touched next is often what lies behind */
	s->at_page = end;
	return r;
}

static bool find_unsent(struct gw__pageserver *s)
{
	for (uint32_t tried = 0; tried <= s->image->blocks.n; tried++) {
		s->at_page = gw__bitmap_next_clear(&s->sent[s->at_block], s->at_page);
		if (s->at_page < s->sent[s->at_block].bits)
			return true;
		s->at_block = (s->at_block + 1) % s->image->blocks.n;
		s->at_page = 0;
	}
	return false;
}

/* Goes on in the page that was begun. */
static int push_half(struct gw__pageserver *s, uint64_t *n)
{
	int r = gw__page_out_pages(s, &s->main, s->partial_host_page.block, s->partial_host_page.at, s->partial_host_page.end, n);
	if (r)
		return r;
	s->partial_host_page.at += *n;
	if (s->partial_host_page.at == s->partial_host_page.end)
		s->partial_host_page.end = 0;
	return 0;
}

/* Unsent pages from `first`; what of them is one piece. */
static int push_piece(struct gw__pageserver *s, uint32_t block, uint64_t first, uint64_t end, uint64_t *n)
{
	uint64_t unit = s->host_page_bytes[block] / s->page_bytes;
	if (unit == 1)
		return gw__page_out_pages(s, &s->main, block, first, gw__bitmap_next_set_before(&s->sent[block], first, end), n);
	s->partial_host_page.block = block;
	s->partial_host_page.at = gw__round_down(first, unit);
	s->partial_host_page.end = s->partial_host_page.at + unit;
	return push_half(s, n);
}

bool gw__pageserver_prefetch_run(const struct gw__pageserver *s, uint32_t i, struct gw__ws_pages *run)
{
	const struct gw__working_set *ws = s->o->working_set;
	if (!ws || i >= 2 * ws->runs)
		return false;
	*run = ws->run[i % ws->runs];
	if (i >= ws->runs) {
		uint64_t end = gw__min(run->first + run->n + PREFETCH_NEIGHBOURS, s->sent[run->block].bits);
		run->first -= gw__min(run->first, PREFETCH_NEIGHBOURS);
		run->n = end - run->first;
	}
	return true;
}

static bool is_named(const struct gw__pageserver *s) { return s->o->working_set && s->next_run < s->o->working_set->runs; }

/* What of the working set and around it goes next. */
static bool find_wanted(struct gw__pageserver *s, struct gw__ws_pages *found)
{
	for (struct gw__ws_pages run; gw__pageserver_prefetch_run(s, s->next_run, &run); s->next_run++) {
		uint64_t end = run.first + run.n;
		found->first = gw__bitmap_next_clear_before(&s->sent[run.block], run.first, end);
		found->block = run.block;
		found->n = end - found->first;
		if (found->n)
			return true;
	}
	return false;
}

static void count_pushed(struct gw__pageserver *s, uint32_t block, uint64_t end, uint64_t n, bool named)
{
	gw__readahead_move(s, block, end, !n);
	s->stats->pushed_pages += n;
	s->stats->working_set_pages += named ? n : 0;
}

/*
 * A guest that finds these pages does not wait for them, and a destination takes them faster than later ones. It begins to run
 * later by the time that takes, so it is limited; one larger page may be too much.
 */
int gw__pageserver_send_working_set_head(struct gw__pageserver *s)
{
	uint64_t until_ns = gw__clock_now_ns(&s->run->clock) + FIRST_NS, bytes = FIRST_BYTES;
	struct gw__ws_pages found;
	int r = 0;
	if (s->o->max_bandwidth)
		bytes = gw__min(bytes, s->o->max_bandwidth / (NS_PER_S / FIRST_NS));
	s->piece.may_wait = true;
	for (uint64_t left = bytes / s->page_bytes, n; !r && find_wanted(s, &found); left -= n) {
		n = gw__min(gw__min(left, found.n), s->unsent_pages - 1);
		if (!n || s->host_page_bytes[found.block] > s->page_bytes || gw__clock_now_ns(&s->run->clock) > until_ns)
			break;
		r = push_piece(s, found.block, found.first, found.first + n, &n);
		if (!r)
			count_pushed(s, found.block, found.first + n, n, is_named(s));
	}
	s->main.last_block = -1; /* at the switch it is forgotten */
	return r ? r : gw__pageserver_end_part(s);
}

/* The next piece: the page that is half sent, the working set and what is near it, then everything else. *block and *page: where that is. */
static int push_next(struct gw__pageserver *s, uint32_t *block, uint64_t *page, uint64_t *n)
{
	struct gw__ws_pages wanted = {0};
	if (s->partial_host_page.end) {
		*block = s->partial_host_page.block;
		*page = s->partial_host_page.at;
		return push_half(s, n);
	}
	s->partial_host_page.wanted = find_wanted(s, &wanted);
	s->partial_host_page.named = is_named(s);
	if (!s->partial_host_page.wanted && !find_unsent(s))
		return 0;
	*block = s->partial_host_page.wanted ? wanted.block : s->at_block;
	*page = s->partial_host_page.wanted ? wanted.first : s->at_page;
	return push_piece(s, *block, *page, *page + (s->partial_host_page.wanted ? wanted.n : GW__PAGESERVER_PIECE_MAX), n);
}

int gw__pageserver_push(struct gw__pageserver *s)
{
	uint32_t block = 0;
	uint64_t page = 0, n = 0;
	s->piece.may_wait = gw__readahead_waits(s);
	int r = push_next(s, &block, &page, &n);
	if (r < 0)
		return r;
	count_pushed(s, block, page + n, n, s->partial_host_page.wanted && s->partial_host_page.named);
	return 0;
}
