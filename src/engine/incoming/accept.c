/* SPDX-License-Identifier: MIT */
/* What a connection is, by its first bytes (docs/spec/channels.md 2), which a thread of its own waits for. See accept.h. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/math.h"
#include "engine/incoming/accept.h"
#include "io/wait.h"
#include "thread/thread.h"
#include "wire/framing.h"
#include "wire/header.h"
#include "wire/stream.h"

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
	uint8_t head[GW__HEAD_MAX_BYTES]; /* longer than a hello and a main channel's */
	size_t head_n;
	bool comes_again;    /* the source is to come back after a break, with a command */
	bool handshake_done; /* TLS: it has a certificate that we take */
	bool is_about_tls;   /* why it was not recognised: a true source whose user has to change something may say this */
	struct gw__multifd_hello hello;
	enum gw__pending_channel_kind kind;
	struct gw__error error;
	_Atomic bool known;
};

enum { GW__LAST_RECORD = 8 /* a command */, GW__TLS_HANDSHAKE = 0x16 };

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
	c->is_about_tls = magic >> 16 == 0x1603;
	if (c->is_about_tls)
		gw__error_set(&c->error, -EPROTO,
			"%s: the source speaks TLS and we do not; give --tls-creds here, or switch TLS off there (tls-creds)",
			c->chan->name);
	else if (c->comes_again)
		gw__error_set(&c->error, -EPROTO,
			"%s: not a source that comes back: the connection begins with %08x, expected 08 and the number of a command",
			c->chan->name, magic);
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

/* Four bytes are said easily. A stream has a version, and after it a section or a command. */
static enum gw__pending_channel_kind identify_main(struct gw__pending_channel *c)
{
	if (read_exactly(c->chan, c->head + GW__MAGIC_BYTES, GW__MAIN_HEAD_BYTES - GW__MAGIC_BYTES, &c->error))
		return GW__PENDING_UNRECOGNISED;
	uint32_t version = (uint32_t)gw__be_get(c->head + GW__MAGIC_BYTES, 4);
	uint8_t first = c->head[GW__MAIN_HEAD_BYTES - 1];
	c->head_n = GW__MAIN_HEAD_BYTES;
	if (version == GW__STREAM_VERSION && first && first <= GW__LAST_RECORD)
		return GW__PENDING_MAIN;
	gw__error_set(&c->error, -EPROTO,
		"%s: not a migration: a stream of version %u that begins with %02x, expected version %d and 01 to %02x", c->chan->name,
		version, first, GW__STREAM_VERSION, GW__LAST_RECORD);
	return GW__PENDING_UNRECOGNISED;
}

/* It begins with a question about a block, or another command; the whole of it, so that nobody is taken who stops within. */
static enum gw__pending_channel_kind identify_command(struct gw__pending_channel *c)
{
	size_t at = GW__MAGIC_BYTES, head = GW__COMMAND_HEAD_BYTES;
	if (read_exactly(c->chan, c->head + at, head - at, &c->error))
		return GW__PENDING_SILENT;
	struct gw__command cmd;
	struct gw__rd rd = gw__rd_over(c->head, head);
	int r = gw__command_decode(&rd, &cmd, &c->error);
	if (r < 0)
		return GW__PENDING_UNRECOGNISED;
	if (cmd.length > GW__LEN(c->head) - head) {
		gw__error_set(&c->error, -EPROTO,
			"%s: not a source that comes back: its first command has %u bytes, at most %zu are expected", c->chan->name,
			cmd.length, GW__LEN(c->head) - head);
		return GW__PENDING_UNRECOGNISED;
	}
	if (read_exactly(c->chan, c->head + head, cmd.length, &c->error))
		return GW__PENDING_SILENT;
	c->head_n = head + cmd.length;
	return GW__PENDING_MAIN;
}

