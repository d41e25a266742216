/* SPDX-License-Identifier: MIT */
/* The explainer: what it does with any channel, and how messages and runs of pages are said. See explain.h. */
#include "engine/explain_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/math.h"

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

const char *gw__explain_size_text(uint64_t bytes, struct gw__explain_size *s)
{
	static const struct {
		unsigned shift;
		const char *name;
	} units[] = {{40, "TiB"}, {30, "GiB"}, {20, "MiB"}, {10, "KiB"}};
	for (unsigned i = 0; i < GW__LEN(units); i++)
		if (bytes && gw__is_aligned(bytes, UINT64_C(1) << units[i].shift)) {
			snprintf(s->text, sizeof s->text, "%llu %s", (ull)(bytes >> units[i].shift), units[i].name);
			return s->text;
		}
	snprintf(s->text, sizeof s->text, "%llu bytes", (ull)bytes);
	return s->text;
}

void gw__explain_sight(struct gw__explain *x, enum gw__sight sight) { x->sights |= UINT32_C(1) << sight; }

void gw__explain_confirm(struct gw__explain *x)
{
	for (unsigned i = 0; x->sights; x->sights &= ~(UINT32_C(1) << i), i++)
		if (x->sights >> i & 1)
			gw__seen_note(x->o.seen, (enum gw__sight)i);
}

/* --- messages --- */

static void append(struct gw__message *m, const char *fmt, va_list ap)
{
	size_t n = strlen(m->text);
	vsnprintf(m->text + n, sizeof m->text - n, fmt, ap);
}

struct gw__message *gw__explain_make(struct gw__explain *x, const char *name, const char *fmt, ...)
{
	struct gw__message *m = &x->message;
	va_list ap;
	m->name = name;
	m->detail = m->sum = false;
	m->fields_n = 0;
	m->text[0] = 0;
	va_start(ap, fmt);
	append(m, fmt, ap);
	va_end(ap);
	return m;
}

void gw__explain_more(struct gw__message *m, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	append(m, fmt, ap);
	va_end(ap);
}

void gw__explain_number(struct gw__message *m, const char *name, uint64_t v)
{
	if (m->fields_n < GW__MESSAGE_FIELDS_MAX)
		m->field[m->fields_n++] = (struct gw__message_field){.name = name, .number = v};
}

void gw__explain_text(struct gw__message *m, const char *name, const char *text)
{
	if (m->fields_n < GW__MESSAGE_FIELDS_MAX)
		m->field[m->fields_n++] = (struct gw__message_field){.name = name, .text = text};
}

static void say(struct gw__explain *x, uint64_t off, uint64_t end_off)
{
	if (x->stopped)
		return;
	x->message.off = off;
	x->message.bytes = end_off - off;
	if (!x->o.say(x->o.ctx, &x->message))
		x->stopped = true;
}

void gw__explain_say(struct gw__explain *x, uint64_t end_off)
{
	uint64_t off = x->said_off;
	x->said_off = end_off;
	if (gw__explain_is_waiting(x)) { /* came before, is said before */
		struct gw__message later = x->message;
		gw__explain_pause(x);
		x->message = later;
	}
	if (x->stopped)
		return;
	x->tally.messages += !x->message.detail;
	say(x, off, end_off);
}

/* --- pages --- */

static const char *block_name(const struct gw__explain *x, uint32_t block) { return x->stream.blocks.v[block].name; }

static void count_page(struct gw__explain *x, const char *name)
{
	bool zero = !strcmp(name, "ZERO"), xbzrle = !strcmp(name, "XBZRLE");
	x->tally.zero_pages += zero;
	x->tally.xbzrle_pages += xbzrle;
	x->tally.pages += !zero && !xbzrle;
	x->run.zero_pages += zero;
	x->run.xbzrle_pages += xbzrle;
	x->run.pages += !zero && !xbzrle;
}

static void say_page(struct gw__explain *x, const char *name, const struct gw__ram_where *where, uint64_t end_off)
{
	struct gw__message *m = gw__explain_make(x, name, "%s 0x%llx", block_name(x, where->block), (ull)where->off);
	gw__explain_text(m, "block", block_name(x, where->block));
	gw__explain_number(m, "start", where->off);
	m->detail = true;
	say(x, x->said_off, end_off);
}

void gw__explain_page(struct gw__explain *x, const char *name, const struct gw__ram_where *where, uint64_t end_off)
{
	struct gw__explain_run *run = &x->run;
	if (gw__explain_is_waiting(x) && (run->block != where->block || run->end_off != where->off))
		gw__explain_pause(x);
	if (x->stopped) /* the run before it was the last word */
		return;
	if (!gw__explain_is_waiting(x))
		*run = (struct gw__explain_run){.block = where->block, .start_off = where->off, .at = x->said_off};
	run->end_off = where->off + x->stream.page_bytes;
	run->end = end_off;
	count_page(x, name);
	if (x->o.every_page)
		say_page(x, name, where, end_off);
	x->said_off = end_off;
}

void gw__explain_pause(struct gw__explain *x)
{
	struct gw__explain_run run = x->run;
	if (!gw__explain_is_waiting(x))
		return;
	x->run = (struct gw__explain_run){0};
	const char *name = block_name(x, run.block);
	struct gw__message *m = gw__explain_make(x, "PAGES", "%s 0x%llx-0x%llx:", name, (ull)run.start_off, (ull)run.end_off - 1);
	const char *comma = "";
	if (run.pages) {
		gw__explain_more(m, " %llu page%s", (ull)run.pages, run.pages == 1 ? "" : "s");
		comma = ",";
	}
	if (run.xbzrle_pages) {
		gw__explain_more(m, "%s %llu changed (XBZRLE)", comma, (ull)run.xbzrle_pages);
		comma = ",";
	}
	if (run.zero_pages)
		gw__explain_more(m, "%s %llu zero page%s", comma, (ull)run.zero_pages, run.zero_pages == 1 ? "" : "s");
	gw__explain_text(m, "block", name);
	gw__explain_number(m, "start", run.start_off);
	gw__explain_number(m, "length", run.end_off - run.start_off);
	gw__explain_number(m, "pages", run.pages);
	gw__explain_number(m, "zero_pages", run.zero_pages);
	gw__explain_number(m, "xbzrle_pages", run.xbzrle_pages);
	m->sum = true;
	say(x, run.at, run.end);
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
	static int (*const by_kind[])(struct gw__explain *x, const uint8_t *bytes, size_t n, bool last, size_t *used) = {
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
