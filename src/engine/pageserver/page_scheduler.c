/* SPDX-License-Identifier: MIT */
/* The page server's pages: which are still unsent, and which of them go next; see page_scheduler.h. */
#include "engine/pageserver/page_scheduler.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/math.h"
#include "thread/thread.h"

typedef unsigned long long ull;

enum {
	NS_PER_S = 1000000000,
	FIRST_NS = NS_PER_S / 50,
	FIRST_BYTES = 16 << 20,
	HOST_PAGE_BYTES = 4096, /* of a destination that is not known better. docs/spec/stream.md 3.1: stated only where they are larger */
	WINDOW_MIN_BYTES = 256 << 10,
	WINDOW_MAX_BYTES = 8 << 20, /* a page that is requested waits at the disk for no more than that */
	STEP_BYTES = 1 << 20,
	RUNS_MAX = 256,    /* of the working set */
	MISSES_MAX = 250,  /* looks at a page that is not in memory */
	WAIT_PIECES = 256, /* pieces of the push that wait for the disk after that */
	MOVES = 4,         /* of the push, between two messages to the thread */
	PREFETCH_NEIGHBOURS = 16,
};

/* --- reading ahead of the push --- */

/*
 * The disk brings what will be needed next while the main thread sends what is there and answers requests. A thread of its own, because advising
 * the kernel waits too when the disk has enough to do. It reads nothing; it starts when there is a working set, or when a page of the push was
 * not in memory, so that an image which is costs nothing.
 */

/* Where the push is. */
struct push_position {
	uint32_t block;
	uint64_t page;
	uint32_t run;  /* of prefetch_run */
	bool prefetch; /* it goes through these runs, and not through memory in order */
};

struct readahead {
	const struct gw__page_source *source;
	const struct gw__working_set *ws;
	uint64_t page_bytes;

	/* The main thread's. */
	pthread_t thread;
	bool runs, failed;
	unsigned misses_in_a_row;
	unsigned wait; /* so many pieces are read with a wait, because that took too long */
	unsigned moves;

	pthread_mutex_t lock;
	pthread_cond_t moved;
	/* Under the lock. */
	struct push_position position;
	bool in_order;    /* a page that is not of a prefetch run was not in memory, once */
	uint64_t changes; /* counted, so that the thread sees one it was not woken for */
	bool stop;
};

/*
 * The i-th run of what a guest will probably ask for: the working set as it was recorded, then all of it again with what lies
 * around, which the push may have brought in time when it was recorded. False after the last.
 */
static bool prefetch_run(const struct gw__working_set *ws, const struct gw__page_source *source, uint32_t i, struct gw__ws_pages *run)
{
	if (!ws || i >= 2 * ws->runs)
		return false;
	*run = ws->run[i % ws->runs];
	if (i >= ws->runs) {
		uint64_t pages = source->blocks->v[run->block].used_bytes / gw__config_page_bytes(source->config);
		uint64_t end = gw__min(run->first + run->n + PREFETCH_NEIGHBOURS, pages);
		run->first -= gw__min(run->first, PREFETCH_NEIGHBOURS);
		run->n = end - run->first;
	}
	return true;
}

/* The thread's own: what it has advised the kernel of. */
struct advised {
	uint32_t block, runs;
	uint64_t from, to, window; /* pages */
};

static bool advise_run(const struct readahead *a, const struct push_position *p, struct advised *t)
{
	struct gw__ws_pages run;
	if (t->runs >= p->run + RUNS_MAX || !prefetch_run(a->ws, a->source, t->runs, &run))
		return false;
	a->source->ops->readahead(a->source, run.block, run.first, run.n);
	t->runs++;
	return true;
}

