/* SPDX-License-Identifier: MIT */
/*
 * One direction of one connection: bytes are read, passed on, and then explained. Only where a cut at a message is to come the order
 * is the other: then a message that is not whole yet waits for its end, as long as there is no silence. Its own thread, which owns all of it.
 * What comes before the first byte is proxy_flow_setup.c.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/math.h"
#include "engine/proxy_internal.h"

typedef unsigned long long ull;

enum {
	MOMENT_MS = 200, /* of silence, after which a run of pages is said as it is */
	HOLD_MS = 2000,  /* of silence, after which what waits for the end of its message is passed on */
};

static struct gw__proxy *proxy(const struct gw__flow *f) { return f->link->proxy; }
static bool is_forward(const struct gw__flow *f) { return f->direction == GW__PROXY_FORWARD; }
static const char *speaker(const struct gw__flow *f) { return is_forward(f) ? "source" : "destination"; }
static const char *listener(const struct gw__flow *f) { return is_forward(f) ? "destination" : "source"; }

static void say(struct gw__flow *f, const char *name, const char *text) { gw__link_say(f->link, f->direction, f->out_off, name, text); }

/* --- looking --- */

static bool is_shown(const struct gw__proxy_opts *o, const struct gw__message *m) { return o->every_page ? !m->sum : !m->detail; }

/* Is this the message to cut behind? */
static bool is_cut(struct gw__flow *f, const struct gw__message *m)
{
	if (f->cut_at < 0)
		return false;
	const struct gw__fault *fault = &proxy(f)->faults.v[f->cut_at];
	return gw__message_is(m, fault->message) && ++f->met == fault->amount;
}

bool gw__flow_on_message(void *ctx, const struct gw__message *m)
{
	struct gw__flow *f = ctx;
	if (is_shown(proxy(f)->o, m)) {
		struct gw__proxy_said said = {.time_ns = f->came_ns,
			.connection = f->link->number,
			.channel = f->link->name,
			.direction = f->direction,
			.off = m->off,
			.bytes = m->bytes,
			.name = m->name,
			.text = m->text,
			.fields_n = m->fields_n,
			.field = m->field};
		gw__teller_say(proxy(f)->teller, &said);
	}
	if (!is_cut(f, m))
		return true;
	f->cut_off = m->off + m->bytes;
	return false;
}

static void look(struct gw__flow *f, size_t n, bool last)
{
	if (f->cut_off == UINT64_MAX)
		gw__feed_use(&f->feed, gw__explain(f->explain, gw__feed_bytes(&f->feed), n, last));
}

/* For the last time, at what was passed on: the rest has not happened. */
static void look_back(struct gw__flow *f)
{
	if (!f->explain || !f->feed.bytes || f->out_off < gw__explain_off(f->explain))
		return;
	look(f, f->out_off - gw__explain_off(f->explain), true);
	gw__explain_confirm(f->explain);
}

/* --- passing on --- */

/* Is this where it is to break? Then nothing may be answered to the last bytes any more, by anybody who breaks with them. */
static void prepare_cut(struct gw__flow *f, uint64_t limit)
{
	bool after = f->cut_after >= 0 && limit == proxy(f)->faults.v[f->cut_after].amount;
	if (!after && limit != f->cut_off)
		return;
	f->cuts = true;
	if (proxy(f)->o->cut_all)
		gw__proxy_mute_all(proxy(f));
	atomic_store(&f->link->cut, true);
}

/* Up to this offset; the bytes lie in the feed, before or behind those that were explained. */
static int pass_to(struct gw__flow *f, uint64_t limit)
{
	if (limit <= f->out_off)
		return 0;
	prepare_cut(f, limit);
	if (f->link->cut && !f->cuts)
		return -EPIPE;
	const uint8_t *next = gw__feed_bytes(&f->feed) + (ptrdiff_t)(f->out_off - gw__explain_off(f->explain));
	int r = gw__chan_write_all(f->to, next, limit - f->out_off, &f->why);
	f->out_off = f->to->out_bytes;
	f->takes_no_more = r == -EPIPE || r == -ECONNRESET;
	if (!r)
		gw__explain_confirm(f->explain);
	return r;
}

static int cut_here(struct gw__flow *f, int fault)
{
	char text[160];
	struct gw__proxy *p = proxy(f);
	atomic_store(&p->faults.spent[fault], true);
	atomic_fetch_add(&p->cuts, 1);
	snprintf(text, sizeof text, "on purpose, after %llu bytes%s%s", (ull)f->out_off,
		p->o->cut_all ? ", with all other connections" : "", f->cut_off < f->out_off ? "; the message had ended before" : "");
	say(f, "CUT", text);
	if (p->o->cut_all)
		gw__proxy_cut_all(p);
	gw__link_cut(f->link);
	return GW__FLOW_OVER;
}

