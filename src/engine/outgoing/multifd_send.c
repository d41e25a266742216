/* SPDX-License-Identifier: MIT */
/* Sending an image over many channels; see multifd_send.h. */
#include "engine/outgoing/multifd_send.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/math.h"
#include "wire/compress.h"

typedef unsigned long long ull;

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
	const struct gw__image *image; /* constant while workers run */
	const struct gw__bitmap *only; /* so too; NULL: all pages */
	uint64_t page_bytes;
	_Atomic uint64_t packet_number; /* over all channels */

	pthread_mutex_t lock; /* guards the cursor and the failure */
	uint32_t block;
	uint64_t page;
	struct gw__error error;

	uint32_t n;
	struct worker worker[];
};

/* The first page of the block, from the cursor on, of which there is something to say. */
static uint64_t next_page(const struct gw__multifd_send *g)
{
	if (g->only)
		return gw__bitmap_next_set(&g->only[g->block], g->page);
	return g->o.name_zeros ? g->page : gw__bitmap_next_set(&g->image->present[g->block], g->page);
}

/* The next range of pages: false when there is none or somebody failed. */
static bool take_range(struct gw__multifd_send *g, uint32_t *block, uint64_t *first, uint64_t *n)
{
	const struct gw__image *image = g->image;
	uint64_t most = gw__multifd_pages(g->page_bytes);
	pthread_mutex_lock(&g->lock);
	while (g->block < image->blocks.n &&
		(image->blocks.v[g->block].ignored || (g->page = next_page(g)) >= image->present[g->block].bits)) {
		g->block++;
		g->page = 0;
	}
	bool any = g->block < image->blocks.n && !g->error.code;
	if (any) {
		const struct gw__bitmap *present = &image->present[g->block];
		*block = g->block;
		*first = g->page;
		*n = gw__min(most, present->bits - g->page);
		g->page += *n;
	}
	pthread_mutex_unlock(&g->lock);
	return any;
}

static void describe(struct worker *w, uint32_t block, uint64_t first, uint64_t n)
{
	struct gw__multifd_send *g = w->multifd_send;
	struct gw__multifd_packet *p = &w->packet;
	const struct gw__bitmap *present = &g->image->present[block];
	memset(p, 0, offsetof(struct gw__multifd_packet, off));
	strcpy(p->block, g->image->blocks.v[block].name);
	p->flags = g->o.method;
	p->pages_alloc = gw__multifd_pages(g->page_bytes);
	const struct gw__bitmap *only = g->only ? &g->only[block] : NULL;
	for (uint64_t i = first; i < first + n; i++)
		if (gw__bitmap_test(present, i) && (!only || gw__bitmap_test(only, i)))
			p->off[p->normal++] = i * g->page_bytes;
	for (uint64_t i = first; g->o.name_zeros && i < first + n; i++)
		if (!gw__bitmap_test(present, i) && (!only || gw__bitmap_test(only, i)))
			p->off[p->normal + p->zero++] = i * g->page_bytes;
	p->payload_bytes = p->normal * (uint32_t)g->page_bytes;
	p->number = atomic_fetch_add(&g->packet_number, 1);
}

static size_t encode_head(struct worker *w)
{
	size_t n = gw__multifd_head_bytes(w->multifd_send->page_bytes);
	struct gw__wr c = gw__wr_over(w->head, n);
	gw__multifd_packet_encode(&c, w->multifd_send->page_bytes, &w->packet);
	return gw__wr_used(&c);
}

/* Calls `each` for every run of consecutive pages of the packet: where it is in the file, how long. */
typedef int run_fn(struct worker *w, uint64_t file_off, size_t bytes, size_t done, struct gw__error *error);
static int for_each_run(struct worker *w, uint32_t block, run_fn *each, struct gw__error *error)
{
	const struct gw__multifd_packet *p = &w->packet;
	uint64_t page_bytes = w->multifd_send->page_bytes, pages_off = w->multifd_send->image->blocks.v[block].pages_off;
	int r = 0;
	for (uint32_t i = 0, n; !r && i < p->normal; i += n) {
		for (n = 1; i + n < p->normal && p->off[i + n] == p->off[i] + n * page_bytes;)
			n++;
		r = each(w, pages_off + p->off[i], n * page_bytes, i * page_bytes, error);
	}
	return r;
}

static int send_run(struct worker *w, uint64_t file_off, size_t bytes, size_t done, struct gw__error *error)
{
	(void)done;
	return gw__chan_send_file(w->chan, w->multifd_send->image->fd, file_off, bytes, error);
}

static int read_run(struct worker *w, uint64_t file_off, size_t bytes, size_t done, struct gw__error *error)
{
	return gw__image_read_at(w->multifd_send->image, file_off, w->pages + done, bytes, error);
}

