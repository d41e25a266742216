/* SPDX-License-Identifier: MIT */
/* Sending pages over many channels; see multifd_send.h. */
#include "engine/outgoing/multifd_send.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "thread/thread.h"
#include "wire/compress.h"

enum { LOOK_MS = 100 };

/* One channel; everything is its thread's while that runs, the main thread's otherwise. */
struct worker {
	struct gw__multifd_send *multifd_send;
	struct gw__chan *chan;
	struct gw__compressor *packer; /* lives as long as the channel: one stream of compressed bytes */
	uint8_t *head, *pages, *packed;
	size_t packed_room;
	struct gw__multifd_packet packet;
	pthread_t thread;
	bool running;
};

struct gw__multifd_send {
	struct gw__run *run;
	struct gw__multifd_send_opts o;
	struct gw__multifd_source source; /* constant while workers run */
	uint64_t page_bytes;
	_Atomic uint64_t packet_number; /* over all channels */
	_Atomic bool failed;

	pthread_mutex_t lock; /* guards the failure, and how many workers run */
	pthread_cond_t ended;
	uint32_t running_n;
	struct gw__error error;

	uint32_t n;
	struct worker worker[];
};

/* --- workers --- */

/* The next packet: false when there is none, or somebody failed. */
static bool describe(struct worker *w, uint32_t *block)
{
	struct gw__multifd_send *g = w->multifd_send;
	struct gw__multifd_packet *p = &w->packet;
	memset(p, 0, offsetof(struct gw__multifd_packet, off));
	p->flags = g->o.method;
	p->pages_alloc = gw__multifd_pages(g->page_bytes);
	if (atomic_load_explicit(&g->failed, memory_order_relaxed) || !g->source.take(g->source.ctx, (uint32_t)(w - g->worker), p, block))
		return false;
	strcpy(p->block, g->source.blocks->v[*block].name);
	p->payload_bytes = p->normal * (uint32_t)g->page_bytes;
	p->number = atomic_fetch_add(&g->packet_number, 1);
	return true;
}

static size_t encode_head(struct worker *w)
{
	size_t n = gw__multifd_head_bytes(w->multifd_send->page_bytes);
	struct gw__wr c = gw__wr_over(w->head, n);
	gw__multifd_packet_encode(&c, w->multifd_send->page_bytes, &w->packet);
	return gw__wr_used(&c);
}

static int send_plain(struct worker *w, uint32_t block, struct gw__error *error)
{
	const struct gw__multifd_source *source = &w->multifd_send->source;
	struct iovec head = {w->head, encode_head(w)};
	return source->send(source->ctx, block, &w->packet, w->chan, &head, error);
}

static int send_copied(struct worker *w, uint32_t block, struct gw__error *error)
{
	const struct gw__multifd_source *source = &w->multifd_send->source;
	struct iovec iov[] = {{w->head, encode_head(w)}, {w->pages, w->packet.payload_bytes}};
	int r = source->read(source->ctx, block, &w->packet, w->pages, error);
	return r ? r : gw__chan_write_allv(w->chan, iov, 2, error);
}

static int send_packed(struct worker *w, uint32_t block, struct gw__error *error)
{
	const struct gw__multifd_source *source = &w->multifd_send->source;
	struct gw__wr out = gw__wr_over(w->packed, w->packed_room);
	int r = source->read(source->ctx, block, &w->packet, w->pages, error);
	if (!r && w->packet.normal)
		r = gw__compress(w->packer, w->pages, w->packet.normal * w->multifd_send->page_bytes, true, &out, error);
	if (r)
		return r;
	w->packet.payload_bytes = (uint32_t)gw__wr_used(&out);
	struct iovec iov[] = {{w->head, encode_head(w)}, {w->packed, gw__wr_used(&out)}};
	return gw__chan_write_allv(w->chan, iov, 2, error);
}

static int send_packet(struct worker *w, uint32_t block, struct gw__error *error)
{
	const struct gw__multifd_send *g = w->multifd_send;
	if (g->o.method)
		return send_packed(w, block, error);
	return g->o.copies && g->source.copies ? send_copied(w, block, error) : send_plain(w, block, error);
}

/* Nobody goes on; the channels are of no more use. */
static void break_all(struct gw__multifd_send *g)
{
	atomic_store_explicit(&g->failed, true, memory_order_relaxed);
	for (uint32_t i = 0; i < g->n; i++) /* nobody goes on waiting for a destination that is lost */
		if (g->worker[i].chan->fd >= 0)
			shutdown(g->worker[i].chan->fd, SHUT_RDWR);
}

static void fail(struct gw__multifd_send *g, const struct gw__error *error)
{
	pthread_mutex_lock(&g->lock);
	if (!g->error.code)
		g->error = *error;
	pthread_mutex_unlock(&g->lock);
	break_all(g);
}

