/* SPDX-License-Identifier: MIT */
/* Multifd in the receiving role: life and barriers of the workers, what each does with a packet, and its pages. See multifd_recv.h. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "engine/incoming/multifd_recv.h"
#include "thread/thread.h"
#include "wire/compress.h"

/* Where a worker stands; guarded by the receiver's lock. */
enum gw__multifd_recv_channel_state {
	GW__MULTIFD_RECV_IDLE,    /* nothing came since its last SYNC */
	GW__MULTIFD_RECV_FILLING, /* pages came */
	GW__MULTIFD_RECV_AT_SYNC, /* it waits for the others */
};

/* One channel. Its thread owns everything; the main thread reads the counters, and under the lock `where` and `gone`. */
struct gw__multifd_recv_channel {
	struct gw__multifd_recv *multifd_recv;
	pthread_t thread;
	uint32_t id;
	struct gw__chan *chan;
	struct gw__sink_lane *lane;
	uint8_t *head;   /* a packet's header */
	uint8_t *packed; /* a compressed payload, and what came out of it before it is put in order */
	struct gw__decompressor *unpacker;
	bool has_method;
	unsigned empty_n; /* packets without a payload, since the last with one */
	struct gw__multifd_packet packet;
	struct iovec places[GW__MULTIFD_PAGES_MAX]; /* of its payload in the lane's buffer */
	_Atomic uint64_t payload_bytes, pages, zero_pages, packets;
	_Atomic uint32_t method;
	enum gw__multifd_recv_channel_state where;
	bool gone; /* its channel has ended, between two packets */
};

struct gw__multifd_recv {
	struct gw__run *run; /* the main thread's */
	struct gw__sink *sink;
	struct gw__chan *main; /* to be broken when a worker fails */

	pthread_mutex_t lock; /* guards all below, up to the workers */
	pthread_cond_t changed;
	const struct gw__blocks *blocks; /* NULL until the list came; constant after */
	uint64_t page_bytes;
	uint32_t arrived, syncs; /* workers at their SYNC; syncs completed */
	bool stopping;
	bool ended;             /* RAM is complete: no page may come */
	bool pauses;            /* of COLO: what comes then belongs to the next checkpoint, and waits for it */
	struct gw__error error; /* the first failure of a worker */

	uint32_t n; /* workers that run; set before they matter to others */
	struct gw__multifd_recv_channel worker[];
};

static void *run_channel(void *worker);

/* What a packet brings, after it was judged (multifd_recv.c). The order of its normal pages may change. */
static int put_normal(struct gw__multifd_recv_channel *w, uint32_t block, struct gw__error *error);
static int put_zeros(struct gw__multifd_recv_channel *w, uint32_t block, struct gw__error *error);

/* For workers: wait for the block list; before what a packet brings; at a SYNC; at the end; to report. False: it is over. */
static bool wait_for_block_list(struct gw__multifd_recv *g);
static bool await_turn(struct gw__multifd_recv_channel *w);
static bool wait_for_sync(struct gw__multifd_recv_channel *w);
static void leave(struct gw__multifd_recv_channel *w);
static void report_failure(struct gw__multifd_recv *g, const struct gw__error *error);

/* Every channel ends here and now, so that whoever waits on one wakes up. */
static void break_all(struct gw__multifd_recv *g)
{
	for (uint32_t i = 0; i < g->n; i++)
		if (g->worker[i].chan->fd >= 0)
			shutdown(g->worker[i].chan->fd, SHUT_RDWR);
	if (g->main->fd >= 0)
		shutdown(g->main->fd, SHUT_RD); /* the source may still be told of the failure */
}

static void report_failure(struct gw__multifd_recv *g, const struct gw__error *error)
{
	pthread_mutex_lock(&g->lock);
	bool first = !g->error.code;
	if (first)
		g->error = *error;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	if (first)
		break_all(g);
}

static bool wait_for_block_list(struct gw__multifd_recv *g)
{
	pthread_mutex_lock(&g->lock);
	while (!g->blocks && !g->stopping && !g->error.code)
		pthread_cond_wait(&g->changed, &g->lock);
	bool go = g->blocks && !g->stopping && !g->error.code;
	pthread_mutex_unlock(&g->lock);
	return go;
}

