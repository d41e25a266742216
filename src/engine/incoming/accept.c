/* SPDX-License-Identifier: MIT */
/* What a connection is, by its first bytes (docs/spec/channels.md 2), which a thread of its own waits for. See accept.h. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/math.h"
#include "engine/incoming/accept.h"
#include "wire/header.h"

enum gw__pending_channel_kind {
	GW__PENDING_UNKNOWN,
	GW__PENDING_MAIN,
	GW__PENDING_MULTIFD,
	GW__PENDING_SILENT,
	GW__PENDING_UNRECOGNISED,
};

/* One connection until it is known. Its thread owns everything but `known`; the collector takes over once that is set. */
struct gw__pending_channel {
	pthread_t thread;
	struct gw__chan *chan;
	int fd; /* of the connection, whatever the channel is by now; open until the thread is joined */
	const struct gw__tls_creds *tls;
	uint8_t head[GW__MULTIFD_HELLO_BYTES];
	struct gw__multifd_hello hello;
	enum gw__pending_channel_kind kind;
	struct gw__error error;
	_Atomic bool known;
};

/* Takes the channel, also on failure. The credentials are borrowed; NULL: plain. */
static int gw__pending_channel_start(struct gw__chan **chan, const struct gw__tls_creds *tls, int hello_ms,
	struct gw__pending_channel **pending, struct gw__error *error);
/* The thread stops waiting. */
static void gw__pending_channel_shut_down(struct gw__pending_channel *c);
static void gw__pending_channel_free(struct gw__pending_channel *c); /* joins the thread */

static int read_exactly(struct gw__chan *chan, uint8_t *to, size_t n, struct gw__error *error)
{
	size_t got;
	int r = gw__chan_read_full(chan, to, n, &got, error);
	if (r || got == n)
		return r;
	return gw__error_set(error, -ECONNRESET, "%s: closed by the peer before it said what it is", chan->name);
}

static enum gw__pending_channel_kind strange(struct gw__pending_channel *c, uint32_t magic)
{
	if (magic >> 16 == 0x1603)
		gw__error_set(&c->error, -EPROTO,
			"%s: the source speaks TLS and we do not; give --tls-creds here, or switch TLS off there (tls-creds)",
			c->chan->name);
	else
		gw__error_set(&c->error, -EPROTO,
			"%s: not a migration: the connection begins with %08x, expected 5145564d (main channel) or 11223344 (multifd)",
			c->chan->name, magic);
	return GW__PENDING_UNRECOGNISED;
}

/* A port that is only looked at is no news. Who shook hands is a source, and one that checks certificates does so right after. */
static enum gw__pending_channel_kind left_early(struct gw__pending_channel *c)
{
	struct gw__error said = c->error;
	if (!c->tls)
		return GW__PENDING_SILENT;
	gw__error_clear(&c->error);
	gw__error_set(&c->error, said.code, "%s; it may not have accepted our certificate: see its log", said.text);
	return GW__PENDING_UNRECOGNISED;
}

static enum gw__pending_channel_kind identify(struct gw__pending_channel *c)
{
	int r = c->tls ? gw__chan_start_tls(&c->chan, c->tls, NULL, false, &c->error) : 0;
	if (r)
		return r == -ETIMEDOUT ? GW__PENDING_SILENT : GW__PENDING_UNRECOGNISED;
	r = read_exactly(c->chan, c->head, GW__MAGIC_BYTES, &c->error);
	if (r == -ECONNRESET)
		return left_early(c);
	if (r)
		return r == -ETIMEDOUT ? GW__PENDING_SILENT : GW__PENDING_UNRECOGNISED;
	uint32_t magic = (uint32_t)gw__be_get(c->head, 4);
	if (magic == GW__STREAM_MAGIC)
		return GW__PENDING_MAIN;
	if (magic != GW__MULTIFD_MAGIC)
		return strange(c, magic);
	if (read_exactly(c->chan, c->head + GW__MAGIC_BYTES, GW__MULTIFD_HELLO_BYTES - GW__MAGIC_BYTES, &c->error))
		return GW__PENDING_UNRECOGNISED;
	struct gw__rd rd = gw__rd_over(c->head, sizeof c->head);
	return gw__multifd_hello_decode(&rd, &c->hello, &c->error) ? GW__PENDING_UNRECOGNISED : GW__PENDING_MULTIFD;
}

