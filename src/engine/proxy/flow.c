/* SPDX-License-Identifier: MIT */
/*
 * One direction of one connection: bytes are read, passed on, and then explained. Only where a cut at a message is to come the order
 * is the other: then a message that is not whole yet waits for its end, as long as there is no silence. Its own thread, which owns all of it.
 * What comes before the first byte is flow.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/math.h"
#include "engine/proxy/proxy_private.h"

typedef unsigned long long ull;

enum {
	MOMENT_MS = 200, /* of silence, after which a run of pages is said as it is */
	HOLD_MS = 2000,  /* of silence, after which what waits for the end of its message is passed on */
};

static struct gw__proxy *proxy(const struct gw__flow *f) { return f->link->proxy; }
static bool is_forward(const struct gw__flow *f) { return f->direction == GW__PROXY_FORWARD; }
static const char *speaker(const struct gw__flow *f) { return is_forward(f) ? "source" : "destination"; }
static const char *listener(const struct gw__flow *f) { return is_forward(f) ? "destination" : "source"; }

static void say(struct gw__flow *f, const char *name, const char *text) { gw__link_emit(f->link, f->direction, f->out_off, name, text); }

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

/* From now on a connection that says nothing may be the preempt channel. */
static void note_postcopy(struct gw__flow *f, const struct gw__message *m)
{
	if (!f->link->may_postcopy && (!strcmp(m->name, "POSTCOPY_ADVISE") || !strcmp(m->name, "UNINTERPRETED")))
		atomic_store(&f->link->may_postcopy, true);
}

bool gw__flow_on_message(void *ctx, const struct gw__message *m)
{
	struct gw__flow *f = ctx;
	note_postcopy(f, m);
	if (is_shown(proxy(f)->o, m)) {
		struct gw__proxy_queued_message said = {.time_ns = f->came_ns,
			.connection = f->link->number,
			.channel = f->link->name,
			.direction = f->direction,
			.off = m->off,
			.bytes = m->bytes,
			.name = m->name,
			.text = m->text,
			.fields_n = m->fields_n,
			.field = m->field};
		gw__event_queue_push(proxy(f)->teller, &said);
	}
	if (!is_cut(f, m))
		return true;
	f->cut_off = m->off + m->bytes;
	return false;
}

static void look(struct gw__flow *f, size_t n, bool last)
{
	if (f->cut_off == UINT64_MAX)
		gw__stream_buf_use(&f->buf, gw__dissector(f->explain, gw__stream_buf_bytes(&f->buf), n, last));
}

/* For the last time, at what was passed on: the rest has not happened. */
static void look_back(struct gw__flow *f)
{
	if (!f->explain || !f->buf.bytes || f->out_off < gw__dissector_off(f->explain))
		return;
	look(f, f->out_off - gw__dissector_off(f->explain), true);
	gw__dissector_confirm(f->explain);
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
		gw__proxy_block_all(proxy(f));
	atomic_store(&f->link->cut, true);
}

/* Up to this offset; the bytes lie in the stream buffer, before or behind those that were explained. */
static int pass_to(struct gw__flow *f, uint64_t limit)
{
	if (limit <= f->out_off)
		return 0;
	prepare_cut(f, limit);
	if (f->link->cut && !f->cuts)
		return -EPIPE;
	const uint8_t *next = gw__stream_buf_bytes(&f->buf) + (ptrdiff_t)(f->out_off - gw__dissector_off(f->explain));
	int r = gw__chan_write_all(f->to, next, limit - f->out_off, &f->error);
	f->out_off = f->to->out_bytes;
	f->peer_closed_read = r == -EPIPE || r == -ECONNRESET;
	if (!r)
		gw__dissector_confirm(f->explain);
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
	look(f, gw__stream_buf_left(&f->buf), true);
	gw__dissector_confirm(f->explain);
	if (f->cut_after >= 0 && f->in_off == proxy(f)->faults.v[f->cut_after].amount)
		return cut_here(f, f->cut_after);
	return say_closed(f);
}

/* In a silence nothing is kept back any longer: first words, then bytes. */
static int await_input(struct gw__flow *f)
{
	bool held = f->out_off < f->in_off;
	if (gw__dissector_is_waiting(f->explain)) {
		int r = gw__chan_wait_readable(f->from, MOMENT_MS, &f->error);
		if (r)
			return r < 0 ? r : 0;
		gw__dissector_pause(f->explain);
	}
	if (!held || f->cut_off <= f->out_off)
		return 0;
	int r = gw__chan_wait_readable(f->from, HOLD_MS, &f->error);
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
	r = gw__stream_buf_fill(&f->buf, &f->error);
	if (r)
		return r;
	f->in_off = f->from->in_bytes;
	f->came_ns = gw__clock_now_ns(&proxy(f)->run->clock) - proxy(f)->start_ns;
	if (f->buf.ended)
		return end_of_input(f);
	r = f->cut_at < 0 ? pass_to(f, f->in_off) : 0;
	if (r)
		return r;
	look(f, gw__stream_buf_left(&f->buf), false);
	if (f->cut_at < 0)
		gw__dissector_confirm(f->explain);
	uint64_t understood = f->cut_off == UINT64_MAX ? gw__dissector_off(f->explain) : f->cut_off;
	return pass_to(f, gw__min(understood, f->in_off));
}

