/* SPDX-License-Identifier: MIT */
/* Collecting the connections of a migration, until they are all there; see gather.h. What each is, gather_candidate.c finds out. */
#include <errno.h>
#include <string.h>

#include "base/math.h"
#include "engine/gather_parts.h"

enum { LOOK_MS = 5, CANDIDATES_MAX = 2 * GW__MULTIFD_CHANNELS_MAX };

struct gather {
	struct gw__run *run;
	struct gw__listener *listener;
	const struct gw__gather_opts *o;
	struct gw__incoming *in;
	struct gw__candidate *pending[CANDIDATES_MAX];
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
	int r = gw__candidate_start(chan, g->o->tls, g->o->hello_ms, &g->pending[g->pending_n], &g->run->why);
	if (r)
		return r;
	g->pending_n++;
	if (!g->first_ns)
		g->first_ns = gw__clock_now_ns(&g->run->clock);
	return 0;
}

static void take_main(struct gather *g, struct gw__candidate *c)
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

static int take_multifd(struct gather *g, struct gw__candidate *c)
{
	struct gw__why *why = &g->run->why;
	uint8_t id = c->hello.id;
	if (g->o->channels && id >= g->o->channels)
		return gw__why_set(why, -EPROTO, "%s: multifd channel %u, but %u were announced (0..%u)", c->chan->name, id, g->o->channels,
			g->o->channels - 1);
	if (g->in->multifd[id])
		return gw__why_set(why, -EPROTO, "%s: multifd channel %u came a second time", c->chan->name, id);
	if (g->has_uuid && memcmp(g->uuid, c->hello.uuid, sizeof g->uuid))
		return gw__why_set(why, -EPROTO, "%s: multifd channel %u belongs to another guest (its UUID differs from the others')",
			c->chan->name, id);
	memcpy(g->uuid, c->hello.uuid, sizeof g->uuid);
	g->has_uuid = true;
	g->in->multifd[id] = c->chan;
	g->in->multifd_n++;
	c->chan = NULL;
	return 0;
}

/* A stranger alone is why nothing works; among others it is just dropped. */
static int take_stranger(struct gather *g, struct gw__candidate *c)
{
	GW__TRACE(&g->run->trace, stranger, "%s", c->why.text);
	if (c->kind == GW__CANDIDATE_SILENT || g->in->main || g->in->multifd_n || g->pending_n > 1)
		return 0;
	return gw__why_set(&g->run->why, c->why.code, "%s", c->why.text);
}

static int take(struct gather *g, struct gw__candidate *c)
{
	if (c->chan)
		c->chan->idle_ms = g->o->idle_ms;
	if (c->kind == GW__CANDIDATE_MULTIFD)
		return take_multifd(g, c);
	if (c->kind != GW__CANDIDATE_MAIN)
		return take_stranger(g, c);
	take_main(g, c);
	return 0;
}

static void drop_candidate(struct gather *g, unsigned i)
{
	gw__candidate_free(g->pending[i]);
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
			return gw__why_set(&g->run->why, -EPROTO, "%u multifd channels came, but none has the id %u; say --channels N",
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
	uint64_t limit_ns = (uint64_t)g->o->gather_ms * 1000000;
	if (!g->first_ns || gw__clock_now_ns(&g->run->clock) - g->first_ns < limit_ns)
		return 0;
	if (!in->main && !in->multifd_n) { /* only silence and strangers so far: as if nobody had come */
		g->first_ns = 0;
		return 0;
	}
	if (in->main && !g->o->channels) /* all but somebody who has not finished to say who it is */
		return GW__SHORT;
	if (!in->main)
		return gw__why_set(&g->run->why, -ETIMEDOUT, "%u multifd channels came, but within %d ms no main channel", in->multifd_n,
			g->o->gather_ms);
	return gw__why_set(&g->run->why, -ETIMEDOUT,
		"the main channel and %u multifd channels came, expected %u of them within %d ms; set multifd-channels to %u at the source",
		in->multifd_n, g->o->channels, g->o->gather_ms, g->o->channels);
}

/* GW__SHORT: nobody in the next moment. As long as nobody but strangers came, the limit for the first connection holds. */
static int accept_next(struct gather *g, struct gw__chan **chan)
{
	if (!g->pending_n && !g->in->main && !g->in->multifd_n)
		return gw__listener_accept(g->listener, chan, &g->run->why);
	return gw__listener_accept_within(g->listener, g->pending_n ? LOOK_MS : 10 * LOOK_MS * !g->in->main, chan, &g->run->why);
}

static int gather(struct gather *g)
{
	struct gw__chan *chan = NULL;
	int r = gw__listener_accept(g->listener, &chan, &g->run->why);
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

int gw__gather(struct gw__run *run, struct gw__listener *l, const struct gw__gather_opts *o, struct gw__incoming *in)
{
	struct gather g = {.run = run, .listener = l, .o = o, .in = in};
	memset(in, 0, sizeof *in);
	int r = gather(&g);
	while (g.pending_n) {
		gw__candidate_hush(g.pending[0]); /* nobody waits for what it would have said */
		drop_candidate(&g, 0);
	}
	if (r)
		gw__incoming_close(in);
	return r;
}