int gw__multifd_recv_set_block_list(struct gw__multifd_recv *g, const struct gw__blocks *blocks, uint64_t page_bytes)
{
	for (uint32_t i = 0; i < g->n; i++) { /* the workers still wait */
		int r = gw__sink_add_lane(g->sink, &g->worker[i].lane, &g->run->error);
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

/*
 * May what came be taken? A page that came after the last mark of the main channel would be written while the image is being completed. In COLO
 * it waits for the next checkpoint.
 */
static bool await_turn(struct gw__multifd_recv_channel *w)
{
	struct gw__multifd_recv *g = w->multifd_recv;
	pthread_mutex_lock(&g->lock);
	while (g->ended && g->pauses && !g->stopping && !g->error.code)
		pthread_cond_wait(&g->changed, &g->lock);
	bool may = !g->ended;
	if (may || !g->pauses)
		w->where = GW__MULTIFD_RECV_FILLING;
	pthread_mutex_unlock(&g->lock);
	return may;
}

static void leave(struct gw__multifd_recv_channel *w)
{
	pthread_mutex_lock(&w->multifd_recv->lock);
	w->gone = true;
	pthread_cond_broadcast(&w->multifd_recv->changed);
	pthread_mutex_unlock(&w->multifd_recv->lock);
}

static bool wait_for_sync(struct gw__multifd_recv_channel *w)
{
	struct gw__multifd_recv *g = w->multifd_recv;
	pthread_mutex_lock(&g->lock);
	uint32_t round = g->syncs;
	g->arrived++;
	w->where = GW__MULTIFD_RECV_AT_SYNC;
	pthread_cond_broadcast(&g->changed);
	while (g->syncs == round && !g->stopping && !g->error.code)
		pthread_cond_wait(&g->changed, &g->lock);
	bool go = g->syncs != round && !g->error.code;
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
static struct gw__multifd_recv_channel *missing_worker(struct gw__multifd_recv *g, bool gone)
{
	for (uint32_t i = 0; i < g->n; i++)
		if (g->worker[i].where != GW__MULTIFD_RECV_AT_SYNC && (g->worker[i].gone || !gone))
			return &g->worker[i];
	return NULL;
}

static uint64_t packets_of_all(struct gw__multifd_recv *g)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < g->n; i++)
		sum += atomic_load_explicit(&g->worker[i].packets, memory_order_relaxed);
	return sum;
}

/* Under the lock. 0 when all have arrived; -ECONNRESET, -ETIMEDOUT; something else when a worker has failed. */
static int wait_for_all(struct gw__multifd_recv *g)
{
	const int limit_ms = g->main->idle_ms < 0 ? INT32_MAX : g->main->idle_ms;
	struct timespec deadline;
	uint64_t seen = packets_of_all(g);
	deadline_in(limit_ms, &deadline);
	while (g->arrived < g->n && !g->error.code) {
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
	return g->error.code;
}

static int say_missing(struct gw__multifd_recv *g, int r, uint32_t id, uint32_t missing)
{
	if (r == -ECONNRESET)
		return gw__error_set(&g->run->error, r, "sync %u: multifd channel %u was closed by the source before its SYNC",
			g->syncs + 1, id);
	return gw__error_set(&g->run->error, r,
		"sync %u: the mark is on the main channel, but multifd channel %u sent no SYNC for %d ms (%u of %u channels did not); a "
		"channel is stuck, or the source counts rounds in another way",
		g->syncs + 1, id, g->main->idle_ms, missing, g->n);
}

int gw__multifd_recv_sync_main(struct gw__multifd_recv *g)
{
	pthread_mutex_lock(&g->lock);
	int r = wait_for_all(g);
	struct gw__multifd_recv_channel *w = missing_worker(g, r == -ECONNRESET);
	uint32_t id = w ? w->id : 0, missing = g->n - g->arrived;
	if (!r)
		r = gw__sink_barrier(g->sink, &g->run->error);
	if (!r) {
		g->arrived = 0;
		g->syncs++;
		for (uint32_t i = 0; i < g->n; i++)
			g->worker[i].where = GW__MULTIFD_RECV_IDLE;
		pthread_cond_broadcast(&g->changed);
	}
	pthread_mutex_unlock(&g->lock);
	if (gw__multifd_recv_check(g, NULL))
		return g->run->error.code;
	if (r)
		return say_missing(g, r, id, missing);
	GW__TRACE(&g->run->trace, multifd_sync, "%u", g->syncs);
	return 0;
}

int gw__multifd_recv_finish(struct gw__multifd_recv *g)
{
	const struct gw__multifd_recv_channel *anomaly = NULL;
	pthread_mutex_lock(&g->lock);
	g->ended = true;
	for (uint32_t i = 0; i < g->n && !anomaly; i++)
		anomaly = g->worker[i].where == GW__MULTIFD_RECV_IDLE ? NULL : &g->worker[i];
	bool at_sync = anomaly && anomaly->where == GW__MULTIFD_RECV_AT_SYNC;
	pthread_mutex_unlock(&g->lock);
	if (!anomaly)
		return 0;
	if (at_sync)
		return gw__error_set(&g->run->error, -EPROTO,
			"multifd channel %u: a SYNC after the last of %u marks on the main channel; the source counts rounds in another way",
			anomaly->id, g->syncs);
	return gw__error_set(&g->run->error, -EPROTO, "multifd channel %u: pages after its last SYNC", anomaly->id);
}

void gw__multifd_recv_set_pauses(struct gw__multifd_recv *g)
{
	pthread_mutex_lock(&g->lock);
	g->pauses = true;
	pthread_mutex_unlock(&g->lock);
}

void gw__multifd_recv_go_on(struct gw__multifd_recv *g)
{
	pthread_mutex_lock(&g->lock);
	g->ended = false;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

/* What they did so far. */
static void sum_up(const struct gw__multifd_recv *g, struct gw__multifd_recv_stats *stats)
{
	memset(stats, 0, sizeof *stats);
	stats->channels = g->n;
	stats->syncs = g->syncs;
	for (uint32_t i = 0; i < g->n; i++) {
		const struct gw__multifd_recv_channel *w = &g->worker[i];
		stats->payload_bytes += atomic_load(&w->payload_bytes);
		stats->pages += atomic_load(&w->pages);
		stats->zero_pages += atomic_load(&w->zero_pages);
		stats->packets += atomic_load(&w->packets);
		stats->method |= atomic_load(&w->method);
	}
	stats->bytes = stats->payload_bytes + stats->packets * gw__multifd_head_bytes(g->page_bytes);
}

int gw__multifd_recv_check(struct gw__multifd_recv *g, struct gw__multifd_recv_stats *stats)
{
	pthread_mutex_lock(&g->lock);
	struct gw__error error = g->error;
	pthread_mutex_unlock(&g->lock);
	if (stats)
		sum_up(g, stats);
	if (!error.code)
		return 0;
	gw__error_clear(&g->run->error); /* what the main thread saw is only the echo */
	return gw__error_set(&g->run->error, error.code, "%s", error.text);
}

static int start_workers(struct gw__multifd_recv *g, struct gw__incoming *in)
{
	for (uint32_t i = 0; i < in->multifd_n; i++) {
		struct gw__multifd_recv_channel *w = &g->worker[i];
		w->multifd_recv = g;
		w->id = i;
		w->chan = in->multifd[i];
		int err = gw__thread_start(&w->thread, run_channel, w);
		if (err)
			return gw__error_errno(&g->run->error, err, "cannot start a thread for multifd channel %u", i);
		g->n++;
	}
	return 0;
}

int gw__multifd_recv_start(struct gw__run *run, struct gw__incoming *in, struct gw__sink *sink, struct gw__multifd_recv **multifd_recv)
{
	pthread_condattr_t attr;
	if (!sink->ops->add_lane)
		return gw__error_set(&run->error, -EOPNOTSUPP, "a multifd migration cannot go there; receive it into an image");
	struct gw__multifd_recv *g = calloc(1, sizeof *g + in->multifd_n * sizeof g->worker[0]);
	if (!g)
		return gw__error_set(&run->error, -ENOMEM, "no memory for %u channels", in->multifd_n);
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
		gw__multifd_recv_stop(g);
		return r;
	}
	*multifd_recv = g;
	return 0;
}

void gw__multifd_recv_stop(struct gw__multifd_recv *g)
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
		gw__sink_lane_free(&g->worker[i].lane);
	}
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

/* --- the pages of a packet that was judged: each straight to its place --- */

/* Nothing announces the method: the first packet with pages does, for the life of the channel. */
static int agree_method(struct gw__multifd_recv_channel *w, struct gw__error *error)
{
	uint32_t method = w->packet.flags & GW__MULTIFD_METHOD_MASK;
	if (w->has_method && method == atomic_load(&w->method))
		return 0;
	if (w->has_method)
		return gw__error_set(error, -EPROTO, "compression method %02x after %02x on the same channel", method,
			atomic_load(&w->method));
	w->has_method = true;
	atomic_store(&w->method, method);
	if (!method)
		return 0;
	w->packed = malloc(GW__MULTIFD_PAYLOAD_MAX + GW__MULTIFD_PACKET_BYTES);
	if (!w->packed)
		return gw__error_set(error, -ENOMEM, "no memory to unpack pages");
	return gw__decompressor_new(method, &w->unpacker, error);
}

struct page {
	uint64_t off;
	uint32_t at; /* in the payload */
};

static int compare_pages(const void *a, const void *b)
{
	const struct page *x = a, *y = b;
	if (x->off != y->off)
		return x->off < y->off ? -1 : 1;
	return x->at < y->at ? -1 : 1; /* of one that comes twice the last counts */
}

static bool is_ascending(const uint64_t *off, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++)
		if (off[i] < off[i - 1])
			return false;
	return true;
}

