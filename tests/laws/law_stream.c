/* SPDX-License-Identifier: MIT */
/*
 * The stream decoder on made-up streams: how the bytes are fed makes no difference, every cut is noticed,
 * what was decoded is written again as the same bytes, and whatever one byte is changed to, it keeps its
 * promises (those stand in stream_feed.c) within bounded memory. Allocations are counted through the linker's
 * --wrap.
 */
#include "laws.h"

#include <errno.h>
#include <malloc.h>

#include <jansson.h>

#include "make_stream.h"
#include "stream_feed.h"

/* A made-up stream has some thousand bytes. Of what is allocated for it, most is room for 16 block names. */
enum { MEMORY_MAX = 256 << 10, TAIL_MAX = 1 << 20 };

static size_t live, peak;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t each);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t each);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static void *count(void *p)
{
	live += p ? malloc_usable_size(p) : 0;
	peak = live > peak ? live : peak;
	return p;
}

void *__wrap_malloc(size_t n) { return count(__real_malloc(n)); }
void *__wrap_calloc(size_t n, size_t each) { return count(__real_calloc(n, each)); }

void *__wrap_realloc(void *p, size_t n)
{
	size_t before = p ? malloc_usable_size(p) : 0;
	void *q = __real_realloc(p, n);
	if (q)
		live -= before;
	return count(q);
}

void __wrap_free(void *p)
{
	live -= p ? malloc_usable_size(p) : 0;
	__real_free(p);
}

static size_t one_byte(void *ctx)
{
	(void)ctx;
	return 1;
}

static size_t any_piece(void *ctx)
{
	struct law *l = ctx;
	return 1 + law_below(l, law_below(l, 8) ? 12 : 3000);
}

static struct feed feed_of(const struct sb *b)
{
	return (struct feed){.bytes = b->p, .n = b->n, .opts = {.tail_max_bytes = TAIL_MAX}, .guard = true};
}

static unsigned any_kind(struct law *l) { return law_below(l, 4) ? 0 : MAKE_MAPPED; }

static void how_it_is_fed_makes_no_difference(struct law *l)
{
	struct made m;
	struct feed_end whole, bytes, pieces;
	make_stream(l, any_kind(l), &m);
	struct feed f = feed_of(&m.b);
	feed_run(&f, &whole);
	if (whole.code)
		fprintf(stderr, "%s", whole.error.text);
	LAW(l, whole.code == 0 && whole.count[GW__EVENT_END] == 1 && whole.trailing == 0);
	f.piece = one_byte;
	f.open_end = m.described; /* then the end needs nobody to say that there is no more */
	feed_run(&f, &bytes);
	LAW(l, bytes.code == 0 && bytes.log_n == whole.log_n && !strcmp(bytes.log, whole.log));
	f.piece = any_piece;
	f.ctx = l;
	feed_run(&f, &pieces);
	LAW(l, pieces.code == 0 && pieces.log_n == whole.log_n && !strcmp(pieces.log, whole.log));
	feed_end_fini(&whole);
	feed_end_fini(&bytes);
	feed_end_fini(&pieces);
	sb_fini(&m.b);
}

/* A stream cut directly behind its EOF is one whose description was suppressed: that cut is no cut. */
static void every_cut_is_noticed(struct law *l)
{
	struct made m;
	make_stream(l, any_kind(l) | MAKE_CALM | MAKE_SMALL, &m);
	for (size_t n = 0; n < m.b.n; n++) {
		struct feed_end end;
		struct feed f = feed_of(&m.b);
		f.n = n;
		f.quiet = true;
		feed_run(&f, &end);
		LAW(l, n == m.eof_at + 1 ? end.code == 0 : end.code < 0);
		LAW(l, end.count[GW__EVENT_END] == (n == m.eof_at + 1));
		feed_end_fini(&end);
		f.open_end = true;
		feed_run(&f, &end);
		LAW(l, end.code != 0 && end.count[GW__EVENT_END] == 0);
		feed_end_fini(&end);
	}
	sb_fini(&m.b);
}

/* Everything a stream is made of, written again by the encoders from what the events say. */
struct again {
	struct gw__wr w;
	uint8_t bytes[64 << 10];
};

static void write_list(struct gw__wr *w, const struct gw__stream *s)
{
	gw__wr_be64(w, s->blocks.total_bytes | GW__RAM_MEM_SIZE);
	for (uint32_t i = 0; i < s->blocks.n; i++)
		gw__block_encode(w, &s->rule, &s->blocks.v[i]);
}

static void write_record(struct gw__wr *w, const struct gw__stream *s, const struct gw__event *ev, const uint8_t *page)
{
	static const uint32_t kinds[] =
		{[GW__EVENT_PAGE] = GW__RAM_PAGE, [GW__EVENT_ZERO] = GW__RAM_ZERO, [GW__EVENT_XBZRLE] = GW__RAM_XBZRLE};
	bool same_block = ev->raw.p[7] & GW__RAM_CONTINUE; /* the one thing the events do not tell */
	gw__ram_record_encode(w, kinds[ev->kind], ev->where.off, same_block ? NULL : s->blocks.v[ev->where.block].name);
	if (ev->kind == GW__EVENT_PAGE)
		gw__wr_bytes(w, page, s->page_bytes);
	if (ev->kind == GW__EVENT_ZERO)
		gw__wr_u8(w, 0);
	if (ev->kind == GW__EVENT_XBZRLE) {
		gw__wr_u8(w, 1);
		gw__wr_be16(w, (uint16_t)ev->delta.n);
		gw__wr_bytes(w, ev->delta.p, ev->delta.n);
	}
}

