/* SPDX-License-Identifier: MIT */
/* Life and barriers of the receiving workers; what a worker does with a packet is in gang_worker.c. See gang.h. */
#include "engine/gang_internal.h"
#include "image/lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* Every channel ends here and now, so that whoever waits on one wakes up. */
static void break_all(struct gw__gang *g)
{
	for (uint32_t i = 0; i < g->n; i++)
		if (g->worker[i].chan->fd >= 0)
			shutdown(g->worker[i].chan->fd, SHUT_RDWR);
	if (g->main->fd >= 0)
		shutdown(g->main->fd, SHUT_RD); /* the source may still be told of the failure */
}

void gw__gang_fail(struct gw__gang *g, const struct gw__why *why)
{
	pthread_mutex_lock(&g->lock);
	bool first = !g->why.code;
	if (first)
		g->why = *why;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	if (first)
		break_all(g);
}

int gw__gang_failure(struct gw__gang *g)
{
	pthread_mutex_lock(&g->lock);
	struct gw__why why = g->why;
	pthread_mutex_unlock(&g->lock);
	if (!why.code)
		return 0;
	gw__why_clear(&g->run->why); /* what the conductor saw is only the echo */
	return gw__why_set(&g->run->why, why.code, "%s", why.text);
}

bool gw__gang_wait_open(struct gw__gang *g)
{
	pthread_mutex_lock(&g->lock);
	while (!g->blocks && !g->stopping && !g->why.code)
		pthread_cond_wait(&g->changed, &g->lock);
	bool go = g->blocks && !g->stopping && !g->why.code;
	pthread_mutex_unlock(&g->lock);
	return go;
}

int gw__gang_open(struct gw__gang *g, const struct gw__blocks *blocks, uint64_t page_bytes)
{
	for (uint32_t i = 0; i < g->n; i++) { /* the workers still wait */
		int r = g->sink->ops->lane(g->sink, &g->worker[i].lane, &g->run->why);
		if (r)
			return r;
	}
	pthread_mutex_lock(&g->lock);
	g->page_bytes = page_bytes;
	g->blocks = blocks;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	return 0;
}

/* A page that came after the last mark of the main channel would be written while the image is being completed. */
bool gw__gang_fill(struct gw__gang_worker *w)
{
	pthread_mutex_lock(&w->gang->lock);
	bool may = !w->gang->ended;
	w->where = GW__GANG_FILLING;
	pthread_mutex_unlock(&w->gang->lock);
	return may;
}

void gw__gang_leave(struct gw__gang_worker *w)
{
	pthread_mutex_lock(&w->gang->lock);
	w->gone = true;
	pthread_cond_broadcast(&w->gang->changed);
	pthread_mutex_unlock(&w->gang->lock);
}

bool gw__gang_arrive(struct gw__gang_worker *w)
{
	struct gw__gang *g = w->gang;
	pthread_mutex_lock(&g->lock);
	uint32_t round = g->syncs;
	g->arrived++;
	w->where = GW__GANG_AT_SYNC;
	pthread_cond_broadcast(&g->changed);
	while (g->syncs == round && !g->stopping && !g->why.code)
		pthread_cond_wait(&g->changed, &g->lock);
	bool go = g->syncs != round && !g->why.code;
	pthread_mutex_unlock(&g->lock);
	return go;
}

static void deadline_in(int ms, struct timespec *t)
{
	clock_gettime(CLOCK_MONOTONIC, t);
	t->tv_sec += ms / 1000;
	t->tv_nsec += ms % 1000 * 1000000L;
	if (t->tv_nsec >= 1000000000L) {
		t->tv_sec++;
		t->tv_nsec -= 1000000000L;
	}
}

/* Under the lock. The first worker that is not at its SYNC; with `gone`, that will never be. */
static struct gw__gang_worker *missing_worker(struct gw__gang *g, bool gone)
{
	for (uint32_t i = 0; i < g->n; i++)
		if (g->worker[i].where != GW__GANG_AT_SYNC && (g->worker[i].gone || !gone))
			return &g->worker[i];
	return NULL;
}

static uint64_t packets_of_all(struct gw__gang *g)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < g->n; i++)
		sum += atomic_load_explicit(&g->worker[i].packets, memory_order_relaxed);
	return sum;
}

/* Under the lock. 0 when all have arrived; -ECONNRESET, -ETIMEDOUT; something else when a worker has failed. */
static int wait_for_all(struct gw__gang *g)
{
	const int limit_ms = g->main->idle_ms < 0 ? INT32_MAX : g->main->idle_ms;
	struct timespec deadline;
	uint64_t seen = packets_of_all(g);
	deadline_in(limit_ms, &deadline);
	while (g->arrived < g->n && !g->why.code) {
		if (missing_worker(g, true))
			return -ECONNRESET;
		if (!pthread_cond_timedwait(&g->changed, &g->lock, &deadline))
			continue;
		uint64_t now = packets_of_all(g);
		if (now == seen)
			return -ETIMEDOUT;
		seen = now; /* much was on its way: that is no silence */
		deadline_in(limit_ms, &deadline);
	}
	return g->why.code;
}