static void *send_pages(void *ctx)
{
	struct worker *w = ctx;
	struct gw__multifd_send *g = w->multifd_send;
	struct gw__counters *c = &g->run->counters;
	struct gw__error error = {0};
	uint32_t block;
	while (describe(w, &block)) {
		if (send_packet(w, block, &error)) {
			gw__error_where(&error, "multifd channel %u", (unsigned)(w - g->worker));
			fail(g, &error);
			break;
		}
		atomic_fetch_add_explicit(&c->pages, w->packet.normal, memory_order_relaxed);
		atomic_fetch_add_explicit(&c->zero_pages, w->packet.zero, memory_order_relaxed);
		atomic_fetch_add_explicit(&c->moved_bytes, w->packet.payload_bytes, memory_order_relaxed);
	}
	pthread_mutex_lock(&g->lock);
	if (!--g->running_n)
		pthread_cond_signal(&g->ended);
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

int gw__multifd_send_sync(struct gw__multifd_send *g, uint64_t page_bytes)
{
	g->page_bytes = page_bytes;
	int r = 0;
	for (uint32_t i = 0; !r && i < g->n; i++) {
		struct worker *w = &g->worker[i];
		memset(&w->packet, 0, offsetof(struct gw__multifd_packet, off));
		w->packet.flags = GW__MULTIFD_SYNC;
		w->packet.number = atomic_fetch_add(&g->packet_number, 1);
		r = gw__chan_write_all(w->chan, w->head, encode_head(w), &g->run->error);
	}
	return r;
}

/* At most so long, until all is written, or somebody failed: true then. */
static bool wait(struct gw__multifd_send *g, int ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ms % 1000 * 1000000L;
	until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&g->lock);
	while (g->running_n && !pthread_cond_timedwait(&g->ended, &g->lock, &until))
		;
	bool ended = !g->running_n;
	pthread_mutex_unlock(&g->lock);
	return ended;
}

static int start(struct gw__multifd_send *g, const struct gw__multifd_source *source)
{
	g->source = *source;
	g->running_n = g->n;
	for (uint32_t i = 0; i < g->n; i++) {
		int err = gw__thread_start(&g->worker[i].thread, send_pages, &g->worker[i]);
		if (err)
			return gw__error_errno(&g->run->error, err, "cannot start a thread for multifd channel %u", i);
		g->worker[i].running = true;
	}
	return 0;
}

/* The first failure of any worker. */
static int join(struct gw__multifd_send *g)
{
	for (uint32_t i = 0; i < g->n; i++)
		if (g->worker[i].running) {
			pthread_join(g->worker[i].thread, NULL);
			g->worker[i].running = false;
		}
	return g->error.code ? gw__error_set(&g->run->error, g->error.code, "%s", g->error.text) : 0;
}

int gw__multifd_send_run(struct gw__multifd_send *g, const struct gw__multifd_source *source)
{
	int r = start(g, source);
	while (!r && source->look && !wait(g, LOOK_MS))
		r = source->look(source->ctx);
	if (r)
		break_all(g);
	int joined = join(g);
	return r ? r : joined;
}

static int prepare(struct gw__multifd_send *g, struct worker *w, struct gw__chan *chan)
{
	w->multifd_send = g;
	w->chan = chan;
	w->head = malloc(gw__multifd_head_bytes(1u << 8));
	if (!w->head)
		return gw__error_set(&g->run->error, -ENOMEM, "no memory for packet headers");
	w->pages = g->o.method || g->o.copies ? malloc(GW__MULTIFD_PACKET_BYTES) : NULL;
	if (!w->pages && (g->o.method || g->o.copies))
		return gw__error_set(&g->run->error, -ENOMEM, "no memory for copies of pages");
	if (!g->o.method)
		return 0;
	int r = gw__compressor_new(g->o.method, g->o.level, &w->packer, &g->run->error);
	if (r)
		return r;
	w->packed_room = gw__compress_bound(w->packer, GW__MULTIFD_PACKET_BYTES);
	w->packed = malloc(w->packed_room);
	return w->packed ? 0 : gw__error_set(&g->run->error, -ENOMEM, "no memory to pack pages");
}

int gw__multifd_send_new(struct gw__run *run, struct gw__outgoing *out, const struct gw__multifd_send_opts *o,
	struct gw__multifd_send **multifd_send)
{
	struct gw__multifd_send *g = calloc(1, sizeof *g + out->multifd_n * sizeof g->worker[0]);
	if (!g)
		return gw__error_set(&run->error, -ENOMEM, "no memory for %u channels", out->multifd_n);
	g->run = run;
	g->o = *o;
	pthread_condattr_t attr;
	pthread_mutex_init(&g->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&g->ended, &attr);
	pthread_condattr_destroy(&attr);
	int r = 0;
	for (uint32_t i = 0; !r && i < out->multifd_n; i++) {
		g->n = i + 1;
		r = prepare(g, &g->worker[i], out->multifd[i]);
	}
	if (r) {
		gw__multifd_send_free(g);
		return r;
	}
	*multifd_send = g;
	return 0;
}

void gw__multifd_send_free(struct gw__multifd_send *g)
{
	if (!g)
		return;
	for (uint32_t i = 0; i < g->n; i++) {
		gw__compressor_free(g->worker[i].packer);
		free(g->worker[i].head);
		free(g->worker[i].pages);
		free(g->worker[i].packed);
	}
	pthread_cond_destroy(&g->ended);
	pthread_mutex_destroy(&g->lock);
	free(g);
}