/*
 * A source that names zero pages in its packets sends the others in no order, often backwards (docs/spec/multifd.md 3). In the
 * order of the block they stand together, and are written in runs. slot[i]: where the i-th of the payload belongs then.
 */
static void sort_pages(struct gw__multifd_packet *p, uint32_t *slot)
{
	struct page sorted[GW__MULTIFD_PAGES_MAX];
	for (uint32_t i = 0; i < p->normal; i++)
		sorted[i] = (struct page){p->off[i], i};
	qsort(sorted, p->normal, sizeof *sorted, compare_pages);
	for (uint32_t i = 0; i < p->normal; i++) {
		p->off[i] = sorted[i].off;
		slot[sorted[i].at] = i;
	}
}

/* Where the payload goes, from its first byte on; the packet's pages are in order afterwards. Returns how many places. */
static int find_places(struct gw__multifd_recv_channel *w, uint8_t *to)
{
	const size_t page_bytes = w->multifd_recv->page_bytes;
	uint32_t slot[GW__MULTIFD_PAGES_MAX];
	int n = 0;
	if (is_ascending(w->packet.off, w->packet.normal)) {
		w->places[0] = (struct iovec){to, w->packet.normal * page_bytes};
		return 1;
	}
	sort_pages(&w->packet, slot);
	for (uint32_t i = 0; i < w->packet.normal; i++) {
		if (i && slot[i] == slot[i - 1] + 1)
			w->places[n - 1].iov_len += page_bytes;
		else
			w->places[n++] = (struct iovec){to + slot[i] * page_bytes, page_bytes};
	}
	return n;
}

