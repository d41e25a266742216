/* SPDX-License-Identifier: MIT */
/*
 * The threads of the mem guest: writers, a clock, a reader; see mem_guest.h. They write between two looks at `stop` only, so that a paused guest
 * stands at a whole step.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "guest/mem/mem_private.h"

enum {
	TICK_NS = 50000,
	READ_EVERY_NS = 5000000,
	READ_PAGES = 16,  /* each time */
	SLICE = 64,       /* steps of a writer without a pace between two looks at the clock */
	BURST_MAX = 4096, /* steps */
	SILENCE_NS = 20000000,
	COLD_STEPS_PER_SECOND = 2000, /* of a hot guest without a pace */
	HOT_SHARE = 16,
	SECOND_NS = 1000000000,
};

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

/* --- Pause and resume ---------------------------------------------------------------------------------------------- */

void gw__mem_threads_init(struct gw__mem_guest *g)
{
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->go, &monotonic);
	pthread_cond_init(&g->parked, NULL);
	pthread_condattr_destroy(&monotonic);
	atomic_store(&g->stop, true);
}

/* The guest stands still, or ends; false: it ends. */
static bool park(struct gw__mem_guest *g)
{
	pthread_mutex_lock(&g->lock);
	g->running--;
	pthread_cond_signal(&g->parked);
	while (atomic_load(&g->stop) && !atomic_load(&g->ending))
		pthread_cond_wait(&g->go, &g->lock);
	bool goes_on = !atomic_load(&g->ending);
	if (goes_on)
		g->running++;
	pthread_mutex_unlock(&g->lock);
	return goes_on;
}

/* Until then, or until the guest is to stand still. */
static void rest(struct gw__mem_guest *g, uint64_t until_ns)
{
	struct timespec until = {(time_t)(until_ns / SECOND_NS), (long)(until_ns % SECOND_NS)};
	pthread_mutex_lock(&g->lock);
	while (!atomic_load(&g->stop) && pthread_cond_timedwait(&g->go, &g->lock, &until) == 0)
		;
	pthread_mutex_unlock(&g->lock);
}

int gw__mem_guest_pause(struct gw__mem_guest *g)
{
	pthread_mutex_lock(&g->lock);
	bool was_paused = atomic_load(&g->stop);
	atomic_store(&g->stop, true);
	pthread_cond_broadcast(&g->go);
	while (g->running)
		pthread_cond_wait(&g->parked, &g->lock);
	pthread_mutex_unlock(&g->lock);
	return was_paused;
}

void gw__mem_guest_throttle(struct gw__mem_guest *g, unsigned percent) { atomic_store(&g->throttle, percent > 99 ? 99 : percent); }

void gw__mem_threads_fini(struct gw__mem_guest *g)
{
	gw__mem_guest_pause(g);
	pthread_mutex_lock(&g->lock);
	atomic_store(&g->ending, true);
	pthread_cond_broadcast(&g->go);
	pthread_mutex_unlock(&g->lock);
	for (unsigned i = 0; i < g->threads; i++)
		pthread_join(g->thread[i], NULL);
	pthread_cond_destroy(&g->parked);
	pthread_cond_destroy(&g->go);
	pthread_mutex_destroy(&g->lock);
}

/* --- Writers ------------------------------------------------------------------------------------------------------- */

static int discard(struct gw__mem_guest *g, uint64_t offset)
{
	if (g->o.discard)
		return g->o.discard(g->o.ctx, offset, GW__MEM_PAGE_BYTES);
	return madvise(g->ram.host + offset, GW__MEM_PAGE_BYTES, g->ram.fd >= 0 ? MADV_REMOVE : MADV_DONTNEED) ? -errno : 0;
}

/*
 * The fence pairs with the one of read_page: who sees a byte of this step sees that all steps before it are counted. So a reader whose two looks
 * at the counter leave one version possible has seen no other.
 */