static void *identify_thread(void *ctx)
{
	struct gw__pending_channel *c = ctx;
	c->kind = identify(c);
	atomic_store_explicit(&c->known, true, memory_order_release);
	return NULL;
}

static int gw__pending_channel_start(struct gw__chan **chan, const struct gw__tls_creds *tls, int hello_ms,
	struct gw__pending_channel **pending, struct gw__error *error)
{
	struct gw__pending_channel *c = calloc(1, sizeof *c);
	if (!c) {
		gw__chan_close(chan, NULL);
		return gw__error_set(error, -ENOMEM, "no memory for a connection");
	}
	c->chan = *chan;
	c->fd = c->chan->fd;
	c->tls = tls;
	*chan = NULL;
	c->chan->idle_ms = hello_ms;
	int err = pthread_create(&c->thread, NULL, identify_thread, c);
	if (err) {
		gw__chan_close(&c->chan, NULL);
		free(c);
		return gw__error_errno(error, err, "cannot start a thread");
	}
	*pending = c;
	return 0;
}

static void gw__pending_channel_shut_down(struct gw__pending_channel *c) { shutdown(c->fd, SHUT_RDWR); }

static void gw__pending_channel_free(struct gw__pending_channel *c)
{
	pthread_join(c->thread, NULL);
	gw__chan_close(&c->chan, NULL);
	free(c);
}

/* Collecting the connections of a migration, until they are all there; see accept.h. What each is, accept.c finds out. */

enum { LOOK_MS = 5, CANDIDATES_MAX = 2 * GW__MULTIFD_CHANNELS_MAX };

struct gather {
	struct gw__run *run;
	struct gw__listener *listener;
	const struct gw__accept_opts *o;
	struct gw__incoming *in;
	struct gw__pending_channel *pending[CANDIDATES_MAX];
	unsigned pending_n;
	bool has_uuid;
	uint8_t uuid[16];
	uint64_t first_ns; /* when the first connection came; 0: none yet */
};

void gw__incoming_close(struct gw__incoming *in)
{
	gw__chan_close(&in->main, NULL);
	for (uint32_t i = 0; i < GW__LEN(in->multifd); i++)
		gw__chan_close(&in->multifd[i], NULL);
	in->multifd_n = 0;
	gw__listener_close(in->listener);
	in->listener = NULL;
}

static int add_candidate(struct gather *g, struct gw__chan **chan)
{
	if (g->pending_n == CANDIDATES_MAX) {
		gw__chan_close(chan, NULL);
		return 0;
	}
	int r = gw__pending_channel_start(chan, g->o->tls, g->o->hello_ms, &g->pending[g->pending_n], &g->run->error);
	if (r)
		return r;
	g->pending_n++;
	if (!g->first_ns)
		g->first_ns = gw__clock_now_ns(&g->run->clock);
	return 0;
}

static void take_main(struct gather *g, struct gw__pending_channel *c)
{
	if (g->in->main) {
		GW__TRACE(&g->run->trace, second_main, "%s dropped", c->chan->name);
		return;
	}
	g->in->main = c->chan;
	c->chan = NULL;
	memcpy(g->in->head, c->head, GW__MAGIC_BYTES);
	g->in->head_n = GW__MAGIC_BYTES;
}

static int take_multifd(struct gather *g, struct gw__pending_channel *c)
{
	struct gw__error *error = &g->run->error;
	uint8_t id = c->hello.id;
	if (g->o->channels && id >= g->o->channels)
		return gw__error_set(error, -EPROTO, "%s: multifd channel %u, but %u were announced (0..%u)", c->chan->name, id,
			g->o->channels, g->o->channels - 1);
	if (g->in->multifd[id])
		return gw__error_set(error, -EPROTO, "%s: multifd channel %u came a second time", c->chan->name, id);
	if (g->has_uuid && memcmp(g->uuid, c->hello.uuid, sizeof g->uuid))
		return gw__error_set(error, -EPROTO, "%s: multifd channel %u belongs to another guest (its UUID differs from the others')",
			c->chan->name, id);
	memcpy(g->uuid, c->hello.uuid, sizeof g->uuid);
	g->has_uuid = true;
	g->in->multifd[id] = c->chan;
	g->in->multifd_n++;
	c->chan = NULL;
	return 0;
}