static int read_payload(struct gw__multifd_recv_channel *w, struct iovec *places, int places_n, struct gw__error *error)
{
	const size_t n = w->packet.payload_bytes;
	size_t got;
	int r = gw__chan_read_fullv(w->chan, places, places_n, &got, error);
	if (r || got == n)
		return r;
	if (got == 0)
		return gw__error_set(error, -EPROTO, "the channel ends between a packet's header and its %zu bytes of pages", n);
	return gw__error_set(error, -EPROTO, "the channel ends inside the pages of a packet (%zu of %zu bytes)", got, n);
}

static int unpack_pages(struct gw__multifd_recv_channel *w, int places_n, struct gw__error *error)
{
	const size_t n = w->packet.payload_bytes, bytes = w->packet.normal * w->multifd_recv->page_bytes;
	struct iovec packed = {w->packed, n};
	uint8_t *plain = places_n == 1 ? w->places[0].iov_base : w->packed + GW__MULTIFD_PAYLOAD_MAX;
	int r = read_payload(w, &packed, 1, error);
	if (!r)
		r = gw__decompress(w->unpacker, w->packed, n, plain, bytes, error);
	for (int i = 0; !r && places_n > 1 && i < places_n; i++) {
		memcpy(w->places[i].iov_base, plain, w->places[i].iov_len);
		plain += w->places[i].iov_len;
	}
	return r;
}

