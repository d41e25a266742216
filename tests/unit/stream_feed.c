/* SPDX-License-Identifier: MIT */
/* The caller of the stream decoder, for tests; see stream_feed.h. */
#include "stream_feed.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

typedef unsigned long long ull;

#define PROMISE(cond)                                                                                                                      \
	do {                                                                                                                               \
		if (!(cond)) {                                                                                                             \
			fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #cond);                                         \
			abort();                                                                                                           \
		}                                                                                                                          \
	} while (0)

static void say(struct feed_end *end, const char *fmt, ...) GW__PRINTF(2, 3);
static void say(struct feed_end *end, const char *fmt, ...)
{
	if (end->log_room - end->log_n < 1024) {
		end->log_room = end->log_room * 2 + 4096;
		end->log = realloc(end->log, end->log_room);
		PROMISE(end->log);
	}
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(end->log + end->log_n, end->log_room - end->log_n, fmt, ap);
	va_end(ap);
	PROMISE(n >= 0 && (size_t)n < end->log_room - end->log_n);
	end->log_n += (size_t)n;
}

/* FNV-1a, enough to tell bodies apart. */
static ull digest(const uint8_t *p, size_t n)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return h;
}

static void say_blocks(struct feed_end *end, const struct gw__stream *s)
{
	for (uint32_t i = 0; i < s->blocks.n; i++) {
		const struct gw__block *b = &s->blocks.v[i];
		say(end, "  \"%s\" %llu page %llu address %llx bitmap %llu pages %llu%s\n", b->name, (ull)b->used_bytes, (ull)b->page_bytes,
			(ull)b->address, (ull)b->bitmap_off, (ull)b->pages_off, b->ignored ? " ignored" : "");
	}
}

static void say_event(struct feed_end *end, const struct gw__stream *s, const struct gw__event *ev, const uint8_t *page)
{
	say(end, "%llu %s", (ull)ev->off, gw__event_name(ev->kind));
	switch (ev->kind) {
	case GW__EVENT_CONFIG:
		say(end, " %s bits %u caps %u", s->config.machine, s->config.page_bits, s->config.caps_n);
		break;
	case GW__EVENT_COMMAND:
		say(end, " %u length %u raw %llx", ev->command.number, ev->command.length, digest(ev->raw.p, ev->raw.n));
		break;
	case GW__EVENT_SECTION:
	case GW__EVENT_SECTION_END:
		say(end, " %u %u %s", ev->section.type, ev->section.id, ev->section.idstr);
		break;
	case GW__EVENT_PAGE:
	case GW__EVENT_ZERO:
	case GW__EVENT_XBZRLE:
		say(end, " %u+%llx", ev->where.block, (ull)ev->where.off);
		if (page)
			say(end, " %llx", digest(page, s->page_bytes));
		if (ev->kind == GW__EVENT_XBZRLE)
			say(end, " %zu %llx", ev->delta.n, digest(ev->delta.p, ev->delta.n));
		break;
	case GW__EVENT_SEEK:
		say(end, " %llu", (ull)ev->seek_off);
		break;
	case GW__EVENT_DEVICE:
	case GW__EVENT_OPAQUE:
		say(end, " %u %u %s instance %u version %u", ev->section.type, ev->section.id, ev->section.idstr, ev->section.instance,
			ev->section.version);
		break;
	default:
		break;
	}
	if (ev->body.p)
		say(end, " body %zu %llx raw %zu %llx", ev->body.n, digest(ev->body.p, ev->body.n), ev->raw.n,
			digest(ev->raw.p, ev->raw.n));
	say(end, "%s%s\n", ev->anomaly ? " odd: " : "", ev->anomaly ? ev->anomaly : "");
	if (ev->kind == GW__EVENT_BLOCKS)
		say_blocks(end, s);
}

static bool lies_in(struct gw__view v, const uint8_t *p, size_t n)
{
	return v.n == 0 || ((uintptr_t)v.p >= (uintptr_t)p && v.n <= n && (size_t)(v.p - p) <= n - v.n);
}