static void write_section(struct gw__wr *w, const struct gw__event *ev)
{
	gw__section_encode(w, &ev->section);
	gw__wr_bytes(w, ev->body.p, ev->body.n);
	gw__footer_encode(w, ev->section.id);
}

static void write_again(void *ctx, const struct gw__stream *s, const struct gw__event *ev, const uint8_t *page)
{
	struct gw__wr *w = &((struct again *)ctx)->w;
	switch (ev->kind) {
	case GW__EVENT_CONFIG:
		gw__header_encode(w);
		gw__config_encode(w, &s->config);
		return;
	case GW__EVENT_COMMAND:
		gw__command_encode(w, ev->command.number, ev->command.payload, ev->command.length);
		return;
	case GW__EVENT_SECTION:
		gw__section_encode(w, &ev->section);
		return;
	case GW__EVENT_BLOCKS:
		write_list(w, s);
		return;
	case GW__EVENT_FLUSH:
		gw__wr_be64(w, GW__RAM_FLUSH);
		return;
	case GW__EVENT_PAGE:
	case GW__EVENT_ZERO:
	case GW__EVENT_XBZRLE:
		write_record(w, s, ev, page);
		return;
	case GW__EVENT_EOS:
		gw__wr_be64(w, GW__RAM_EOS);
		return;
	case GW__EVENT_SECTION_END:
		gw__footer_encode(w, ev->section.id);
		return;
	case GW__EVENT_DEVICE:
	case GW__EVENT_OPAQUE:
		write_section(w, ev);
		return;
	case GW__EVENT_EOF:
		gw__wr_u8(w, GW__ITEM_EOF);
		return;
	case GW__EVENT_DESC:
		gw__wr_u8(w, GW__ITEM_VMDESC);
		gw__wr_be32(w, (uint32_t)ev->body.n);
		gw__wr_bytes(w, ev->body.p, ev->body.n);
		return;
	default:
		return;
	}
}

static void what_is_decoded_is_written_as_the_same_bytes(struct law *l)
{
	static struct again again;
	struct made m;
	struct feed_end end;
	make_stream(l, MAKE_ONCE, &m);
	LAW(l, m.b.n <= sizeof again.bytes);
	again.w = gw__wr_over(again.bytes, sizeof again.bytes);
	struct feed f = feed_of(&m.b);
	f.on_event = write_again;
	f.ctx = &again;
	feed_run(&f, &end);
	LAW(l, end.code == 0);
	LAW(l, gw__wr_used(&again.w) == m.b.n);
	LAW(l, !memcmp(again.bytes, m.b.p, m.b.n));
	feed_end_fini(&end);
	sb_fini(&m.b);
}

/* The same whatever is changed, and never more memory than a stream of this length can need. */
static void run_damaged(struct law *l, const struct sb *b)
{
	struct feed_end end;
	struct feed f = feed_of(b);
	size_t before = live;
	f.quiet = true;
	f.guard = law_below(l, 4) == 0;
	f.piece = law_below(l, 4) ? NULL : any_piece;
	f.open_end = law_below(l, 4) == 0;
	f.ctx = l;
	peak = live;
	feed_run(&f, &end);
	LAW(l, peak - before < MEMORY_MAX + (f.guard ? b->n : 0));
	LAW(l, end.code <= 0 || f.open_end);
	feed_end_fini(&end);
	LAW(l, live == before);
}

static void any_changed_byte_is_survived(struct law *l)
{
	struct made m;
	make_stream(l, any_kind(l) | MAKE_SMALL, &m);
	for (size_t i = 0; i < m.b.n; i++) {
		uint8_t was = m.b.p[i];
		m.b.p[i] = (uint8_t)(was ^ 1u << law_below(l, 8));
		run_damaged(l, &m.b);
		m.b.p[i] = law_below(l, 2) ? (uint8_t)law_u64(l) : (uint8_t) - (int)law_below(l, 2);
		run_damaged(l, &m.b);
		m.b.p[i] = was;
	}
	sb_fini(&m.b);
}

/* Several wounds at once reach states that one does not. */
static void many_changed_bytes_are_survived(struct law *l)
{
	struct made m;
	make_stream(l, any_kind(l) | MAKE_SMALL, &m);
	for (int times = 0; times < 20; times++) {
		struct sb damaged;
		sb_copy(&damaged, &m.b);
		for (uint64_t hits = 1 + law_below(l, 6); hits > 0; hits--) {
			size_t at = law_below(l, damaged.n);
			size_t from = law_below(l, damaged.n), n = law_below(l, 40);
			if (law_below(l, 2) && at + n <= damaged.n && from + n <= damaged.n)
				memmove(damaged.p + at, damaged.p + from, n); /* bytes of elsewhere */
			else
				damaged.p[at] = (uint8_t)law_u64(l);
		}
		run_damaged(l, &damaged);
		sb_fini(&damaged);
	}
	sb_fini(&m.b);
}

int main(void)
{
	json_set_alloc_funcs(__wrap_malloc, __wrap_free);
	law_run("how it is fed makes no difference", 300, how_it_is_fed_makes_no_difference);
	law_run("every cut is noticed", 20, every_cut_is_noticed);
	law_run("what is decoded is written as the same bytes", 300, what_is_decoded_is_written_as_the_same_bytes);
	law_run("any changed byte is survived", 8, any_changed_byte_is_survived);
	law_run("many changed bytes are survived", 200, many_changed_bytes_are_survived);
	return 0;
}