/* Straight from the page cache into the socket. */
static int send_plain(struct worker *w, uint32_t block, struct gw__error *error)
{
	int r = gw__chan_write_all(w->chan, w->head, encode_head(w), error);
	return r ? r : for_each_run(w, block, send_run, error);
}

static int send_packed(struct worker *w, uint32_t block, struct gw__error *error)
{
	struct gw__wr out = gw__wr_over(w->packed, w->packed_room);
	int r = for_each_run(w, block, read_run, error);
	if (!r && w->packet.normal)
		r = gw__compress(w->packer, w->pages, w->packet.normal * w->multifd_send->page_bytes, true, &out, error);
	if (r)
		return r;
	w->packet.payload_bytes = (uint32_t)gw__wr_used(&out);
	struct iovec iov[] = {{w->head, encode_head(w)}, {w->packed, gw__wr_used(&out)}};
	return gw__chan_write_allv(w->chan, iov, 2, error);
}

static void fail(struct gw__multifd_send *g, const struct gw__error *error)
{
	pthread_mutex_lock(&g->lock);
	if (!g->error.code)
		g->error = *error;
	pthread_mutex_unlock(&g->lock);
	for (uint32_t i = 0; i < g->n; i++) /* nobody goes on waiting for a destination that is lost */
		if (g->worker[i].chan->fd >= 0)
			shutdown(g->worker[i].chan->fd, SHUT_RDWR);
}

static void *send_pages(void *ctx)
{
	struct worker *w = ctx;
	struct gw__multifd_send *g = w->multifd_send;
	struct gw__counters *c = &g->run->counters;
	struct gw__error error = {0};
	uint32_t block;
	uint64_t first, n;
	while (take_range(g, &block, &first, &n)) {
		describe(w, block, first, n);
		if (g->o.method ? send_packed(w, block, &error) : send_plain(w, block, &error)) {
			gw__error_where(&error, "multifd channel %u", (unsigned)(w - g->worker));
			fail(g, &error);
			break;
		}
		atomic_fetch_add_explicit(&c->pages, w->packet.normal, memory_order_relaxed);
		atomic_fetch_add_explicit(&c->zero_pages, w->packet.zero, memory_order_relaxed);
		atomic_fetch_add_explicit(&c->moved_bytes, w->packet.payload_bytes, memory_order_relaxed);
	}
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

int gw__multifd_send_start(struct gw__multifd_send *g, const struct gw__image *image, const struct gw__bitmap *only)
{
	g->image = image;
	g->only = only;
	g->block = 0;
	g->page = 0;
	for (uint32_t i = 0; i < g->n; i++) {
		int err = pthread_create(&g->worker[i].thread, NULL, send_pages, &g->worker[i]);
		if (err)
			return gw__error_errno(&g->run->error, err, "cannot start a thread for multifd channel %u", i);
		g->worker[i].running = true;
	}
	return 0;
}

int gw__multifd_send_join(struct gw__multifd_send *g)
{
	for (uint32_t i = 0; i < g->n; i++)
		if (g->worker[i].running) {
			pthread_join(g->worker[i].thread, NULL);
			g->worker[i].running = false;
		}
	return g->error.code ? gw__error_set(&g->run->error, g->error.code, "%s", g->error.text) : 0;
}

static int prepare(struct gw__multifd_send *g, struct worker *w, struct gw__chan *chan)
{
	w->multifd_send = g;
	w->chan = chan;
	w->head = malloc(gw__multifd_head_bytes(1u << 8));
	if (!w->head)
		return gw__error_set(&g->run->error, -ENOMEM, "no memory for packet headers");
	if (!g->o.method)
		return 0;
	int r = gw__compressor_new(g->o.method, g->o.level, &w->packer, &g->run->error);
	if (r)
		return r;
	w->packed_room = gw__compress_bound(w->packer, GW__MULTIFD_PACKET_BYTES);
	w->packed = malloc(w->packed_room);
	w->pages = malloc(GW__MULTIFD_PACKET_BYTES);
	return w->packed && w->pages ? 0 : gw__error_set(&g->run->error, -ENOMEM, "no memory to pack pages");
}

int gw__multifd_send_new(struct gw__run *run, struct gw__outgoing *out, const struct gw__multifd_send_opts *o,
	struct gw__multifd_send **multifd_send)
{
	struct gw__multifd_send *g = calloc(1, sizeof *g + out->multifd_n * sizeof g->worker[0]);
	if (!g)
		return gw__error_set(&run->error, -ENOMEM, "no memory for %u channels", out->multifd_n);
	g->run = run;
	g->o = *o;
	pthread_mutex_init(&g->lock, NULL);
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
	gw__multifd_send_join(g);
	for (uint32_t i = 0; i < g->n; i++) {
		gw__compressor_free(g->worker[i].packer);
		free(g->worker[i].head);
		free(g->worker[i].pages);
		free(g->worker[i].packed);
	}
	pthread_mutex_destroy(&g->lock);
	free(g);
}