static int put_normal(struct gw__multifd_recv_channel *w, uint32_t block, struct gw__error *error)
{
	void *buffer;
	int r = agree_method(w, error);
	if (!r)
		r = gw__sink_lane_borrow(w->lane, &buffer, error);
	if (r)
		return r;
	int places_n = find_places(w, buffer);
	r = w->unpacker ? unpack_pages(w, places_n, error) : read_payload(w, w->places, places_n, error);
	return r ? r : gw__sink_lane_submit(w->lane, block, w->packet.off, w->packet.normal, error);
}

/* How many pages from the first on follow each other, upwards or downwards; *low: the lowest of them. */
static uint32_t run_of_zeros(const uint64_t *off, uint32_t n, uint64_t page_bytes, uint64_t *low)
{
	const uint64_t step = n > 1 && off[1] < off[0] ? -page_bytes : page_bytes;
	uint32_t i = 1;
	while (i < n && off[i] == off[i - 1] + step)
		i++;
	*low = step == page_bytes ? off[0] : off[i - 1];
	return i;
}

static int put_zeros(struct gw__multifd_recv_channel *w, uint32_t block, struct gw__error *error)
{
	const uint64_t *off = w->packet.off + w->packet.normal;
	for (uint32_t left = w->packet.zero, n; left; off += n, left -= n) {
		uint64_t low;
		n = run_of_zeros(off, left, w->multifd_recv->page_bytes, &low);
		int r = gw__sink_lane_zeros(w->lane, block, low, n, error);
		if (r)
			return r;
	}
	return 0;
}

/* --- one worker: header, judgement, pages, sync --- */

typedef unsigned long long ull;

/*
 * Where a guest has nothing but zeros, packets are small and come one after the other: to be woken up for each costs more than
 * the packet, here and at the source. What a socket holds of them lasts several times as long as this.
 */
enum { ALL_EMPTY = 8, GATHER_US = 500 };

/*
 * The first bytes of a packet. For them there is no limit: a channel may have nothing to do for as long as the main channel is
 * busy, and that one has a limit, as has a sync.
 */
static ssize_t await_packet(struct gw__multifd_recv_channel *w, size_t n, struct gw__error *error)
{
	const int idle_ms = w->chan->idle_ms;
	w->chan->idle_ms = -1;
	w->chan->gather_us = w->empty_n >= ALL_EMPTY ? GATHER_US : 0;
	ssize_t got = gw__chan_read(w->chan, w->head, n, error);
	w->chan->idle_ms = idle_ms;
	w->chan->gather_us = 0;
	return got;
}

/* Some headers are shorter than others, and all of those refused: so judge what is there. */
static int read_header(struct gw__multifd_recv_channel *w, struct gw__error *error)
{
	const size_t n = gw__multifd_head_bytes(w->multifd_recv->page_bytes);
	int r = GW__SHORT;
	for (size_t done = 0; r == GW__SHORT && done < n;) {
		ssize_t got = done ? gw__chan_read(w->chan, w->head + done, n - done, error) : await_packet(w, n, error);
		if (got < 0)
			return (int)got;
		if (got == 0)
			return done ? gw__error_set(error, -EPROTO, "the channel ends inside a packet header (%zu of %zu bytes)", done, n)
				    : GW__CHANNEL_ENDED;
		done += (size_t)got;
		struct gw__rd c = gw__rd_over(w->head, done);
		r = gw__multifd_packet_decode(&c, w->multifd_recv->page_bytes, &w->packet, error);
	}
	return r == GW__SHORT ? gw__error_set(error, -EPROTO, "a packet header longer than its place") : r;
}