/* Of those who fail only who began with a handshake, or as a source without TLS does, may be the source. */
static int shake_hands(struct gw__pending_channel *c)
{
	unsigned char first = 0;
	int r = gw__chan_wait_readable(c->chan, c->chan->idle_ms, &c->error);
	if (r < 0)
		return r;
	if (!r)
		return -ETIMEDOUT;
	if (recv(c->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) == 1)
		c->is_about_tls = first == GW__TLS_HANDSHAKE || first == GW__ITEM_COMMAND;
	return gw__chan_start_tls(&c->chan, c->tls, NULL, false, &c->error);
}

/* Or the job was cancelled, which is nobody's fault who has connected. */
static bool had_no_time(int r) { return r == -ETIMEDOUT || r == -ECANCELED; }

static enum gw__pending_channel_kind identify(struct gw__pending_channel *c)
{
	int r = c->tls ? shake_hands(c) : 0;
	if (r)
		return had_no_time(r) ? GW__PENDING_SILENT : GW__PENDING_UNRECOGNISED;
	c->handshake_done = c->tls;
	c->is_about_tls = false;
	r = read_exactly(c->chan, c->head, GW__MAGIC_BYTES, &c->error);
	if (r == -ECONNRESET || (r && !had_no_time(r) && c->handshake_done))
		return left_early(c);
	if (r)
		return had_no_time(r) ? GW__PENDING_SILENT : GW__PENDING_UNRECOGNISED;
	uint32_t magic = (uint32_t)gw__be_get(c->head, 4);
	if (c->comes_again)
		return c->head[0] == GW__ITEM_COMMAND && !c->head[1] ? identify_command(c) : strange(c, magic);
	if (magic == GW__STREAM_MAGIC)
		return identify_main(c);
	if (magic != GW__MULTIFD_MAGIC)
		return strange(c, magic);
	if (read_exactly(c->chan, c->head + GW__MAGIC_BYTES, GW__MULTIFD_HELLO_BYTES - GW__MAGIC_BYTES, &c->error))
		return GW__PENDING_UNRECOGNISED;
	struct gw__rd rd = gw__rd_over(c->head, GW__MULTIFD_HELLO_BYTES);
	return gw__multifd_hello_decode(&rd, &c->hello, &c->error) ? GW__PENDING_UNRECOGNISED : GW__PENDING_MULTIFD;
}

static void *identify_thread(void *ctx)
{
	struct gw__pending_channel *c = ctx;
	c->kind = identify(c);
	atomic_store_explicit(&c->known, true, memory_order_release);
	return NULL;
}

/* Takes the channel, also on failure. The credentials are borrowed. */
static int start_pending(struct gw__chan **chan, const struct gw__accept_opts *o, struct gw__pending_channel **pending,
	struct gw__error *error)
{
	struct gw__pending_channel *c = calloc(1, sizeof *c);
	if (!c) {
		gw__chan_close(chan, NULL);
		return gw__error_set(error, -ENOMEM, "no memory for a connection");
	}
	c->chan = *chan;
	c->fd = c->chan->fd;
	c->tls = o->tls;
	c->comes_again = o->comes_again;
	*chan = NULL;
	c->chan->idle_ms = o->hello_ms;
	int err = gw__thread_start(&c->thread, identify_thread, c);
	if (err) {
		gw__chan_close(&c->chan, NULL);
		free(c);
		return gw__error_errno(error, err, "cannot start a thread");
	}
	*pending = c;
	return 0;
}

/* The thread stops waiting. */
static void shut_down_pending(struct gw__pending_channel *c) { shutdown(c->fd, SHUT_RDWR); }

/* Joins the thread. */
static void free_pending(struct gw__pending_channel *c)
{
	pthread_join(c->thread, NULL);
	gw__chan_close(&c->chan, NULL);
	free(c);
}

/* Collecting the connections of a migration, until they are all there; see accept.h. What each is, accept.c finds out. */