static int say_closed(struct gw__flow *f)
{
	char text[80];
	bool cut = f->link->cut;
	if (cut)
		snprintf(text, sizeof text, "with the other direction or connection, after %llu bytes", (ull)f->in_off);
	else
		snprintf(text, sizeof text, "nothing more from the %s, after %llu bytes", speaker(f), (ull)f->in_off);
	say(f, cut ? "CUT" : "CLOSED", text);
	gw__chan_end_writes(f->to, NULL); /* fails when the other end is gone as well */
	return GW__FLOW_OVER;
}

static int end_of_input(struct gw__flow *f)
{
	int r = pass_to(f, f->in_off);
	if (r)
		return r;
	look(f, gw__feed_left(&f->feed), true);
	gw__explain_confirm(f->explain);
	if (f->cut_after >= 0 && f->in_off == proxy(f)->faults.v[f->cut_after].amount)
		return cut_here(f, f->cut_after);
	return say_closed(f);
}

/* In a silence nothing is kept back any longer: first words, then bytes. */
static int await_input(struct gw__flow *f)
{
	bool held = f->out_off < f->in_off;
	if (gw__explain_is_waiting(f->explain)) {
		int r = gw__chan_wait_readable(f->from, MOMENT_MS, &f->why);
		if (r)
			return r < 0 ? r : 0;
		gw__explain_pause(f->explain);
	}
	if (!held || f->cut_off <= f->out_off)
		return 0;
	int r = gw__chan_wait_readable(f->from, HOLD_MS, &f->why);
	if (r)
		return r < 0 ? r : 0;
	return pass_to(f, gw__min(f->in_off, f->cut_off));
}

static int pass_some(struct gw__flow *f)
{
	if (f->cut_off <= f->out_off)
		return cut_here(f, f->cut_at);
	int r = await_input(f);
	if (r || f->cut_off <= f->out_off)
		return r;
	r = gw__feed_fill(&f->feed, &f->why);
	if (r)
		return r;
	f->in_off = f->from->in_bytes;
	f->came_ns = gw__clock_now_ns(&proxy(f)->run->clock) - proxy(f)->start_ns;
	if (f->feed.ended)
		return end_of_input(f);
	r = f->cut_at < 0 ? pass_to(f, f->in_off) : 0;
	if (r)
		return r;
	look(f, gw__feed_left(&f->feed), false);
	if (f->cut_at < 0)
		gw__explain_confirm(f->explain);
	uint64_t understood = f->cut_off == UINT64_MAX ? gw__explain_off(f->explain) : f->cut_off;
	return pass_to(f, gw__min(understood, f->in_off));
}

/* --- the end --- */

static void tell_failure(struct gw__flow *f)
{
	char text[GW__WHY_BYTES + 64];
	if (f->takes_no_more)
		snprintf(text, sizeof text, "the %s takes no more", listener(f));
	else
		snprintf(text, sizeof text, "%s", f->why.text);
	say(f, f->takes_no_more ? "CLOSED" : "BROKEN", text);
}

/* A source that is not heard any more is to notice; a link that failed breaks for both. */
static void end_badly(struct gw__flow *f, int r)
{
	look_back(f);
	if (r != -ECANCELED && !f->link->cut)
		tell_failure(f);
	if (f->takes_no_more)
		shutdown(f->link->grip[is_forward(f) ? 0 : 1], SHUT_RD);
	else
		gw__link_break(f->link);
}

static void end_flow(struct gw__flow *f)
{
	if (f->explain)
		gw__explain_tally(f->explain, &f->tally);
	gw__explain_free(f->explain);
	gw__feed_fini(&f->feed);
	gw__chan_close(&f->from, NULL);
	gw__chan_close(&f->to, NULL);
	if (atomic_fetch_add(&f->link->ended, 1) == 1) /* the second */
		gw__link_break(f->link);
	atomic_store_explicit(&f->done, true, memory_order_release);
}

void *gw__flow_thread(void *ctx)
{
	struct gw__flow *f = ctx;
	int r = is_forward(f) ? gw__flow_await_source(f) : gw__flow_await_destination(f);
	if (r == GW__FLOW_OVER)
		say_closed(f);
	if (!r)
		r = gw__flow_set_up(f);
	while (!r)
		r = pass_some(f);
	if (r < 0)
		end_badly(f, r);
	end_flow(f);
	return NULL;
}