static bool advise_pages(const struct readahead *a, const struct push_position *p, struct advised *t)
{
	uint64_t step = STEP_BYTES / a->page_bytes, bits = a->source->blocks->v[p->block].used_bytes / a->page_bytes;
	if (p->block != t->block || p->page < t->from || p->page > t->to) {
		t->block = p->block;
		t->from = t->to = p->page;
		t->window = WINDOW_MIN_BYTES / a->page_bytes;
	}
	if (t->to >= bits || t->to - p->page >= t->window)
		return false;
	step = gw__min(step, bits - t->to);
	a->source->ops->readahead(a->source, t->block, t->to, step);
	t->to += step;
	t->window = gw__min(2 * t->window, WINDOW_MAX_BYTES / a->page_bytes);
	return true;
}

static void *advise(void *ctx)
{
	struct readahead *a = ctx;
	struct advised t = {0};
	pthread_mutex_lock(&a->lock);
	while (!a->stop) {
		struct push_position p = a->position;
		uint64_t changes = a->changes;
		bool in_order = a->in_order;
		pthread_mutex_unlock(&a->lock);
		bool any = advise_run(a, &p, &t) || (in_order && advise_pages(a, &p, &t));
		pthread_mutex_lock(&a->lock);
		while (!any && !a->stop && changes == a->changes)
			pthread_cond_wait(&a->moved, &a->lock);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

/* Without a thread nothing is read ahead, and the push waits for the disk. */
static void start_readahead(struct readahead *a)
{
	if (a->runs || a->failed)
		return;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->moved, NULL);
	a->runs = gw__thread_start(&a->thread, advise, a) == 0;
	a->failed = !a->runs;
}

static struct readahead *new_readahead(const struct gw__page_source *source, const struct gw__working_set *ws)
{
	struct readahead *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	a->source = source;
	a->ws = ws;
	a->page_bytes = gw__config_page_bytes(source->config);
	if (ws && ws->runs)
		start_readahead(a);
	return a;
}

static void free_readahead(struct readahead *a)
{
	if (a && a->runs) {
		pthread_mutex_lock(&a->lock);
		a->stop = true;
		pthread_cond_signal(&a->moved);
		pthread_mutex_unlock(&a->lock);
		pthread_join(a->thread, NULL);
		pthread_cond_destroy(&a->moved);
		pthread_mutex_destroy(&a->lock);
	}
	free(a);
}

/*
 * May the push wait for the disk now? It has tried long enough, or nobody reads ahead. A file system that never says that a page is there must
 * not be asked for each.
 */
static bool may_wait_for_disk(struct readahead *a)
{
	if (a->misses_in_a_row >= MISSES_MAX)
		a->wait = WAIT_PIECES;
	if (!a->wait)
		return a->failed;
	a->wait--;
	return true;
}

/* The push is at this page, which is in memory or is not. The thread is told now and then: each time would wake it for nothing. */
static void move_readahead(struct readahead *a, const struct push_position *p, bool not_in_page_cache)
{
	a->misses_in_a_row = not_in_page_cache ? a->misses_in_a_row + 1 : 0;
	if (not_in_page_cache)
		start_readahead(a);
	if (!a->runs || (a->misses_in_a_row != 1 && ++a->moves % MOVES))
		return;
	pthread_mutex_lock(&a->lock);
	a->position = *p;
	a->in_order |= not_in_page_cache && !p->prefetch;
	a->changes++;
	pthread_cond_signal(&a->moved);
	pthread_mutex_unlock(&a->lock);
}

/* --- the pages --- */

struct gw__page_scheduler {
	struct gw__run *run;
	const struct gw__page_source *source;
	const struct gw__pageserver_opts *o;
	struct gw__page_out *out;
	struct gw__pageserver_stats *stats;
	struct readahead *readahead;
	uint64_t page_bytes, page_summary;

	struct gw__bitmap *sent;   /* by block; empty for ignored ones. Sent, or there before */
	uint64_t *host_page_bytes; /* by block */
	uint64_t *list_page_bytes; /* the same, 0 for target pages */
	uint64_t unsent_pages;
	uint32_t at_block; /* the push in order */
	uint64_t at_page;
	uint32_t next_run; /* of prefetch_run: goes before anything else */
	struct {
		uint32_t block;
		uint64_t at, end;      /* end 0: there is none */
		bool prefetch, in_set; /* of a prefetch run, of the working set itself; said of whatever was pushed last */
	} partial_host_page;           /* the larger page that the push is inside of */
};

static uint64_t host_page_of(const struct gw__page_scheduler *s, const struct gw__block *b)
{
	for (uint32_t i = 0; i < s->o->blocks_n; i++)
		if (!strcmp(s->o->block[i].name, b->name) && s->o->block[i].page_bytes > s->page_bytes)
			return s->o->block[i].page_bytes;
	return gw__max(s->page_bytes, HOST_PAGE_BYTES);
}

static int init_block(struct gw__page_scheduler *s, uint32_t i)
{
	const struct gw__block *b = &s->source->blocks->v[i];
	uint64_t bytes = host_page_of(s, b);
	s->host_page_bytes[i] = bytes;
	s->list_page_bytes[i] = bytes > gw__max(s->page_bytes, HOST_PAGE_BYTES) ? bytes : 0;
	if (!gw__is_power_of_2(bytes))
		return gw__error_set(&s->run->error, -EINVAL,
			"the destination's pages of block \"%s\" are said to have %llu bytes, which is not a power of two", b->name,
			(ull)bytes);
	if (!gw__is_aligned(b->used_bytes, bytes))
		return gw__error_set(&s->run->error, -EINVAL,
			"block \"%s\" of %llu bytes is not a whole number of the destination's pages of %llu", b->name, (ull)b->used_bytes,
			(ull)bytes);
	s->page_summary |= bytes;
	if (!b->ignored && gw__bitmap_init(&s->sent[i], b->used_bytes / s->page_bytes))
		return gw__error_set(&s->run->error, -ENOMEM, "no memory for a bitmap of block \"%s\"", b->name);
	return 0;
}

/* A larger page with one page that is to be sent is to be sent whole. */
static void clear_split_pages(struct gw__page_scheduler *s, uint32_t block)
{
	struct gw__bitmap *b = &s->sent[block];
	uint64_t n = s->host_page_bytes[block] / s->page_bytes;
	for (uint64_t at = gw__bitmap_next_clear(b, 0); n > 1 && at < b->bits; at = gw__bitmap_next_clear(b, at - at % n + n))
		gw__bitmap_clear_range(b, at - at % n, n);
}

static void count_unsent(struct gw__page_scheduler *s)
{
	s->unsent_pages = 0;
	for (uint32_t i = 0; i < s->source->blocks->n; i++)
		s->unsent_pages += s->sent[i].bits - gw__bitmap_count(&s->sent[i]);
}

/* Of a stream that others began. Where nothing is left to be sent, one page goes anew. */
static void take_begun(struct gw__page_scheduler *s)
{
	uint32_t n = s->source->blocks->n;
	for (uint32_t i = 0; i < n; i++)
		gw__bitmap_set_range(&s->sent[i], 0, s->sent[i].bits);
	s->o->clear_unsent(s->o->ctx, s->sent);
	for (uint32_t i = 0; i < n; i++)
		clear_split_pages(s, i);
	count_unsent(s);
	for (uint32_t i = 0; !s->unsent_pages && i < n; i++)
		if (s->sent[i].bits) {
			gw__bitmap_clear_range(&s->sent[i], 0, s->host_page_bytes[i] / s->page_bytes);
			count_unsent(s);
		}
}

static int init_blocks(struct gw__page_scheduler *s)
{
	uint32_t n = s->source->blocks->n;
	s->sent = calloc(n, sizeof *s->sent);
	s->host_page_bytes = calloc(n, sizeof *s->host_page_bytes);
	s->list_page_bytes = calloc(n, sizeof *s->list_page_bytes);
	s->readahead = new_readahead(s->source, s->o->working_set);
	if (!s->sent || !s->host_page_bytes || !s->list_page_bytes || !s->readahead)
		return gw__error_set(&s->run->error, -ENOMEM, "no memory for %u RAM blocks", n);
	int r = 0;
	for (uint32_t i = 0; !r && i < n; i++)
		r = init_block(s, i);
	if (!r && s->o->clear_unsent && !s->o->resume)
		take_begun(s);
	else
		count_unsent(s);
	return r;
}

int gw__page_scheduler_new(struct gw__run *run, const struct gw__page_source *source, const struct gw__pageserver_opts *o,
	struct gw__page_out *out, struct gw__pageserver_stats *stats, struct gw__page_scheduler **to)
{
	struct gw__page_scheduler *s = calloc(1, sizeof *s);
	*to = s;
	if (!s)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a page server");
	*s = (struct gw__page_scheduler){.run = run, .source = source, .o = o, .out = out, .stats = stats};
	s->page_bytes = gw__config_page_bytes(source->config);
	return init_blocks(s);
}

void gw__page_scheduler_free(struct gw__page_scheduler *s)
{
	if (!s)
		return;
	free_readahead(s->readahead);
	for (uint32_t i = 0; s->sent && i < s->source->blocks->n; i++)
		gw__bitmap_fini(&s->sent[i]);
	free(s->sent);
	free(s->host_page_bytes);
	free(s->list_page_bytes);
	free(s);
}

uint64_t gw__page_scheduler_unsent_pages(const struct gw__page_scheduler *s) { return s->unsent_pages; }
uint64_t gw__page_scheduler_page_summary(const struct gw__page_scheduler *s) { return s->page_summary; }
const uint64_t *gw__page_scheduler_host_page_bytes(const struct gw__page_scheduler *s) { return s->list_page_bytes; }
bool gw__page_scheduler_next_unsent(const struct gw__page_scheduler *s, uint32_t block, uint64_t *at, struct gw__page_run *run)
{
	const struct gw__bitmap *sent = &s->sent[block];
	run->block = block;
	run->first = gw__bitmap_next_clear(sent, *at);
	run->end = run->first < sent->bits ? gw__bitmap_next_set_before(sent, run->first, sent->bits) : run->first;
	*at = run->end;
	return run->first < sent->bits;
}

/* --- what the destination has --- */

struct gw__bitmap *gw__page_scheduler_bitmap(struct gw__page_scheduler *s, uint32_t block) { return &s->sent[block]; }

/* A larger page is there as a whole or not at all; half of one would be sent twice. */
static int check_whole_pages(struct gw__page_scheduler *s, uint32_t block)
{
	const struct gw__bitmap *b = &s->sent[block];
	uint64_t n = s->host_page_bytes[block] / s->page_bytes, end;
	for (uint64_t at = gw__bitmap_next_set(b, 0); n > 1 && at < b->bits; at = gw__bitmap_next_set(b, end)) {
		end = gw__bitmap_next_clear(b, at);
		if (at % n || end % n)
			return gw__error_set(&s->run->error, -EPROTO,
				"%s: the received bitmap of block \"%s\" splits a page of %llu bytes at offset 0x%llx",
				gw__page_out_main(s->out)->name, s->source->blocks->v[block].name, (ull)s->host_page_bytes[block],
				(ull)((at % n ? at : end) * s->page_bytes));
	}
	return 0;
}

int gw__page_scheduler_take_bitmap(struct gw__page_scheduler *s, uint32_t block)
{
	s->stats->already_there += gw__bitmap_count(&s->sent[block]);
	count_unsent(s);
	return check_whole_pages(s, block);
}

/* --- sending --- */

static int send_run(struct gw__page_scheduler *s, const struct gw__page_run *run, enum gw__page_urgency urgency, bool may_wait, uint64_t *n)
{
	int r = gw__page_out_send(s->out, run, urgency, may_wait, n);
	if (r)
		return r;
	gw__bitmap_set_range(&s->sent[run->block], run->first, *n);
	s->unsent_pages -= *n;
	return 0;
}

static int push_run(struct gw__page_scheduler *s, const struct gw__page_run *run, bool may_wait, uint64_t *n)
{
	return send_run(s, run, GW__PAGES_PUSHED, may_wait, n);
}

/* The host page that a page lies in is sent whole and in order: the destination places it when its last target page came. */
static uint64_t host_page_end(const struct gw__page_scheduler *s, uint32_t block, uint64_t page)
{
	uint64_t n = s->host_page_bytes[block] / s->page_bytes;
	return page - page % n + n;
}

/* Unsent pages up to the end of the run, in pieces. */
static int send_whole(struct gw__page_scheduler *s, struct gw__page_run run, enum gw__page_urgency urgency, uint64_t *count)
{
	int r = 0;
	for (uint64_t n = 0; !r && run.first < run.end; run.first += n) {
		r = send_run(s, &run, urgency, true, &n);
		*count += r ? 0 : n;
	}
	return r;
}

/* Nothing may come between the parts of a host page on its channel, and all of them go over the same one. */
static int finish_partial(struct gw__page_scheduler *s)
{
	struct gw__page_run rest = {s->partial_host_page.block, s->partial_host_page.at, s->partial_host_page.end};
	s->partial_host_page.end = 0;
	return send_whole(s, rest, GW__PAGES_PUSHED, &s->stats->pushed_pages);
}

int gw__page_scheduler_request(struct gw__page_scheduler *s, uint32_t block, uint64_t start_off, uint64_t bytes)
{
	const struct gw__bitmap *sent = &s->sent[block];
	uint64_t at = start_off / s->page_bytes, end = at + bytes / s->page_bytes;
	uint64_t first = gw__bitmap_next_clear_before(sent, at, end), unit = s->host_page_bytes[block] / s->page_bytes;
	bool in_partial = block == s->partial_host_page.block && at < s->partial_host_page.end && end > s->partial_host_page.at;
	bool same_channel = !gw__page_out_preempt(s->out);
	int r = s->partial_host_page.end && (in_partial || same_channel) ? finish_partial(s) : 0;
	for (at = gw__bitmap_next_clear_before(sent, first, end); !r && at < end; at = gw__bitmap_next_clear_before(sent, at, end))
		r = send_whole(s, (struct gw__page_run){block, gw__round_down(at, unit), host_page_end(s, block, at)}, GW__PAGES_REQUESTED,
			&s->stats->requested_pages);
	if (!r && first < end)
		gw__page_out_note_answered(s->out, block, first, end - first);
	s->at_block = block; /* what is touched next is often what follows */
	s->at_page = end;
	return r;
}

static bool find_unsent(struct gw__page_scheduler *s)
{
	for (uint32_t tried = 0; tried <= s->source->blocks->n; tried++) {
		s->at_page = gw__bitmap_next_clear(&s->sent[s->at_block], s->at_page);
		if (s->at_page < s->sent[s->at_block].bits)
			return true;
		s->at_block = (s->at_block + 1) % s->source->blocks->n;
		s->at_page = 0;
	}
	return false;
}

/* Goes on in the page that was begun. */
static int push_partial(struct gw__page_scheduler *s, bool may_wait, uint64_t *n)
{
	struct gw__page_run run = {s->partial_host_page.block, s->partial_host_page.at, s->partial_host_page.end};
	int r = push_run(s, &run, may_wait, n);
	if (r)
		return r;
	s->partial_host_page.at += *n;
	if (s->partial_host_page.at == s->partial_host_page.end)
		s->partial_host_page.end = 0;
	return 0;
}

/* Unsent pages from the beginning of a run; what of them is one piece. */
static int push_piece(struct gw__page_scheduler *s, struct gw__page_run run, bool may_wait, uint64_t *n)
{
	uint64_t unit = s->host_page_bytes[run.block] / s->page_bytes;
	if (unit == 1) {
		run.end = gw__bitmap_next_set_before(&s->sent[run.block], run.first, run.end);
		return push_run(s, &run, may_wait, n);
	}
	s->partial_host_page.block = run.block;
	s->partial_host_page.at = gw__round_down(run.first, unit);
	s->partial_host_page.end = s->partial_host_page.at + unit;
	return push_partial(s, may_wait, n);
}

static bool is_in_set(const struct gw__page_scheduler *s) { return s->o->working_set && s->next_run < s->o->working_set->runs; }

/* What of the working set and around it goes next. */
static bool find_prefetch(struct gw__page_scheduler *s, struct gw__page_run *found)
{
	for (struct gw__ws_pages run; prefetch_run(s->o->working_set, s->source, s->next_run, &run); s->next_run++) {
		found->block = run.block;
		found->end = run.first + run.n;
		found->first = gw__bitmap_next_clear_before(&s->sent[run.block], run.first, found->end);
		if (found->first < found->end)
			return true;
	}
	return false;
}

static void count_pushed(struct gw__page_scheduler *s, uint32_t block, uint64_t end, uint64_t n, bool in_set)
{
	struct push_position p = {block, end, s->next_run, s->partial_host_page.prefetch};
	move_readahead(s->readahead, &p, !n);
	s->stats->pushed_pages += n;
	s->stats->working_set_pages += in_set ? n : 0;
}

/*
 * A guest that finds these pages does not wait for them, and a destination takes them faster than later ones. It begins to run
 * later by the time that takes, so it is limited; one larger page may be too much.
 */
int gw__page_scheduler_send_first(struct gw__page_scheduler *s)
{
	uint64_t until_ns = gw__clock_now_ns(&s->run->clock) + FIRST_NS, bytes = FIRST_BYTES;
	struct gw__page_run found;
	int r = 0;
	if (s->o->max_bandwidth)
		bytes = gw__min(bytes, s->o->max_bandwidth / (NS_PER_S / FIRST_NS));
	for (uint64_t left = bytes / s->page_bytes, n; !r && find_prefetch(s, &found); left -= n) {
		n = gw__min(gw__min(left, found.end - found.first), s->unsent_pages - 1);
		if (!n || s->host_page_bytes[found.block] > s->page_bytes || gw__clock_now_ns(&s->run->clock) > until_ns)
			break;
		found.end = found.first + n;
		r = push_piece(s, found, true, &n);
		if (!r)
			count_pushed(s, found.block, found.first + n, n, is_in_set(s));
	}
	return r;
}

/* The next piece: the page that is partly sent, the working set and what is near it, then everything else. *at: where that is. */
static int push_next(struct gw__page_scheduler *s, bool may_wait, struct gw__page_run *at, uint64_t *n)
{
	if (s->partial_host_page.end) {
		*at = (struct gw__page_run){s->partial_host_page.block, s->partial_host_page.at, s->partial_host_page.end};
		return push_partial(s, may_wait, n);
	}
	s->partial_host_page.prefetch = find_prefetch(s, at);
	s->partial_host_page.in_set = is_in_set(s);
	if (!s->partial_host_page.prefetch) {
		if (!find_unsent(s))
			return 0;
		*at = (struct gw__page_run){s->at_block, s->at_page, s->at_page + GW__PIECE_MAX_PAGES};
	}
	return push_piece(s, *at, may_wait, n);
}

int gw__page_scheduler_push(struct gw__page_scheduler *s)
{
	struct gw__page_run at = {0};
	uint64_t n = 0;
	int r = push_next(s, may_wait_for_disk(s->readahead), &at, &n);
	if (r < 0)
		return r;
	count_pushed(s, at.block, at.first + n, n, s->partial_host_page.prefetch && s->partial_host_page.in_set);
	return n ? 0 : GW__WOULD_BLOCK;
}