static void check_event(const struct gw__stream *s, const struct gw__event *ev, const uint8_t *window, size_t n, size_t used)
{
	PROMISE(used <= n);
	PROMISE(lies_in(ev->raw, window, used) && lies_in(ev->body, window, used) && lies_in(ev->delta, window, used));
	switch (ev->kind) {
	case GW__EVENT_PAGE:
	case GW__EVENT_ZERO:
	case GW__EVENT_XBZRLE:
		PROMISE(ev->where.block < s->blocks.n);
		PROMISE(ev->where.off % s->page_bytes == 0);
		PROMISE(ev->where.off < s->blocks.v[ev->where.block].used_bytes);
		PROMISE(s->page_bytes <= s->blocks.v[ev->where.block].used_bytes - ev->where.off);
		PROMISE(ev->delta.n <= s->page_bytes);
		break;
	case GW__EVENT_DEVICE:
	case GW__EVENT_OPAQUE:
		PROMISE(ev->body.p && ev->section.idstr[0]);
		PROMISE(ev->body.n == gw__section_body_bytes(&ev->section, ev->raw.n));
		PROMISE(ev->raw.p + ev->raw.n == ev->body.p + ev->body.n + 5); /* the footer */
		break;
	default:
		break;
	}
}

struct walk {
	const struct feed *f;
	struct feed_end *end;
	size_t at, shown; /* index of the first byte not used; end of what the decoder may see */
};

/* One call of the decoder; the window may be a copy, which lives until the event was looked at. */
static int step(struct walk *w)
{
	const struct feed *f = w->f;
	struct gw__stream *s = &w->end->stream;
	struct gw__event ev = {0};
	size_t n = w->shown - w->at, used = SIZE_MAX;
	const uint8_t *window = f->bytes + w->at;
	uint8_t *copy = NULL;
	if (f->guard) {
		copy = malloc(n ? n : 1);
		PROMISE(copy);
		memcpy(copy, window, n);
		window = n ? copy : NULL;
	}
	uint64_t before = s->off;
	int r = gw__stream_next(s, window, n, w->shown == f->n && !f->open_end, &used, &ev, &w->end->error);
	PROMISE(used <= n);
	w->at += used;
	if (r < 0)
		PROMISE(w->end->error.code == r && strlen(w->end->error.text) > 10);
	else if (r == 0)
		PROMISE(s->off == before + used);
	else
		PROMISE(r == 1);
	if (r == 1) {
		const uint8_t *page = NULL;
		PROMISE(ev.kind != GW__EVENT_NONE && ev.kind <= GW__EVENT_END && ev.off >= before);
		check_event(s, &ev, window, n, used);
		if (ev.kind == GW__EVENT_PAGE && f->n - w->at >= s->page_bytes)
			page = f->bytes + w->at;
		w->end->count[ev.kind]++;
		if (!f->quiet)
			say_event(w->end, s, &ev, page);
		if (f->on_event)
			f->on_event(f->ctx, s, &ev, page);
		if (ev.kind == GW__EVENT_PAGE)
			r = page ? (w->at += s->page_bytes, 1) : -EPIPE;
		if (ev.kind == GW__EVENT_SEEK)
			r = ev.seek_off - f->opts.base_off <= f->n ? (w->at = ev.seek_off - f->opts.base_off, 1) : -EPIPE;
		if (r == -EPIPE) /* the reader's own discovery: the decoder cannot know how long the file is */
			gw__error_set(&w->end->error, r, "the bytes end inside a page");
		if (ev.kind == GW__EVENT_END)
			r = 2;
		if (r > 0)
			PROMISE(s->off == f->opts.base_off + w->at);
	}
	free(copy);
	return r;
}

void feed_run(const struct feed *f, struct feed_end *end)
{
	memset(end, 0, sizeof *end);
	if (f->init)
		PROMISE(f->init(&end->stream, &f->opts, f->guest) == 0);
	else
		gw__stream_init(&end->stream, &f->opts);
	struct walk w = {.f = f, .end = end, .shown = f->piece ? 0 : f->n};
	for (;;) {
		int r = step(&w);
		if (w.at > w.shown)
			w.shown = w.at;
		if (r < 0 || r == 2) {
			end->code = r < 0 ? r : 0;
			break;
		}
		if (r == 1)
			continue;
		PROMISE(w.shown < f->n || f->open_end); /* asked for more although it was told there is none */
		if (w.shown == f->n) {
			end->code = GW__SHORT;
			break;
		}
		size_t more = f->piece(f->ctx);
		w.shown += more == 0 ? 1 : more < f->n - w.shown ? more : f->n - w.shown;
	}
	end->trailing = f->n - w.at;
}

void feed_end_fini(struct feed_end *end)
{
	gw__stream_fini(&end->stream);
	free(end->log);
	memset(end, 0, sizeof *end);
}
