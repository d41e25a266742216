/* SPDX-License-Identifier: MIT */
/* The thread that reads ahead of the push; see readahead.h. */
#include "engine/pageserver/readahead.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/math.h"

enum {
	WINDOW_MIN_BYTES = 256 << 10,
	WINDOW_MAX_BYTES = 8 << 20, /* a page that is requested waits at the disk for no more than that */
	STEP_BYTES = 1 << 20,
	RUNS_MAX = 256,    /* of the working set */
	MISSES_MAX = 250,  /* looks at a page that is not in memory */
	WAIT_PIECES = 256, /* pieces of the push that wait for the disk after that */
	MOVES = 4,         /* of the push, between two messages to the thread */
	PREFETCH_NEIGHBOURS = 16,
};

struct gw__readahead {
	const struct gw__image *image;
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
	struct gw__push_position position;
	bool in_order;    /* a page that is not of a prefetch run was not in memory, once */
	uint64_t changes; /* counted, so that the thread sees one it was not woken for */
	bool stop;
};

bool gw__prefetch_run(const struct gw__working_set *ws, const struct gw__image *image, uint32_t i, struct gw__ws_pages *run)
{
	if (!ws || i >= 2 * ws->runs)
		return false;
	*run = ws->run[i % ws->runs];
	if (i >= ws->runs) {
		uint64_t pages = image->blocks.v[run->block].used_bytes / gw__config_page_bytes(&image->config);
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

static bool advise_run(const struct gw__readahead *a, const struct gw__push_position *p, struct advised *t)
{
	struct gw__ws_pages run;
	if (t->runs >= p->run + RUNS_MAX || !gw__prefetch_run(a->ws, a->image, t->runs, &run))
		return false;
	gw__image_readahead(a->image, run.block, run.first, run.n);
	t->runs++;
	return true;
}

static bool advise_pages(const struct gw__readahead *a, const struct gw__push_position *p, struct advised *t)
{
	uint64_t step = STEP_BYTES / a->page_bytes, bits = a->image->blocks.v[p->block].used_bytes / a->page_bytes;
	if (p->block != t->block || p->page < t->from || p->page > t->to) {
		t->block = p->block;
		t->from = t->to = p->page;
		t->window = WINDOW_MIN_BYTES / a->page_bytes;
	}
	if (t->to >= bits || t->to - p->page >= t->window)
		return false;
	step = gw__min(step, bits - t->to);
	gw__image_readahead(a->image, t->block, t->to, step);
	t->to += step;
	t->window = gw__min(2 * t->window, WINDOW_MAX_BYTES / a->page_bytes);
	return true;
}

static void *advise(void *ctx)
{
	struct gw__readahead *a = ctx;
	struct advised t = {0};
	pthread_mutex_lock(&a->lock);
	while (!a->stop) {
		struct gw__push_position p = a->position;
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
static void start(struct gw__readahead *a)
{
	if (a->runs || a->failed)
		return;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->moved, NULL);
	a->runs = pthread_create(&a->thread, NULL, advise, a) == 0;
	a->failed = !a->runs;
}

struct gw__readahead *gw__readahead_new(const struct gw__image *image, const struct gw__working_set *ws)
{
	struct gw__readahead *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	a->image = image;
	a->ws = ws;
	a->page_bytes = gw__config_page_bytes(&image->config);
	if (ws && ws->runs)
		start(a);
	return a;
}

void gw__readahead_free(struct gw__readahead *a)
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

/* A file system that never says that a page is there must not be asked for each. */
bool gw__readahead_may_wait(struct gw__readahead *a)
{
	if (a->misses_in_a_row >= MISSES_MAX)
		a->wait = WAIT_PIECES;
	if (!a->wait)
		return a->failed;
	a->wait--;
	return true;
}

bool gw__readahead_missed(const struct gw__readahead *a) { return a->misses_in_a_row > 0; }

/* The thread is told now and then: each time would wake it for nothing. */
void gw__readahead_move(struct gw__readahead *a, const struct gw__push_position *p, bool not_in_page_cache)
{
	a->misses_in_a_row = not_in_page_cache ? a->misses_in_a_row + 1 : 0;
	if (not_in_page_cache)
		start(a);
	if (!a->runs || (a->misses_in_a_row != 1 && ++a->moves % MOVES))
		return;
	pthread_mutex_lock(&a->lock);
	a->position = *p;
	a->in_order |= not_in_page_cache && !p->prefetch;
	a->changes++;
	pthread_cond_signal(&a->moved);
	pthread_mutex_unlock(&a->lock);
}
