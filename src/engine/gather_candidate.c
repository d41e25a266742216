/* SPDX-License-Identifier: MIT */
/* What a connection is, by its first bytes (docs/spec/channels.md 2), which a thread of its own waits for. See gather.h. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "engine/gather_parts.h"
#include "wire/header.h"

static int read_exactly(struct gw__chan *chan, uint8_t *to, size_t n, struct gw__why *why)
{
	size_t got;
	int r = gw__chan_read_full(chan, to, n, &got, why);
	if (r || got == n)
		return r;
	return gw__why_set(why, -ECONNRESET, "%s: closed by the peer before it said what it is", chan->name);
}

static enum gw__candidate_kind strange(struct gw__candidate *c, uint32_t magic)
{
	if (magic >> 16 == 0x1603)
		gw__why_set(&c->why, -EPROTO,
			"%s: the source speaks TLS and we do not; give --tls-creds here, or switch TLS off there (tls-creds)",
			c->chan->name);
	else
		gw__why_set(&c->why, -EPROTO,
			"%s: not a migration: the connection begins with %08x, expected 5145564d (main channel) or 11223344 (multifd)",
			c->chan->name, magic);
	return GW__CANDIDATE_STRANGE;
}

/* A port that is only looked at is no news. Who shook hands is a source, and one that checks certificates does so right after. */
static enum gw__candidate_kind left_early(struct gw__candidate *c)
{
	struct gw__why said = c->why;
	if (!c->tls)
		return GW__CANDIDATE_SILENT;
	gw__why_clear(&c->why);
	gw__why_set(&c->why, said.code, "%s; it may not have accepted our certificate: see its log", said.text);
	return GW__CANDIDATE_STRANGE;
}

static enum gw__candidate_kind identify(struct gw__candidate *c)
{
	int r = c->tls ? gw__chan_start_tls(&c->chan, c->tls, NULL, false, &c->why) : 0;
	if (r)
		return r == -ETIMEDOUT ? GW__CANDIDATE_SILENT : GW__CANDIDATE_STRANGE;
	r = read_exactly(c->chan, c->head, GW__MAGIC_BYTES, &c->why);
	if (r == -ECONNRESET)
		return left_early(c);
	if (r)
		return r == -ETIMEDOUT ? GW__CANDIDATE_SILENT : GW__CANDIDATE_STRANGE;
	uint32_t magic = (uint32_t)gw__be_get(c->head, 4);
	if (magic == GW__STREAM_MAGIC)
		return GW__CANDIDATE_MAIN;
	if (magic != GW__MULTIFD_MAGIC)
		return strange(c, magic);
	if (read_exactly(c->chan, c->head + GW__MAGIC_BYTES, GW__MULTIFD_HELLO_BYTES - GW__MAGIC_BYTES, &c->why))
		return GW__CANDIDATE_STRANGE;
	struct gw__rd rd = gw__rd_over(c->head, sizeof c->head);
	return gw__multifd_hello_decode(&rd, &c->hello, &c->why) ? GW__CANDIDATE_STRANGE : GW__CANDIDATE_MULTIFD;
}

static void *identify_thread(void *ctx)
{
	struct gw__candidate *c = ctx;
	c->kind = identify(c);
	atomic_store_explicit(&c->known, true, memory_order_release);
	return NULL;
}

int gw__candidate_start(struct gw__chan **chan, const struct gw__tls_creds *tls, int hello_ms, struct gw__candidate **candidate,
	struct gw__why *why)
{
	struct gw__candidate *c = calloc(1, sizeof *c);
	if (!c) {
		gw__chan_close(chan, NULL);
		return gw__why_set(why, -ENOMEM, "no memory for a connection");
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
		return gw__why_errno(why, err, "cannot start a thread");
	}
	*candidate = c;
	return 0;
}

void gw__candidate_hush(struct gw__candidate *c) { shutdown(c->fd, SHUT_RDWR); }

void gw__candidate_free(struct gw__candidate *c)
{
	pthread_join(c->thread, NULL);
	gw__chan_close(&c->chan, NULL);
	free(c);
}
