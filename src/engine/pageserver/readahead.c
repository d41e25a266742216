/* SPDX-License-Identifier: MIT */
/*
 * The page server reads ahead: the disk brings what the push will need next while the main thread sends what is there and hears
 * requests. A thread of its own, because telling the kernel waits too when the disk has enough to do. It reads nothing and owns
 * nothing; it begins when there is a working set, or when a page of the push was not in memory, so that an image which
 * is costs nothing. See serve.h.
 */
#include <stdlib.h>

#include "base/math.h"
#include "engine/pageserver/pageserver_private.h"

enum {
	WINDOW_MIN_BYTES = 256 << 10,
	WINDOW_MAX_BYTES = 8 << 20, /* a page that is requested waits at the disk behind no more than that */
	STEP_BYTES = 1 << 20,
	RUNS_MAX = 256, /* of the working set */
	DRY_MAX = 250,  /* looks at a page that is not in memory */
	WAIT_PIECES = 256,
};

/* The thread's own: what it has told the kernel of. */
struct told {
	uint32_t block, runs;
	uint64_t from, to, window; /* pages */
};

/* Does the next thing there is to do, if any; the lock is not held. */
static bool tell_run(const struct gw__pageserver *s, const struct gw__push_position *p, struct told *t)
{
	struct gw__ws_pages run;
	if (t->runs >= p->run + RUNS_MAX || !gw__pageserver_prefetch_run(s, t->runs, &run))
		return false;
	gw__image_readahead(s->image, run.block, run.first, run.n);
	t->runs++;
	return true;
}

static bool tell_pages(const struct gw__pageserver *s, const struct gw__push_position *p, struct told *t)
{
	uint64_t step = STEP_BYTES / s->page_bytes, bits = s->sent[p->block].bits;
	if (!p->not_in_page_cache)
		return false;
	if (p->block != t->block || p->page < t->from || p->page > t->to) {
		t->block = p->block;
		t->from = t->to = p->page;
		t->window = WINDOW_MIN_BYTES / s->page_bytes;
	}
	if (t->to >= bits || t->to - p->page >= t->window)
		return false;
	step = gw__min(step, bits - t->to);
	gw__image_readahead(s->image, t->block, t->to, step);
	t->to += step;
	t->window = gw__min(2 * t->window, WINDOW_MAX_BYTES / s->page_bytes);
	return true;
}

static void *tell(void *ctx)
{
	struct gw__pageserver *s = ctx;
	struct gw__readahead *a = &s->ahead;
	struct told t = {0};
	struct gw__push_position seen;
	pthread_mutex_lock(&a->lock);
	while (!a->stop) {
		seen = a->place;
		pthread_mutex_unlock(&a->lock);
		bool any = tell_run(s, &seen, &t) || tell_pages(s, &seen, &t);
		pthread_mutex_lock(&a->lock);
		while (!any && !a->stop && seen.changes == a->place.changes)
			pthread_cond_wait(&a->moved, &a->lock);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

/* Without a thread nothing is read ahead, and the push waits for the disk. */
static void start(struct gw__pageserver *s)
{
	struct gw__readahead *a = &s->ahead;
	if (a->runs || a->failed)
		return;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->moved, NULL);
	a->runs = pthread_create(&a->thread, NULL, tell, s) == 0;
	a->failed = !a->runs;
}

void gw__readahead_begin(struct gw__pageserver *s)
{
	if (s->o->working_set && s->o->working_set->runs)
		start(s);
}

void gw__readahead_end(struct gw__pageserver *s)
{
	struct gw__readahead *a = &s->ahead;
	if (!a->runs)
		return;
	pthread_mutex_lock(&a->lock);
	a->stop = true;
	pthread_cond_signal(&a->moved);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	pthread_cond_destroy(&a->moved);
	pthread_mutex_destroy(&a->lock);
	a->runs = false;
}

/* A file system that never says that a page is there must not be asked for each. */
bool gw__readahead_waits(struct gw__pageserver *s)
{
	struct gw__readahead *a = &s->ahead;
	if (a->misses_in_a_row >= DRY_MAX)
		a->wait = WAIT_PIECES;
	if (!a->wait)
		return a->failed;
	a->wait--;
	return true;
}

/* Told now and then: each time would wake the thread for nothing. */
void gw__readahead_move(struct gw__pageserver *s, uint32_t block, uint64_t page, bool not_in_page_cache)
{
	struct gw__readahead *a = &s->ahead;
	a->misses_in_a_row = not_in_page_cache ? a->misses_in_a_row + 1 : 0;
	if (not_in_page_cache)
		start(s);
	if (!a->runs || (a->misses_in_a_row != 1 && ++a->steps % GW__READAHEAD_STEPS))
		return;
	pthread_mutex_lock(&a->lock);
	a->place.block = block;
	a->place.page = page;
	a->place.run = s->next_run;
	a->place.not_in_page_cache |= not_in_page_cache && !s->partial_host_page.wanted;
	a->place.changes++;
	pthread_cond_signal(&a->moved);
	pthread_mutex_unlock(&a->lock);
}
