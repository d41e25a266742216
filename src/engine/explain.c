/* SPDX-License-Identifier: MIT */
/*
 * The explainer: its life, and its way through the bytes of any channel. Not what they mean, which explain_stream.c, explain_retpath.c and
 * explain_multifd.c know, nor how it is said (explain_message.c, explain_pages.c). See explain.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "engine/explain_internal.h"

typedef unsigned long long ull;

enum { FIRST_OF_MAIN = 'Q', FIRST_OF_MULTIFD = 0x11, FIRST_OF_TLS = 0x16, FIRST_OF_PAGE = 0x00 };

enum gw__explain_kind gw__explain_kind_of(uint8_t first)
{
	switch (first) {
	case FIRST_OF_MAIN:
		return GW__EXPLAIN_MAIN;
	case FIRST_OF_MULTIFD:
		return GW__EXPLAIN_MULTIFD;
	case GW__ITEM_COMMAND:
		return GW__EXPLAIN_RECOVERY;
	case FIRST_OF_PAGE: /* the high byte of an offset */
		return GW__EXPLAIN_PREEMPT;
	default:
		return GW__EXPLAIN_OPAQUE;
	}
}

int gw__explain_new(const struct gw__explain_opts *o, struct gw__explain **x)
{
	struct gw__explain *made = calloc(1, sizeof *made);
	if (!made)
		return -ENOMEM;
	made->o = *o;
	made->opaque = o->kind == GW__EXPLAIN_OPAQUE;
	int r = gw__explain_begin_stream(made);
	if (r) {
		gw__explain_free(made);
		return r;
	}
	*x = made;
	return 0;
}

void gw__explain_free(struct gw__explain *x)
{
	if (!x)
		return;
	gw__stream_fini(&x->stream);
	free(x);
}

uint64_t gw__explain_off(const struct gw__explain *x) { return x->off; }
bool gw__explain_is_waiting(const struct gw__explain *x) { return x->run.end != x->run.at; }
void gw__explain_tally(const struct gw__explain *x, struct gw__explain_tally *t) { *t = x->tally; }

void gw__explain_sight(struct gw__explain *x, enum gw__sight sight) { x->sights |= UINT32_C(1) << sight; }

void gw__explain_confirm(struct gw__explain *x)
{
	for (unsigned i = 0; x->sights; x->sights &= ~(UINT32_C(1) << i), i++)
		if (x->sights >> i & 1)
			gw__seen_note(x->o.seen, (enum gw__sight)i);
}

/* --- bytes --- */

/* Once: whatever follows in this direction is bytes. */
static void give_up(struct gw__explain *x, const char *name, size_t left)
{
	x->opaque = true;
	struct gw__message *m = gw__explain_make(x, name, "%s", x->why.text);
	gw__explain_text(m, "why", x->why.text);
	gw__explain_say(x, x->off + left);
}

static int step_silent(struct gw__explain *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	(void)bytes;
	(void)last;
	*used = 0;
	return n ? gw__why_set(&x->why, -EPROTO, "bytes in a direction in which nobody speaks") : 0;
}

static int step(struct gw__explain *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	static int (*const by_kind[])(struct gw__explain * x, const uint8_t *bytes, size_t n, bool last, size_t *used) = {
		[GW__EXPLAIN_SILENT] = step_silent,
		[GW__EXPLAIN_MAIN] = gw__explain_stream,
		[GW__EXPLAIN_RECOVERY] = gw__explain_stream,
		[GW__EXPLAIN_PREEMPT] = gw__explain_stream,
		[GW__EXPLAIN_MULTIFD] = gw__explain_multifd,
		[GW__EXPLAIN_RETURN_PATH] = gw__explain_retpath,
	};
	*used = 0;
	if (!x->ended)
		return by_kind[x->o.kind](x, bytes, n, last, used);
	return n ? gw__why_set(&x->why, -EPROTO, "bytes behind the end of the stream") : 0;
}

/* Payload, of which only the length matters. */
static size_t pass_by(struct gw__explain *x, size_t n)
{
	size_t now = gw__min(x->skip, n);
	x->skip -= now;
	x->off += now;
	return now;
}

/* The last bytes are there: what is unfinished now stays so. */
static void end_here(struct gw__explain *x, size_t left)
{
	gw__explain_pause(x);
	if (x->opaque)
		return;
	if (x->skip) {
		gw__why_set(&x->why, -EPROTO, "the connection ends %llu bytes before the end of what was announced", (ull)x->skip);
		x->said_off = x->off; /* which was said to be longer */
	} else if (left)
		gw__why_set(&x->why, -EPROTO, "the connection ends inside a message, of which %zu bytes came", left);
	x->skip = 0;
	if (x->why.code)
		give_up(x, "INCOMPLETE", left);
}

/* 1: go on; 0: more bytes are needed. */
static int take_step(struct gw__explain *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	int r = step(x, bytes, n, false, used);
	const char *name = "UNINTERPRETED";
	if (r == 0 && *used) /* something that is no message by itself */
		return 1;
	if (r == 0 && last) {
		r = step(x, bytes, n, true, used);
		name = "INCOMPLETE";
	}
	if (r >= 0)
		return r;
	*used = 0;
	give_up(x, name, last ? n : 0);
	return 1;
}

size_t gw__explain(struct gw__explain *x, const uint8_t *bytes, size_t n, bool last)
{
	size_t at = 0;
	for (x->stopped = false; !x->stopped;) {
		size_t used = x->skip ? pass_by(x, n - at) : 0;
		at += used;
		if (x->skip)
			break;
		if (x->opaque) {
			x->off += n - at;
			x->said_off = x->off;
			return n;
		}
		int r = take_step(x, bytes + at, n - at, last, &used);
		if (r == 0)
			break;
		at += used;
		x->off += used;
	}
	if (last && !x->stopped)
		end_here(x, n - at);
	return at;
}