enum {
	LOOK_MS = 5,
	LATE_MS = 400,    /* after the last channel: what a tunnel may delay the next */
	MUTE_MS = 2000,   /* after the last channel: each has sent its first packet */
	AHEAD = 32 << 10, /* of a main channel, looked at before it is read */
	USUAL_PAGE_BYTES = 4096,
	CANDIDATES_MAX = 2 * GW__MULTIFD_CHANNELS_MAX,
	LAST_LOOK_MS = 2000,   /* when the limit of a wait has passed in an earlier call: for who had come by then */
	LAST_LOOKS_MS = 15000, /* all of them, as one of those who are not the source may follow the other */
	SHORT_MS = 100,        /* between two attempts to take a connection for which there is no descriptor or memory */
	KEPT_MAX = 16,         /* while a source is spoken with: its preempt channel is among the last, and descriptors are needed */
};

/* In the order of their coming. */
struct gw__pending_channels {
	struct gw__pending_channel *v[CANDIDATES_MAX];
	unsigned n;
};

struct gather {
	struct gw__run *run;
	struct gw__listener *listener;
	const struct gw__accept_opts *o;
	struct gw__incoming *in;
	struct gw__pending_channels *pending;
	uint8_t uuid[GW__MULTIFD_CHANNELS_MAX + 1][16]; /* of the multifd channels */
	uint64_t start_ns, last_ns;                     /* when this call began; when the last channel came, 0: none yet */
	unsigned mains_n;                               /* main channels that came, those that were dropped too */
	uint64_t strangers_n;
	struct gw__error stranger; /* the last one that said something */
	struct gw__error shortage; /* why the connection that comes next cannot be taken (yet) */
	bool has_warned;           /* of a shortage */
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

static void drop_candidate(struct gather *g, unsigned i)
{
	struct gw__pending_channels *p = g->pending;
	free_pending(p->v[i]);
	p->n--;
	for (; i < p->n; i++)
		p->v[i] = p->v[i + 1];
}

static void count_stranger(struct gather *g, const struct gw__error *error)
{
	g->strangers_n++;
	if (error->code)
		g->stranger = *error;
	GW__TRACE(&g->run->trace, stranger, "%s", error->code ? error->text : "a connection that said nothing");
}

static bool is_known(const struct gw__pending_channel *c) { return atomic_load_explicit(&c->known, memory_order_acquire); }

/* The one that has been silent for longest makes room; who has spoken since the last look may be the source. False: there is none. */
static bool evict(struct gather *g)
{
	static const struct gw__error silent = {0};
	unsigned i = 0;
	while (i < g->pending->n && is_known(g->pending->v[i]))
		i++;
	if (!g->pending->n)
		return false;
	i = i < g->pending->n ? i : 0;
	shut_down_pending(g->pending->v[i]);
	drop_candidate(g, i);
	count_stranger(g, &silent);
	return true;
}

static int add_candidate(struct gather *g, struct gw__chan **chan)
{
	if (g->pending->n == CANDIDATES_MAX)
		evict(g);
	int r = start_pending(chan, g->o, &g->pending->v[g->pending->n], &g->run->error);
	if (!r)
		g->pending->n++;
	return r;
}

static void came(struct gather *g) { g->last_ns = gw__clock_now_ns(&g->run->clock); }

/* Bytes that wait on the socket, maybe enciphered; -1: it has ended. */
static int waiting(const struct gw__chan *chan)
{
	char byte;
	int n = 0;
	if (recv(chan->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
		return -1;
	return ioctl(chan->fd, FIONREAD, &n) < 0 ? 0 : n;
}

/* It said what it is, and nothing after it. Under TLS it has proved itself, and what came may have been deciphered already. */
static bool is_mute(const struct gather *g, const struct gw__chan *chan) { return chan && !g->o->tls && waiting(chan) <= 0; }
static bool has_left(const struct gather *g, const struct gw__chan *chan) { return chan && !g->o->tls && waiting(chan) < 0; }

static void drop_multifd(struct gather *g, unsigned id, const char *because)
{
	struct gw__error error = {0};
	gw__error_set(&error, -EPROTO, "%s: multifd channel %u %s", g->in->multifd[id]->name, id, because);
	count_stranger(g, &error);
	gw__chan_close(&g->in->multifd[id], NULL);
	g->in->multifd_n--;
}

static void drop_main(struct gather *g, struct gw__chan **chan, const char *because)
{
	struct gw__error error = {0};
	gw__error_set(&error, -EPROTO, "%s: a main channel %s", (*chan)->name, because);
	count_stranger(g, &error);
	gw__chan_close(chan, NULL);
}

static void take_main(struct gather *g, struct gw__pending_channel *c)
{
	g->mains_n++;
	if (is_mute(g, g->in->main))
		drop_main(g, &g->in->main, "sent nothing after its head, and another one came");
	if (g->in->main) {
		drop_main(g, &c->chan, "came a second time");
		return;
	}
	g->in->main = c->chan;
	c->chan = NULL;
	memcpy(g->in->head, c->head, c->head_n);
	g->in->head_n = c->head_n;
	g->in->handshake_done = c->handshake_done;
	came(g);
}

/* A hello is 64 bytes that anybody can say: of two that contradict each other, the one after which packets come is the source's. */
static bool gives_way(struct gather *g, unsigned id, const uint8_t *uuid, unsigned new_id)
{
	const struct gw__chan *chan = g->in->multifd[id];
	return is_mute(g, chan) && (id == new_id || memcmp(g->uuid[id], uuid, 16));
}

static int refuse_multifd(struct gather *g, const struct gw__pending_channel *c, const char *because)
{
	struct gw__error error = {0};
	gw__error_set(&error, -EPROTO, "%s: multifd channel %u %s", c->chan->name, c->hello.id, because);
	count_stranger(g, &error);
	return 0;
}

static int take_multifd(struct gather *g, struct gw__pending_channel *c)
{
	uint8_t id = c->hello.id;
	char announced[64];
	snprintf(announced, sizeof announced, "came, but %u were announced (0..%u)", g->o->channels, g->o->channels - 1);
	if (g->o->channels && id >= g->o->channels)
		return refuse_multifd(g, c, announced);
	for (unsigned i = 0; i < GW__LEN(g->in->multifd); i++)
		if (gives_way(g, i, c->hello.uuid, id))
			drop_multifd(g, i, "has sent no packet, and another one came");
	for (unsigned i = 0; i < GW__LEN(g->in->multifd); i++)
		if (g->in->multifd[i] && memcmp(g->uuid[i], c->hello.uuid, sizeof g->uuid[i]))
			return refuse_multifd(g, c, "belongs to another guest (its UUID differs from the others')");
	if (g->in->multifd[id])
		return refuse_multifd(g, c, "came a second time");
	memcpy(g->uuid[id], c->hello.uuid, sizeof g->uuid[id]);
	g->in->multifd[id] = c->chan;
	g->in->multifd_n++;
	c->chan = NULL;
	came(g);
	return 0;
}

static int take_stranger(struct gather *g, struct gw__pending_channel *c)
{
	static const struct gw__error silent = {0};
	bool said = c->kind != GW__PENDING_SILENT;
	count_stranger(g, said ? &c->error : &silent);
	if (!said || !g->o->source_is_first || g->in->main || g->in->multifd_n || g->pending->n > 1)
		return 0;
	return gw__error_set(&g->run->error, c->error.code, "%s", c->error.text);
}

/* Who is not the source is no news, unless it may be the source and a user has to change something. */
static int take_stranger_again(struct gather *g, struct gw__pending_channel *c)
{
	static const struct gw__error silent = {0};
	bool said = c->kind != GW__PENDING_SILENT;
	count_stranger(g, said ? &c->error : &silent);
	if (!said || !(g->o->source_is_first || c->is_about_tls || c->handshake_done))
		return 0;
	g->in->handshake_done = c->handshake_done;
	gw__error_set(&g->run->error, c->error.code, "%s", c->error.text);
	return GW__DROPPED;
}

static int take_again(struct gather *g, struct gw__pending_channel *c)
{
	if (c->kind != GW__PENDING_MAIN)
		return take_stranger_again(g, c);
	take_main(g, c);
	return 0;
}

static int take(struct gather *g, struct gw__pending_channel *c)
{
	if (c->chan)
		c->chan->idle_ms = g->o->idle_ms;
	if (g->o->comes_again)
		return take_again(g, c);
	if (c->kind == GW__PENDING_MULTIFD)
		return take_multifd(g, c);
	if (c->kind != GW__PENDING_MAIN)
		return take_stranger(g, c);
	take_main(g, c);
	return 0;
}

static int collect(struct gather *g)
{
	int r = 0;
	for (unsigned i = 0; !r && i < g->pending->n && !(g->o->comes_again && g->in->main);) {
		if (!is_known(g->pending->v[i])) {
			i++;
			continue;
		}
		r = take(g, g->pending->v[i]);
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

/* Who said what it is, and left. */
static void drop_ended(struct gather *g)
{
	for (unsigned i = 0; i < GW__LEN(g->in->multifd); i++)
		if (has_left(g, g->in->multifd[i]))
			drop_multifd(g, i, "was closed by the peer before its first packet");
	if (has_left(g, g->in->main))
		drop_main(g, &g->in->main, "was closed by the peer after its head");
}

static unsigned count_mute(const struct gather *g)
{
	unsigned n = 0;
	for (unsigned i = 0; i < GW__LEN(g->in->multifd); i++)
		n += is_mute(g, g->in->multifd[i]);
	return n;
}

static void drop_mute(struct gather *g)
{
	for (unsigned i = 0; i < GW__LEN(g->in->multifd); i++)
		if (is_mute(g, g->in->multifd[i]))
			drop_multifd(g, i, "sent no packet");
}

/* Of those that sent a packet: ids are given from 0 on, so another one is on its way. */
static bool lacks_an_id(const struct gather *g)
{
	bool above = false;
	for (unsigned i = GW__LEN(g->in->multifd); i-- > 0;) {
		bool speaks = g->in->multifd[i] && !is_mute(g, g->in->multifd[i]);
		if (!speaks && above)
			return true;
		above = above || speaks;
	}
	return false;
}

static uint64_t ms_since(const struct gather *g, uint64_t ns) { return (gw__clock_now_ns(&g->run->clock) - ns) / 1000000; }

/* To post-copy, which is not taken next to other channels. */
static bool switches(const struct gw__event *ev)
{
	return ev->kind == GW__EVENT_COMMAND &&
	       (ev->command.number == GW__CMD_POSTCOPY_RAM_DISCARD || ev->command.number == GW__CMD_PACKAGED);
}

/*
 * What the first bytes of the main channel tell of its source: PAGE, it brings the pages itself, or switches to post-copy before any; FLUSH, others do
 * (docs/spec/multifd.md); NONE, they do not tell (yet), or are enciphered. All of a stream without a page may have arrived, to its END.
 */
static enum gw__event_kind look_ahead(const struct gather *g)
{
	uint8_t bytes[GW__MAIN_HEAD_BYTES + AHEAD];
	struct gw__stream stream;
	struct gw__event ev = {.kind = GW__EVENT_NONE};
	struct gw__error ignored = {0};
	size_t at = 0, used = 0;
	ssize_t n = g->o->tls ? 0 : recv(g->in->main->fd, bytes + GW__MAIN_HEAD_BYTES, AHEAD, MSG_PEEK | MSG_DONTWAIT);
	if (n <= 0)
		return GW__EVENT_NONE;
	memcpy(bytes, g->in->head, GW__MAIN_HEAD_BYTES);
	gw__stream_init(&stream, &(struct gw__stream_opts){.tail_max_bytes = g->run->tail_max_bytes,
					 .postcopy = true,
					 .page_bytes = g->run->page_bytes,
					 .usual_page_bytes = g->run->usual_page_bytes ? g->run->usual_page_bytes : USUAL_PAGE_BYTES});
	do {
		if (gw__stream_next(&stream, bytes + at, GW__MAIN_HEAD_BYTES + (size_t)n - at, false, &used, &ev, &ignored) != 1)
			ev.kind = GW__EVENT_NONE;
		at += used;
	} while (ev.kind != GW__EVENT_NONE && ev.kind != GW__EVENT_PAGE && ev.kind != GW__EVENT_FLUSH && ev.kind != GW__EVENT_END &&
		 !switches(&ev));
	gw__stream_fini(&stream);
	return ev.kind == GW__EVENT_END || switches(&ev) ? GW__EVENT_PAGE : ev.kind; /* nobody else brought any */
}

/*
 * How many channels a source has it does not say. Of several, each sends a packet before the main channel goes on; another one may have been
 * on its way for longer than the last. What is mute then belongs to somebody else.
 */
static bool complete(struct gather *g)
{
	if (!g->in->main || g->o->comes_again)
		return g->in->main;
	if (g->o->many_sources && g->in->multifd_n && g->pending->n) /* another main channel, which speaks after its channels? */
		return false;
	if (g->o->channels) { /* a mute one may be a stranger's, and among those who have not said who they are is the source's own */
		bool may_change = count_mute(g) && g->pending->n && ms_since(g, g->last_ns) < MUTE_MS;
		return g->in->multifd_n == g->o->channels && !may_change;
	}
	enum gw__event_kind shown = look_ahead(g);
	uint64_t quiet_ms = g->pending->n ? 0 : ms_since(g, g->last_ns);
	unsigned mute = count_mute(g);
	bool lacks = shown == GW__EVENT_FLUSH && mute == g->in->multifd_n;
	bool is_late = !g->shortage.code && quiet_ms >= (uint64_t)(mute ? MUTE_MS : LATE_MS); /* else a channel may wait in the queue */
	if (shown != GW__EVENT_PAGE && (lacks || !is_late || lacks_an_id(g)))
		return false;
	drop_mute(g);
	return true;
}

/* 0: there is time; GW__ENOUGH: it is over, and what came is enough. */
static int too_late(struct gather *g)
{
	const struct gw__incoming *in = g->in;
	if (!in->main || ms_since(g, g->last_ns) < (uint64_t)g->o->accept_ms)
		return 0;
	if (g->shortage.code)
		return gw__error_set(&g->run->error, g->shortage.code, "%s", g->shortage.text);
	if (!g->o->channels) { /* all but somebody who has not finished to say who it is */
		drop_mute(g);
		return GW__ENOUGH;
	}
	return gw__error_set(&g->run->error, -ETIMEDOUT,
		"the main channel and %u multifd channels came, expected %u of them within %d ms; set multifd-channels to %u at the source",
		in->multifd_n, g->o->channels, g->o->accept_ms, g->o->channels);
}

/* So long is waited for a main channel already. */
static uint64_t waited_ms(const struct gather *g) { return ms_since(g, g->o->begun_ns ? g->o->begun_ns : g->start_ns); }

/* While another connection was spoken with, the source may have come. */
static bool may_be_in_queue(const struct gather *g, uint64_t limit_ms)
{
	return g->o->begun_ns && g->pending->n && ms_since(g, g->start_ns) < LAST_LOOK_MS && waited_ms(g) < limit_ms + LAST_LOOKS_MS;
}

/* -ETIMEDOUT with a sentence when the limit for a main channel is over. */
static int check_limit(struct gather *g)
{
	int limit = gw__listener_connect_ms(g->listener);
	struct gw__error *error = &g->run->error;
	if (g->in->main || limit < 0 || waited_ms(g) < (uint64_t)limit || may_be_in_queue(g, (uint64_t)limit))
		return 0;
	if (g->shortage.code)
		return gw__error_set(error, -ETIMEDOUT, "%s, for %d ms; give this process more descriptors (ulimit -n) or memory",
			g->shortage.text, limit);
	if (g->in->multifd_n)
		return gw__error_set(error, -ETIMEDOUT, "%s: %u multifd channels came, but within %d ms no main channel",
			gw__listener_uri(g->listener), g->in->multifd_n, limit);
	if (g->stranger.code)
		return gw__error_set(error, -ETIMEDOUT,
			"nobody connected to %s for %d ms who is a source, but %ju others did; the last: %s", gw__listener_uri(g->listener),
			limit, (uintmax_t)g->strangers_n, g->stranger.text);
	return gw__error_set(error, -ETIMEDOUT, "nobody connected to %s for %d ms; start the source, or check its address",
		gw__listener_uri(g->listener), limit);
}

/* How long nothing can change but by another connection. */
static int look_ms(const struct gather *g)
{
	int limit = gw__listener_connect_ms(g->listener);
	if (g->pending->n || g->in->main)
		return LOOK_MS;
	if (g->in->multifd_n)
		return 10 * LOOK_MS;
	if (limit < 0)
		return -1;
	uint64_t gone = waited_ms(g);
	return gone < (uint64_t)limit ? (int)((uint64_t)limit - gone) : 0;
}

/*
 * One that is silent makes room. Without such a one the connection waits in the queue, until this process or another has given something back. Whoever
 * waits for many sources tells of it himself, and comes again.
 */
static int await_room(struct gather *g, int r)
{
	struct gw__error *error = &g->run->error;
	if (!gw__error_is_shortage(r))
		return r;
	if (evict(g)) {
		gw__error_clear(error);
		return 0;
	}
	if (g->o->many_sources)
		return r;
	g->shortage = *error;
	gw__error_clear(error);
	if (!g->has_warned)
		gw__run_warn(g->run, "%s; it is tried again until there is room", g->shortage.text);
	g->has_warned = true;
	gw__io_pause(g->run->cancel_fd, gw__io_deadline(SHORT_MS)); /* the next accept sees a cancel */
	return 0;
}

/* Takes the next connection, if there is one in time. */
static int accept_next(struct gather *g)
{
	struct gw__chan *chan = NULL;
	int r = gw__listener_accept_within(g->listener, look_ms(g), &chan, &g->run->error);
	if (!r)
		r = add_candidate(g, &chan);
	if (r && r != GW__NOBODY)
		return await_room(g, r);
	gw__error_clear(&g->shortage);
	return 0;
}

static int check_one_source(struct gather *g)
{
	if (!g->o->many_sources || g->mains_n < 2 || !g->in->multifd_n)
		return check_ids(g);
	return gw__error_set(&g->run->error, -EPROTO,
		"%u main channels and multifd channels came at the same time, and nothing tells whose the latter are; all were dropped: start one source "
		"after the other",
		g->mains_n);
}

static int gather(struct gather *g)
{
	g->start_ns = gw__clock_now_ns(&g->run->clock);
	for (;;) {
		int r = accept_next(g);
		if (!r)
			r = collect(g);
		if (r) /* GW__DROPPED: of collect, see gw__accept */
			return r;
		if (!g->o->comes_again)
			drop_ended(g);
		if (complete(g))
			return check_one_source(g);
		r = too_late(g);
		if (r == GW__ENOUGH)
			return check_one_source(g);
		if (!r)
			r = check_limit(g);
		if (r)
			return r;
	}
}

struct gw__pending_channels *gw__pending_channels_new(void) { return calloc(1, sizeof(struct gw__pending_channels)); }

void gw__pending_channels_free(struct gw__pending_channels *p)
{
	for (unsigned i = 0; p && i < p->n; i++)
		shut_down_pending(p->v[i]);
	for (unsigned i = 0; p && i < p->n; i++)
		free_pending(p->v[i]);
	free(p);
}

int gw__accept(struct gw__run *run, struct gw__listener *l, const struct gw__accept_opts *o, struct gw__incoming *in)
{
	struct gw__pending_channels *own = o->pending ? NULL : gw__pending_channels_new();
	struct gather g = {.run = run, .listener = l, .o = o, .in = in, .pending = own ? own : o->pending};
	memset(in, 0, sizeof *in);
	if (!g.pending)
		return gw__error_set(&run->error, -ENOMEM, "no memory for connections");
	int r = gather(&g);
	while (!r && g.pending->n > KEPT_MAX)
		evict(&g);
	gw__pending_channels_free(own); /* nobody waits for what they would have said */
	if (r)
		gw__incoming_close(in);
	return r;
}