/* A stranger alone is why nothing works; among others it is just dropped. */
static int take_stranger(struct gather *g, struct gw__pending_channel *c)
{
	GW__TRACE(&g->run->trace, stranger, "%s", c->error.text);
	if (c->kind == GW__PENDING_SILENT || g->in->main || g->in->multifd_n || g->pending_n > 1)
		return 0;
	return gw__error_set(&g->run->error, c->error.code, "%s", c->error.text);
}

static int take(struct gather *g, struct gw__pending_channel *c)
{
	if (c->chan)
		c->chan->idle_ms = g->o->idle_ms;
	if (c->kind == GW__PENDING_MULTIFD)
		return take_multifd(g, c);
	if (c->kind != GW__PENDING_MAIN)
		return take_stranger(g, c);
	take_main(g, c);
	return 0;
}

static void drop_candidate(struct gather *g, unsigned i)
{
	gw__pending_channel_free(g->pending[i]);
	g->pending[i] = g->pending[--g->pending_n];
}

static int collect(struct gather *g)
{
	int r = 0;
	for (unsigned i = 0; !r && i < g->pending_n;) {
		if (!atomic_load_explicit(&g->pending[i]->known, memory_order_acquire)) {
			i++;
			continue;
		}
		r = take(g, g->pending[i]);
		drop_candidate(g, i);
	}
	return r;
}

/* Ids must be 0..n-1, whatever n turned out to be. */
static int check_ids(struct gather *g)
{
	for (uint32_t i = 0; i < g->in->multifd_n; i++)
		if (!g->in->multifd[i])
			return gw__error_set(&g->run->error, -EPROTO, "%u multifd channels came, but none has the id %u; say --channels N",
				g->in->multifd_n, i);
	return 0;
}

static bool complete(const struct gather *g, bool nobody_waits)
{
	if (!g->in->main)
		return false;
	if (g->o->channels)
		return g->in->multifd_n == g->o->channels;
	return nobody_waits && g->pending_n == 0;
}

/* 0: there is time; GW__SHORT: it is over, and what came is enough. */
static int too_late(struct gather *g)
{
	const struct gw__incoming *in = g->in;
	uint64_t limit_ns = (uint64_t)g->o->accept_ms * 1000000;
	if (!g->first_ns || gw__clock_now_ns(&g->run->clock) - g->first_ns < limit_ns)
		return 0;
	if (!in->main && !in->multifd_n) { /* only silence and strangers so far: as if nobody had come */
		g->first_ns = 0;
		return 0;
	}
	if (in->main && !g->o->channels) /* all but somebody who has not finished to say who it is */
		return GW__SHORT;
	if (!in->main)
		return gw__error_set(&g->run->error, -ETIMEDOUT, "%u multifd channels came, but within %d ms no main channel",
			in->multifd_n, g->o->accept_ms);
	return gw__error_set(&g->run->error, -ETIMEDOUT,
		"the main channel and %u multifd channels came, expected %u of them within %d ms; set multifd-channels to %u at the source",
		in->multifd_n, g->o->channels, g->o->accept_ms, g->o->channels);
}

/* GW__SHORT: nobody in the next moment. As long as nobody but strangers came, the limit for the first connection holds. */
static int accept_next(struct gather *g, struct gw__chan **chan)
{
	if (!g->pending_n && !g->in->main && !g->in->multifd_n)
		return gw__listener_accept(g->listener, chan, &g->run->error);
	return gw__listener_accept_within(g->listener, g->pending_n ? LOOK_MS : 10 * LOOK_MS * !g->in->main, chan, &g->run->error);
}

static int gather(struct gather *g)
{
	struct gw__chan *chan = NULL;
	int r = gw__listener_accept(g->listener, &chan, &g->run->error);
	while (!r) {
		r = chan ? add_candidate(g, &chan) : 0;
		if (!r)
			r = collect(g);
		if (!r)
			r = accept_next(g, &chan);
		if (r < 0)
			return r;
		if (complete(g, r == GW__SHORT))
			return check_ids(g);
		r = too_late(g);
	}
	return r == GW__SHORT ? check_ids(g) : r;
}

int gw__accept(struct gw__run *run, struct gw__listener *l, const struct gw__accept_opts *o, struct gw__incoming *in)
{
	struct gather g = {.run = run, .listener = l, .o = o, .in = in};
	memset(in, 0, sizeof *in);
	int r = gather(&g);
	while (g.pending_n) {
		gw__pending_channel_shut_down(g.pending[0]); /* nobody waits for what it would have said */
		drop_candidate(&g, 0);
	}
	if (r)
		gw__incoming_close(in);
	return r;
}