static int say_missing(struct gw__gang *g, int r, uint32_t id, uint32_t missing)
{
	if (r == -ECONNRESET)
		return gw__why_set(&g->run->why, r, "sync %u: multifd channel %u was closed by the source before its SYNC", g->syncs + 1,
			id);
	return gw__why_set(&g->run->why, r,
		"sync %u: the mark is on the main channel, but multifd channel %u sent no SYNC for %d ms (%u of %u channels did not); a "
		"channel is stuck, or the source counts rounds in another way",
		g->syncs + 1, id, g->main->idle_ms, missing, g->n);
}

int gw__gang_sync(struct gw__gang *g)
{
	pthread_mutex_lock(&g->lock);
	int r = wait_for_all(g);
	struct gw__gang_worker *w = missing_worker(g, r == -ECONNRESET);
	uint32_t id = w ? w->id : 0, missing = g->n - g->arrived;
	if (!r) {
		g->arrived = 0;
		g->syncs++;
		for (uint32_t i = 0; i < g->n; i++)
			g->worker[i].where = GW__GANG_IDLE;
		pthread_cond_broadcast(&g->changed);
	}
	pthread_mutex_unlock(&g->lock);
	if (gw__gang_failure(g))
		return g->run->why.code;
	if (r)
		return say_missing(g, r, id, missing);
	GW__TRACE(&g->run->trace, multifd_sync, "%u", g->syncs);
	return 0;
}

int gw__gang_end_pages(struct gw__gang *g)
{
	const struct gw__gang_worker *odd = NULL;
	pthread_mutex_lock(&g->lock);
	g->ended = true;
	for (uint32_t i = 0; i < g->n && !odd; i++)
		odd = g->worker[i].where == GW__GANG_IDLE ? NULL : &g->worker[i];
	bool at_sync = odd && odd->where == GW__GANG_AT_SYNC;
	pthread_mutex_unlock(&g->lock);
	if (!odd)
		return 0;
	if (at_sync)
		return gw__why_set(&g->run->why, -EPROTO,
			"multifd channel %u: a SYNC behind the last of %u marks on the main channel; the source counts rounds in another way",
			odd->id, g->syncs);
	return gw__why_set(&g->run->why, -EPROTO, "multifd channel %u: pages behind its last SYNC", odd->id);
}

int gw__gang_settle(struct gw__gang *g, struct gw__gang_tally *tally)
{
	int r = gw__gang_failure(g);
	memset(tally, 0, sizeof *tally);
	tally->channels = g->n;
	tally->syncs = g->syncs;
	for (uint32_t i = 0; i < g->n; i++) {
		const struct gw__gang_worker *w = &g->worker[i];
		tally->payload_bytes += atomic_load(&w->payload_bytes);
		tally->pages += atomic_load(&w->pages);
		tally->zero_pages += atomic_load(&w->zero_pages);
		tally->packets += atomic_load(&w->packets);
		tally->method |= atomic_load(&w->method);
	}
	tally->bytes = tally->payload_bytes + tally->packets * gw__multifd_head_bytes(g->page_bytes);
	return r;
}

static int start_workers(struct gw__gang *g, struct gw__incoming *in)
{
	for (uint32_t i = 0; i < in->multifd_n; i++) {
		struct gw__gang_worker *w = &g->worker[i];
		w->gang = g;
		w->id = i;
		w->chan = in->multifd[i];
		int err = pthread_create(&w->thread, NULL, gw__gang_work, w);
		if (err)
			return gw__why_errno(&g->run->why, err, "cannot start a thread for multifd channel %u", i);
		g->n++;
	}
	return 0;
}

int gw__gang_start(struct gw__run *run, struct gw__incoming *in, struct gw__sink *sink, struct gw__gang **gang)
{
	pthread_condattr_t attr;
	if (!sink->ops->lane)
		return gw__why_set(&run->why, -EOPNOTSUPP, "a multifd migration cannot go there; receive it into an image");
	struct gw__gang *g = calloc(1, sizeof *g + in->multifd_n * sizeof g->worker[0]);
	if (!g)
		return gw__why_set(&run->why, -ENOMEM, "no memory for %u channels", in->multifd_n);
	g->run = run;
	g->sink = sink;
	g->main = in->main;
	pthread_mutex_init(&g->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&g->changed, &attr);
	pthread_condattr_destroy(&attr);
	int r = start_workers(g, in);
	if (r) {
		gw__gang_stop(g);
		return r;
	}
	*gang = g;
	return 0;
}

void gw__gang_stop(struct gw__gang *g)
{
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	g->stopping = true;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	for (uint32_t i = 0; i < g->n; i++)
		if (g->worker[i].chan->fd >= 0)
			shutdown(g->worker[i].chan->fd, SHUT_RDWR);
	for (uint32_t i = 0; i < g->n; i++) {
		pthread_join(g->worker[i].thread, NULL);
		gw__lane_free(g->worker[i].lane);
	}
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
	free(g);
}