static int step(struct gw__mem_writer *w)
{
	struct gw__mem_guest *g = w->guest;
	const struct gw__mem_region *r = &w->region;
	uint64_t s = atomic_load_explicit(&w->steps, memory_order_relaxed), page = gw__mem_visited(r, s), version = s / r->pages + 1;
	uint64_t offset = page * GW__MEM_PAGE_BYTES, bytes = GW__MEM_PAGE_BYTES, at = 0;
	bool other_mapping = (g->o.workload == GW__MEM_TOLD || g->o.workload == GW__MEM_UNTOLD) && s % 2;
	bool tells = g->o.wrote && (g->o.tell_all || (other_mapping && g->o.workload == GW__MEM_TOLD));
	int failed = 0;
	if (tells && g->o.tell_first)
		g->o.wrote(g->o.ctx, offset, GW__MEM_PAGE_BYTES);
	atomic_thread_fence(memory_order_seq_cst);
	if (g->o.workload == GW__MEM_DISCARD && gw__mem_is_zero(r, page, version))
		failed = discard(g, offset);
	else
		at = gw__mem_write(r, page, version, false, (other_mapping ? g->alias : g->ram.host) + offset, &bytes);
	if (failed < 0)
		return failed;
	if (tells && !g->o.tell_first)
		g->o.wrote(g->o.ctx, offset + at, bytes);
	atomic_store_explicit(&w->steps, s + 1, memory_order_release);
	return 0;
}

static void step_or_note(struct gw__mem_writer *w, uint64_t n)
{
	struct gw__mem_guest *g = w->guest;
	while (n-- && !atomic_load(&g->failed)) {
		int r = step(w);
		if (r < 0)
			atomic_store(&g->failed, r);
	}
}

void gw__mem_guest_step(struct gw__mem_guest *g, unsigned writer, uint64_t n) { step_or_note(&g->writer[writer % g->writers], n); }

struct pace {
	uint64_t steps;     /* in a row */
	uint64_t period_ns; /* from the begin of one row to that of the next; 0: no rest */
};

static struct pace pace_of(const struct gw__mem_guest *g, unsigned writer)
{
	uint64_t rate = g->o.steps_per_second / g->writers;
	struct pace p = {SLICE, 0};
	if (g->o.workload == GW__MEM_HOT)
		rate = writer == 0 ? g->o.steps_per_second * (HOT_SHARE - 1) / HOT_SHARE
				   : g->o.steps_per_second / HOT_SHARE / (g->writers - 1);
	if (g->o.steps_per_second && !rate)
		rate = 1;
	if (g->o.workload == GW__MEM_HOT && writer && !rate)
		rate = COLD_STEPS_PER_SECOND;
	if (rate)
		p = (struct pace){rate / 1000 ? rate / 1000 : 1, 0};
	if (g->o.workload == GW__MEM_BURST) {
		p.steps = g->writer[writer].region.pages / 4;
		p.steps = p.steps > BURST_MAX ? BURST_MAX : p.steps ? p.steps : 1;
		p.period_ns = SILENCE_NS;
	}
	if (rate)
		p.period_ns = p.steps * SECOND_NS / rate;
	return p;
}

static void *write_on(void *arg)
{
	struct gw__mem_writer *w = arg;
	struct gw__mem_guest *g = w->guest;
	unsigned self = (unsigned)(w - g->writer);
	for (;;) {
		if (atomic_load(&g->stop) && !park(g))
			return NULL;
		if (self >= g->writers || atomic_load(&g->failed)) { /* the guest it became has fewer */
			rest(g, now_ns(CLOCK_MONOTONIC) + SECOND_NS);
			continue;
		}
		struct pace p = pace_of(g, self);
		uint64_t begin = now_ns(CLOCK_MONOTONIC);
		for (uint64_t i = 0; i < p.steps && !atomic_load(&g->stop); i++)
			step_or_note(w, 1);
		uint64_t end = now_ns(CLOCK_MONOTONIC), throttle = atomic_load(&g->throttle);
		uint64_t until = end + (end - begin) * throttle / (100 - throttle);
		if (until < begin + p.period_ns * 100 / (100 - throttle))
			until = begin + p.period_ns * 100 / (100 - throttle);
		if (until > end)
			rest(g, until);
	}
}

/* --- The clock ----------------------------------------------------------------------------------------------------- */

static void tick(struct gw__mem_guest *g)
{
	uint64_t *page = (uint64_t *)(void *)(g->ram.host + (g->pages - 1) * GW__MEM_PAGE_BYTES);
	uint64_t here = now_ns(CLOCK_MONOTONIC), everywhere = now_ns(CLOCK_REALTIME), ticks = atomic_load(&g->ticks) + 1, gap = 0;
	__atomic_store_n(&page[0], ticks, __ATOMIC_RELAXED);
	__atomic_store_n(&page[1], everywhere, __ATOMIC_RELAXED);
	if (g->o.wrote && g->o.tell_all)
		g->o.wrote(g->o.ctx, (g->pages - 1) * GW__MEM_PAGE_BYTES, 16);
	if (g->ticked_here) /* clocks of two hosts may differ: then it is a guess */
		gap = here - g->last_tick_here_ns;
	else if (g->last_tick_ns && everywhere > g->last_tick_ns)
		gap = everywhere - g->last_tick_ns;
	if (gap > atomic_load(&g->largest_gap_ns))
		atomic_store(&g->largest_gap_ns, gap);
	g->last_tick_here_ns = here;
	g->last_tick_ns = everywhere;
	g->ticked_here = true;
	atomic_store(&g->ticks, ticks);
}