/* The one check of a packet against the guest: the block is known, every page lies inside. */
static int find_block(struct gw__multifd_recv_channel *w, uint32_t *block, struct gw__error *error)
{
	const struct gw__multifd_packet *p = &w->packet;
	const struct gw__blocks *blocks = w->multifd_recv->blocks;
	int64_t index = gw__blocks_find(blocks, p->block);
	if (index < 0)
		return gw__error_set(error, -EPROTO, "a packet for block \"%s\", which is not in the block list", p->block);
	uint64_t used = blocks->v[index].used_bytes;
	for (uint32_t i = 0; i < p->normal + p->zero; i++)
		if (w->multifd_recv->page_bytes > used || p->off[i] > used - w->multifd_recv->page_bytes)
			return gw__error_set(error, -EPROTO,
				"page %u of the packet, at offset %llx, lies outside block \"%s\" (%llu bytes)", i, (ull)p->off[i],
				p->block, (ull)used);
	*block = (uint32_t)index;
	return 0;
}

static int put_packet(struct gw__multifd_recv_channel *w, struct gw__error *error)
{
	const struct gw__multifd_packet *p = &w->packet;
	uint32_t block = 0;
	if (!p->normal && !p->zero)
		return p->payload_bytes
			       ? gw__error_set(error, -EPROTO, "a packet without pages announces %u bytes of them", p->payload_bytes)
			       : 0;
	int r = find_block(w, &block, error);
	if (!r && !await_turn(w))
		r = gw__error_set(error, -EPROTO, "pages after the end of RAM");
	if (!r && p->normal)
		r = put_normal(w, block, error);
	if (!r)
		r = put_zeros(w, block, error);
	if (r)
		return r;
	struct gw__counters *c = &w->multifd_recv->run->counters;
	atomic_fetch_add_explicit(&w->pages, p->normal, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->zero_pages, p->zero, memory_order_relaxed);
	atomic_fetch_add_explicit(&w->payload_bytes, p->payload_bytes, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->pages, p->normal, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->zero_pages, p->zero, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->moved_bytes, p->payload_bytes, memory_order_relaxed);
	return 0;
}

/* GW__CHANNEL_ENDED: the channel ended where it may. */
static int take_packet(struct gw__multifd_recv_channel *w, bool *go_on, struct gw__error *error)
{
	int r = read_header(w, error);
	if (!r)
		r = put_packet(w, error);
	if (r)
		return r;
	atomic_fetch_add_explicit(&w->packets, 1, memory_order_relaxed);
	w->empty_n = w->packet.payload_bytes ? 0 : w->empty_n + 1;
	if (!(w->packet.flags & GW__MULTIFD_SYNC))
		return 0;
	if (!await_turn(w))
		return gw__error_set(error, -EPROTO, "a SYNC after the end of RAM; the source counts rounds in another way");
	r = gw__sink_lane_flush(w->lane, error);
	*go_on = !r && wait_for_sync(w);
	return r;
}

static int work(struct gw__multifd_recv_channel *w, struct gw__error *error)
{
	bool go_on = wait_for_block_list(w->multifd_recv);
	w->head = malloc(gw__multifd_head_bytes(1u << 8));
	if (!w->head)
		return gw__error_set(error, -ENOMEM, "no memory for packet headers");
	int r = 0;
	while (!r && go_on)
		r = take_packet(w, &go_on, error);
	if (!r && go_on)
		r = gw__sink_lane_flush(w->lane, error);
	if (r != GW__CHANNEL_ENDED)
		return r;
	leave(w);
	return 0;
}

static void *run_channel(void *worker)
{
	struct gw__multifd_recv_channel *w = worker;
	struct gw__error error = {0};
	if (work(w, &error)) {
		gw__error_where(&error, "multifd channel %u, packet %llu", w->id, (ull)atomic_load(&w->packets));
		report_failure(w->multifd_recv, &error);
	}
	free(w->head);
	free(w->packed);
	gw__decompressor_free(w->unpacker);
	return NULL;
}