/* --- the end --- */

static void tell_failure(struct gw__flow *f)
{
	char text[GW__ERROR_BYTES + 64];
	if (f->peer_closed_read)
		snprintf(text, sizeof text, "the %s takes no more", listener(f));
	else
		snprintf(text, sizeof text, "%s", f->error.text);
	say(f, f->peer_closed_read ? "CLOSED" : "BROKEN", text);
}

/* A source that is not heard any more is to notice; a link that failed breaks for both. */
static void end_badly(struct gw__flow *f, int r)
{
	look_back(f);
	if (r != -ECANCELED && !f->link->cut)
		tell_failure(f);
	if (f->peer_closed_read)
		shutdown(f->link->control_fd[is_forward(f) ? 0 : 1], SHUT_RD);
	else
		gw__link_break(f->link);
}

static void end_flow(struct gw__flow *f)
{
	if (f->explain)
		gw__dissector_stats(f->explain, &f->stats);
	gw__dissector_free(f->explain);
	gw__stream_buf_fini(&f->buf);
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

/*
 * One direction of one connection before its first byte is passed on: whose channel it is, and with that its faults, explainer, tap and feed.
 * See flow.c, whose thread this is.
 */

enum { FEED_SLACK = 2 << 20 }; /* so that the decoder, which knows what it reads, meets its limit first */

int gw__flow_await_source(struct gw__flow *f)
{
	uint8_t first[GW__LINK_FIRST_BYTES];
	ssize_t n = gw__chan_peek(f->from, first, sizeof first, &f->error);
	if (n < 0)
		return (int)n;
	gw__link_name(f->link, first, (size_t)n);
	return 0;
}

int gw__flow_await_destination(struct gw__flow *f)
{
	uint8_t first;
	ssize_t n = gw__chan_peek(f->from, &first, 1, &f->error);
	if (n < 0)
		return (int)n;
	if (n == 0)
		return GW__FLOW_OVER;
	gw__link_name(f->link, NULL, 0);
	return 0;
}

static int open_tap(struct gw__flow *f)
{
	const struct gw__proxy_opts *o = f->link->proxy->o;
	struct gw__chan *file = NULL, *none = NULL;
	struct gw__uri *uri = calloc(1, sizeof *uri);
	if (!uri)
		return gw__error_set(&f->error, -ENOMEM, "no memory for a tap");
	uri->kind = GW__URI_FILE;
	int n = snprintf(uri->target, sizeof uri->target, "%s/%u-%s-%s", o->tap_dir, f->link->number, f->link->name,
		f->direction == GW__PROXY_FORWARD ? "forward" : "return");
	int r = n < 0 || (size_t)n >= sizeof uri->target
			? gw__error_set(&f->error, -ENAMETOOLONG, "the folder of the taps has too long a name")
			: 0;
	memcpy(uri->text, uri->target, sizeof uri->text);
	if (!r)
		r = gw__io_open_out(uri, &o->io, &file, &f->error);
	if (!r)
		r = gw__chan_tap(&f->to, &none, &file, &f->error);
	gw__chan_close(&file, NULL);
	free(uri);
	return r;
}

static int set_up_faults(struct gw__flow *f)
{
	const struct gw__faults *faults = &f->link->proxy->faults;
	const char *name = f->link->name;
	f->cut_at = gw__faults_find(faults, GW__FAULT_CUT_AT, name, f->direction);
	f->cut_after = gw__faults_find(faults, GW__FAULT_CUT_AFTER, name, f->direction);
	int r = gw__faults_slow(faults, name, f->direction, &f->from, &f->error);
	if (!r && f->cut_after >= 0)
		r = gw__chan_cut_after(&f->from, faults->v[f->cut_after].amount, UINT64_MAX, &f->error);
	return r;
}

int gw__flow_set_up(struct gw__flow *f)
{
	struct gw__proxy *p = f->link->proxy;
	const struct gw__proxy_opts *o = p->o;
	struct gw__dissector_opts eo = {.kind = gw__link_explain_as(f->link, f->direction),
		.view = &p->view,
		.tail_max_bytes = o->tail_max_bytes,
		.say = gw__flow_on_message,
		.ctx = f};
	int r = set_up_faults(f);
	eo.every_page = o->every_page || (f->cut_at >= 0 && gw__message_is_page(p->faults.v[f->cut_at].message));
	if (!r && gw__dissector_new(&eo, &f->explain))
		r = gw__error_set(&f->error, -ENOMEM, "no memory to explain a channel");
	if (!r && o->tap_dir)
		r = open_tap(f);
	return r ? r : gw__stream_buf_init(&f->buf, f->from, o->tail_max_bytes + FEED_SLACK, &f->error);
}