static void *tick_on(void *arg)
{
	struct gw__mem_guest *g = arg;
	for (;;) {
		if (atomic_load(&g->stop) && !park(g))
			return NULL;
		tick(g);
		rest(g, now_ns(CLOCK_MONOTONIC) + TICK_NS);
	}
}

/* --- The reader ---------------------------------------------------------------------------------------------------- */

static void note_found(struct gw__mem_guest *g, uint64_t page, enum gw__mem_verdict verdict)
{
	if (atomic_load(&g->found) == 0) {
		atomic_store(&g->found_offset, page * GW__MEM_PAGE_BYTES);
		atomic_store(&g->found_verdict, (int)verdict);
	}
	atomic_fetch_add(&g->found, 1);
}

static void read_page(struct gw__mem_guest *g, uint64_t page)
{
	uint64_t copy[GW__MEM_PAGE_BYTES / 8], off;
	const uint64_t *from = (const uint64_t *)(const void *)(g->ram.host + page * GW__MEM_PAGE_BYTES);
	struct gw__mem_writer *w = g->writer;
	while (page - w->region.first >= w->region.pages)
		w++;
	uint64_t before = atomic_load_explicit(&w->steps, memory_order_acquire);
	for (unsigned i = 0; i < GW__MEM_PAGE_BYTES / 8; i++)
		copy[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	atomic_thread_fence(memory_order_seq_cst);
	uint64_t after = atomic_load_explicit(&w->steps, memory_order_relaxed);
	uint64_t version = gw__mem_version(&w->region, page, before);
	if (version != gw__mem_version(&w->region, page, after + 1))
		return; /* it was, or is being written */
	enum gw__mem_verdict v = gw__mem_judge(&w->region, page, version, copy, &off);
	if (v != GW__MEM_RIGHT)
		note_found(g, page, v);
	atomic_fetch_add(&g->pages_read, 1);
}

static void *read_on(void *arg)
{
	struct gw__mem_guest *g = arg;
	struct gw__mem_region all = {.seed = ~g->o.seed, .pages = g->pages - 1};
	for (uint64_t n = 0;;) {
		if (atomic_load(&g->stop) && !park(g))
			return NULL;
		for (unsigned i = 0; i < READ_PAGES && !atomic_load(&g->stop); i++)
			read_page(g, gw__mem_visited(&all, n++));
		rest(g, now_ns(CLOCK_MONOTONIC) + READ_EVERY_NS);
	}
}

/* --- All of them --------------------------------------------------------------------------------------------------- */

/* Under the lock, while all are parked: a new thread counts as running until it sees that it is not to. */
static int start(struct gw__mem_guest *g, void *(*run)(void *), void *arg)
{
	int r = pthread_create(&g->thread[g->threads], NULL, run, arg);
	if (r == 0) {
		g->threads++;
		g->running++;
	}
	return -r;
}

static int start_missing(struct gw__mem_guest *g)
{
	int r = 0;
	if (g->threads == 0)
		r = start(g, tick_on, g);
	if (r == 0 && g->threads == 1)
		r = start(g, read_on, g);
	while (r == 0 && g->threads < g->writers + 2)
		r = start(g, write_on, &g->writer[g->threads - 2]);
	return r;
}

int gw__mem_guest_resume(struct gw__mem_guest *g)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_mutex_lock(&g->lock);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = start_missing(g);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r == 0) {
		atomic_store(&g->stop, false);
		pthread_cond_broadcast(&g->go);
	}
	pthread_mutex_unlock(&g->lock);
	return r;
}

void gw__mem_guest_stats(const struct gw__mem_guest *g, struct gw__mem_stats *stats)
{
	*stats = (struct gw__mem_stats){.ticks = atomic_load(&g->ticks),
		.largest_gap_ns = atomic_load(&g->largest_gap_ns),
		.pages_read = atomic_load(&g->pages_read),
		.found = atomic_load(&g->found),
		.found_offset = atomic_load(&g->found_offset),
		.found_verdict = (enum gw__mem_verdict)atomic_load(&g->found_verdict),
		.failed = atomic_load(&g->failed)};
	for (unsigned i = 0; i < g->writers; i++)
		stats->steps += atomic_load(&g->writer[i].steps);
}
