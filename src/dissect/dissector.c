/* SPDX-License-Identifier: MIT */
/*
 * The explainer: its life, and its way through the bytes of any channel. Not what they mean, which stream.c, return_path.c and
 * multifd.c know, nor how it is said (message.c, pages.c). See dissector.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "dissect/dissector_private.h"

typedef unsigned long long ull;

enum { FIRST_OF_MAIN = 'Q', FIRST_OF_MULTIFD = 0x11, FIRST_OF_TLS = 0x16, FIRST_OF_PAGE = 0x00 };

enum gw__dissector_kind gw__dissector_kind_of(uint8_t first)
{
	switch (first) {
	case FIRST_OF_MAIN:
		return GW__DISSECTOR_MAIN;
	case FIRST_OF_MULTIFD:
		return GW__DISSECTOR_MULTIFD;
	case GW__ITEM_COMMAND:
		return GW__DISSECTOR_RECOVERY;
	case FIRST_OF_PAGE: /* the high byte of an offset */
		return GW__DISSECTOR_PREEMPT;
	default:
		return GW__DISSECTOR_OPAQUE;
	}
}

int gw__dissector_new(const struct gw__dissector_opts *o, struct gw__dissector **x)
{
	struct gw__dissector *made = calloc(1, sizeof *made);
	if (!made)
		return -ENOMEM;
	made->o = *o;
	made->opaque = o->kind == GW__DISSECTOR_OPAQUE;
	int r = gw__dissector_begin_stream(made);
	if (r) {
		gw__dissector_free(made);
		return r;
	}
	*x = made;
	return 0;
}

void gw__dissector_free(struct gw__dissector *x)
{
	if (!x)
		return;
	gw__stream_fini(&x->stream);
	free(x);
}

uint64_t gw__dissector_off(const struct gw__dissector *x) { return x->off; }
bool gw__dissector_is_waiting(const struct gw__dissector *x) { return x->run.end != x->run.at; }
void gw__dissector_stats(const struct gw__dissector *x, struct gw__dissector_stats *t) { *t = x->stats; }

void gw__dissector_observed_event(struct gw__dissector *x, enum gw__observed_event observed) { x->sights |= UINT32_C(1) << observed; }

void gw__dissector_confirm(struct gw__dissector *x)
{
	for (unsigned i = 0; x->sights; x->sights &= ~(UINT32_C(1) << i), i++)
		if (x->sights >> i & 1)
			gw__migration_view_note(x->o.view, (enum gw__observed_event)i);
}

/* --- bytes --- */

/* Once: whatever follows in this direction is bytes. */
static void give_up(struct gw__dissector *x, const char *name, size_t left)
{
	x->opaque = true;
	struct gw__message *m = gw__dissector_make(x, name, "%s", x->error.text);
	gw__dissector_text(m, "why", x->error.text);
	gw__dissector_emit(x, x->off + left);
}

static int step_silent(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	(void)bytes;
	(void)last;
	*used = 0;
	return n ? gw__error_set(&x->error, -EPROTO, "bytes in a direction in which nobody speaks") : 0;
}

static int step(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
{
	static int (*const by_kind[])(struct gw__dissector * x, const uint8_t *bytes, size_t n, bool last, size_t *used) = {
		[GW__DISSECTOR_SILENT] = step_silent,
		[GW__DISSECTOR_MAIN] = gw__dissector_stream,
		[GW__DISSECTOR_RECOVERY] = gw__dissector_stream,
		[GW__DISSECTOR_PREEMPT] = gw__dissector_stream,
		[GW__DISSECTOR_MULTIFD] = gw__dissector_multifd,
		[GW__DISSECTOR_RETURN_PATH] = gw__dissector_retpath,
	};
	*used = 0;
	if (!x->ended)
		return by_kind[x->o.kind](x, bytes, n, last, used);
	return n ? gw__error_set(&x->error, -EPROTO, "bytes behind the end of the stream") : 0;
}

/* Payload, of which only the length matters. */
static size_t pass_by(struct gw__dissector *x, size_t n)
{
	size_t now = gw__min(x->skip, n);
	x->skip -= now;
	x->off += now;
	return now;
}

/* The last bytes are there: what is unfinished now stays so. */
static void end_here(struct gw__dissector *x, size_t left)
{
	gw__dissector_pause(x);
	if (x->opaque)
		return;
	if (x->skip) {
		gw__error_set(&x->error, -EPROTO, "the connection ends %llu bytes before the end of what was announced", (ull)x->skip);
		x->said_off = x->off; /* which was said to be longer */
	} else if (left)
		gw__error_set(&x->error, -EPROTO, "the connection ends inside a message, of which %zu bytes came", left);
	x->skip = 0;
	if (x->error.code)
		give_up(x, "INCOMPLETE", left);
}

/* 1: go on; 0: more bytes are needed. */
static int take_step(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used)
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

size_t gw__dissector(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last)
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
