/* SPDX-License-Identifier: MIT */
/*
 * The connections of a proxy and their pairs: two directions, one name and one end each. See links.h.
 *
 * Each direction has a thread, which owns all of it: bytes are read, passed on, and then explained. Only where a cut at a message is to
 * come the order is the other: then a message that is not whole yet waits for its end, as long as there is no silence.
 */
#include "engine/proxy/links.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/math.h"
#include "engine/core/stream_buf.h"
#include "engine/proxy/faults.h"
#include "thread/thread.h"
#include "wire/multifd.h"

typedef unsigned long long ull;

enum {
	MAINS_MAX = 4, /* main channels whose device state is held in memory */
	HELLO_ID_OFF = 24,
	MOMENT_MS = 200,    /* of silence, after which a run of pages is said as it is */
	HOLD_MS = 2000,     /* of silence, after which what waits for the end of its message is passed on */
	HEAD_BYTES = 65536, /* of a connection, in which it says what else belongs to it, looked at piece by piece */
	HEAD_PIECE = 4096,
	FEED_SLACK = 2 << 20, /* so that the decoder, which knows what it reads, meets its limit first */
	FLOW_OVER = 1,        /* beside 0 and what is negative: nothing more comes, as it should be */
};

struct flow {
	struct link *link;
	enum gw__proxy_direction direction;
	struct gw__chan *from, *to; /* its own ends of the two sockets */
	struct gw__stream_buf buf;
	struct gw__dissector *explain;
	uint64_t in_off, out_off; /* bytes that came, that were passed on */
	uint64_t came_ns;         /* when the last of them came; what is said of them carries this time */
	int cut_after, cut_at;    /* faults; -1: none */
	uint64_t cut_off;         /* where to cut; UINT64_MAX: not known */
	uint64_t met;             /* messages of that name so far */
	bool cuts;                /* it is this one that breaks the link */
	bool peer_closed_read;
	struct gw__error error;
	struct gw__dissector_stats stats;
	pthread_t thread;
	_Atomic bool done;
};

struct link {
	struct gw__links *links;
	uint32_t number;
	uint64_t serial; /* the main thread's, as is the peer */
	struct gw__peer peer;
	_Atomic bool may_postcopy; /* it announced post-copy, or nobody can read whether it did */
	int control_fd[2];         /* of both sockets, to break them from any thread */
	_Atomic bool cut;          /* on purpose: nothing more is passed on, and what looks like an end is none */
	pthread_mutex_t lock;
	bool named; /* under the lock; what is named does not change any more */
	enum gw__dissector_kind kind;
	char name[GW__PROXY_NAME_BYTES];
	bool started;        /* the main thread's */
	bool admitted;       /* the forward thread's: counts as a main channel */
	struct flow flow[2]; /* forward, return */
	_Atomic bool ending; /* a direction is over, or about to be closed: who connects now does not belong to it */
	_Atomic unsigned ended;
};

struct gw__links {
	struct gw__run *run;
	const struct gw__proxy_opts *o;
	struct gw__event_queue *events;
	struct gw__migration_view view;
	struct gw__faults faults;
	_Atomic uint32_t cuts, mains;
	_Atomic bool spoken; /* a source has said something */
	uint64_t start_ns;
	pthread_mutex_t lock;             /* of the next three */
	struct link *link[GW__LINKS_MAX]; /* the main thread alone changes these two */
	unsigned n;
	unsigned cuts_of_all;
	/* The main thread's. */
	uint32_t connections;
	uint64_t bytes[2];
};

/* --- all of them --- */

static void break_link(struct link *l)
{
	gw__sock_break(l->control_fd[0]);
	gw__sock_break(l->control_fd[1]);
}

static void cut_link(struct link *l)
{
	atomic_store(&l->cut, true);
	break_link(l);
}

static void emit(struct link *l, enum gw__proxy_direction d, uint64_t off, const char *name, const char *text)
{
	struct gw__links *p = l->links;
	struct gw__proxy_queued_message said = {.time_ns = gw__clock_now_ns(&p->run->clock) - p->start_ns,
		.connection = l->number,
		.channel = l->name,
		.direction = d,
		.off = off,
		.name = name,
		.text = text};
	pthread_mutex_lock(&l->lock); /* the name may be found just now */
	gw__event_queue_push(p->events, &said);
	pthread_mutex_unlock(&l->lock);
}

static void block_all(struct gw__links *p)
{
	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->n; i++)
		atomic_store(&p->link[i]->cut, true);
	p->cuts_of_all++;
	pthread_mutex_unlock(&p->lock);
}

static void cut_all(struct gw__links *p)
{
	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->n; i++)
		cut_link(p->link[i]);
	p->cuts_of_all++;
	pthread_mutex_unlock(&p->lock);
}

/* --- the name of one --- */

static void set_name(struct link *l, const char *name) { snprintf(l->name, sizeof l->name, "%s", name); }

static void name_multifd(struct link *l, const uint8_t *first, size_t n)
{
	set_name(l, "multifd");
	if (n > HELLO_ID_OFF)
		snprintf(l->name, sizeof l->name, "multifd%u", first[HELLO_ID_OFF]);
}

static bool is_tls(const uint8_t *first, size_t n) { return first[0] == 0x16 && (n < 2 || first[1] == 0x03); }

static void name_by(struct link *l, const uint8_t *first, size_t n)
{
	l->kind = gw__dissector_kind_of(first[0]);
	switch (l->kind) {
	case GW__DISSECTOR_MAIN:
		set_name(l, "main");
		break;
	case GW__DISSECTOR_RECOVERY:
		set_name(l, "recovery");
		break;
	case GW__DISSECTOR_PREEMPT:
		set_name(l, "preempt");
		break;
	case GW__DISSECTOR_MULTIFD:
		name_multifd(l, first, n);
		break;
	default:
		set_name(l, is_tls(first, n) ? "tls" : "unknown");
	}
}

static void tell_name(struct link *l)
{
	if (!strcmp(l->name, "tls")) {
		gw__migration_view_note(&l->links->view, GW__OBSERVED_OPAQUE);
		emit(l, GW__PROXY_NEITHER, 0, "UNINTERPRETED", "TLS: what the two say to each other is passed on and cannot be read");
	}
	if (!strcmp(l->name, "unknown"))
		emit(l, GW__PROXY_NEITHER, 0, "UNINTERPRETED", "not a channel of a migration: passed on as it is");
}

static void name_link(struct link *l, const uint8_t *first, size_t n)
{
	pthread_mutex_lock(&l->lock);
	bool now = !l->named;
	if (now) {
		l->named = true;
		l->kind = GW__DISSECTOR_OPAQUE;
		if (n)
			name_by(l, first, n);
		else
			set_name(l, first ? "silent" : "unknown");
	}
	pthread_mutex_unlock(&l->lock);
	if (!now)
		return;
	if (l->kind == GW__DISSECTOR_RECOVERY)
		atomic_store(&l->may_postcopy, true);
	if (n || !first)
		atomic_store(&l->links->spoken, true);
	tell_name(l);
}

/* Device state of main channels is held in memory until it can be read: of a few only. */
static enum gw__dissector_kind admit(struct link *l)
{
	if (l->kind != GW__DISSECTOR_MAIN && l->kind != GW__DISSECTOR_RECOVERY)
		return l->kind;
	if (atomic_fetch_add(&l->links->mains, 1) < MAINS_MAX) {
		l->admitted = true;
		return l->kind;
	}
	atomic_fetch_sub(&l->links->mains, 1);
	atomic_store(&l->may_postcopy, true);
	emit(l, GW__PROXY_FORWARD, 0, "UNINTERPRETED", "there are too many main channels at once");
	return GW__DISSECTOR_OPAQUE;
}

static enum gw__dissector_kind explain_as(struct link *l, enum gw__proxy_direction d)
{
	if (d == GW__PROXY_FORWARD)
		return admit(l);
	if (l->kind == GW__DISSECTOR_MAIN || l->kind == GW__DISSECTOR_RECOVERY)
		return GW__DISSECTOR_RETURN_PATH;
	return l->kind == GW__DISSECTOR_OPAQUE ? GW__DISSECTOR_OPAQUE : GW__DISSECTOR_SILENT;
}

/* --- one direction --- */

static struct gw__links *links(const struct flow *f) { return f->link->links; }
static bool is_forward(const struct flow *f) { return f->direction == GW__PROXY_FORWARD; }
static const char *speaker(const struct flow *f) { return is_forward(f) ? "source" : "destination"; }
static const char *listener(const struct flow *f) { return is_forward(f) ? "destination" : "source"; }

static void say(struct flow *f, const char *name, const char *text) { emit(f->link, f->direction, f->out_off, name, text); }

/* --- looking --- */

static bool is_shown(const struct gw__proxy_opts *o, const struct gw__message *m) { return o->every_page ? !m->sum : !m->detail; }

/* Is this the message after which to cut? */
static bool is_cut(struct flow *f, const struct gw__message *m)
{
	if (f->cut_at < 0)
		return false;
	const struct gw__fault *fault = &links(f)->faults.v[f->cut_at];
	return gw__message_is(m, fault->message) && ++f->met == fault->amount;
}

/* From now on a connection that says nothing may be the preempt channel. */
static void note_postcopy(struct flow *f, const struct gw__message *m)
{
	if (!f->link->may_postcopy && (!strcmp(m->name, "POSTCOPY_ADVISE") || !strcmp(m->name, "UNINTERPRETED")))
		atomic_store(&f->link->may_postcopy, true);
}

static bool on_message(void *ctx, const struct gw__message *m)
{
	struct flow *f = ctx;
	note_postcopy(f, m);
	if (is_shown(links(f)->o, m)) {
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
		gw__event_queue_push(links(f)->events, &said);
	}
	if (!is_cut(f, m))
		return true;
	f->cut_off = m->off + m->bytes;
	return false;
}

static void look(struct flow *f, size_t n, bool last)
{
	if (f->cut_off == UINT64_MAX)
		gw__stream_buf_use(&f->buf, gw__dissector(f->explain, gw__stream_buf_bytes(&f->buf), n, last));
}

/* For the last time, at what was passed on: the rest has not happened. */
static void look_back(struct flow *f)
{
	if (!f->explain || !f->buf.bytes || f->out_off < gw__dissector_off(f->explain))
		return;
	look(f, f->out_off - gw__dissector_off(f->explain), true);
	gw__dissector_confirm(f->explain);
}

/* --- passing on --- */

/* Is this where it is to break? Then nothing may be answered to the last bytes any more, by anybody who breaks with them. */
static void prepare_cut(struct flow *f, uint64_t limit)
{
	bool after = f->cut_after >= 0 && limit == links(f)->faults.v[f->cut_after].amount;
	if (!after && limit != f->cut_off)
		return;
	f->cuts = true;
	if (links(f)->o->cut_all)
		block_all(links(f));
	atomic_store(&f->link->cut, true);
}

/* Up to this offset; the bytes lie in the stream buffer, before or after those that were explained. */
static int pass_to(struct flow *f, uint64_t limit)
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

/*
 * What the head says is known before the listener has been waited for: a 7.2 destination reads no further than its buffers hold before the
 * preempt channel is connected, of which a message in them tells.
 */
static int pass_head(struct flow *f)
{
	int r = 0;
	for (uint64_t end = gw__min(f->in_off, HEAD_BYTES); !r && f->out_off < end;) {
		r = pass_to(f, gw__min(end, f->out_off + HEAD_PIECE));
		if (!r)
			look(f, f->out_off - gw__dissector_off(f->explain), false);
	}
	return r;
}

static int cut_here(struct flow *f, int fault)
{
	char text[160];
	struct gw__links *p = links(f);
	atomic_store(&p->faults.spent[fault], true);
	atomic_fetch_add(&p->cuts, 1);
	snprintf(text, sizeof text, "on purpose, after %llu bytes%s%s", (ull)f->out_off,
		p->o->cut_all ? ", with all other connections" : "", f->cut_off < f->out_off ? "; the message had ended before" : "");
	say(f, "CUT", text);
	if (p->o->cut_all)
		cut_all(p);
	cut_link(f->link);
	return FLOW_OVER;
}

static int say_closed(struct flow *f)
{
	char text[80];
	bool cut = f->link->cut;
	if (cut)
		snprintf(text, sizeof text, "with the other direction or connection, after %llu bytes", (ull)f->in_off);
	else
		snprintf(text, sizeof text, "nothing more from the %s, after %llu bytes", speaker(f), (ull)f->in_off);
	say(f, cut ? "CUT" : "CLOSED", text);
	atomic_store(&f->link->ending, true);
	gw__chan_end_writes(f->to, NULL); /* fails when the other end is gone as well */
	return FLOW_OVER;
}

static int end_of_input(struct flow *f)
{
	int r = pass_to(f, f->in_off);
	if (r)
		return r;
	look(f, gw__stream_buf_left(&f->buf), true);
	gw__dissector_confirm(f->explain);
	if (f->cut_after >= 0 && f->in_off == links(f)->faults.v[f->cut_after].amount)
		return cut_here(f, f->cut_after);
	return say_closed(f);
}

/* In a silence nothing is kept back any longer: first words, then bytes. */
static int await_input(struct flow *f)
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

static int pass_some(struct flow *f)
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
	f->came_ns = gw__clock_now_ns(&links(f)->run->clock) - links(f)->start_ns;
	if (f->buf.ended)
		return end_of_input(f);
	r = f->cut_at < 0 ? pass_head(f) : 0;
	if (!r && f->cut_at < 0)
		r = pass_to(f, f->in_off);
	if (r)
		return r;
	look(f, gw__stream_buf_left(&f->buf), false);
	if (f->cut_at < 0)
		gw__dissector_confirm(f->explain);
	uint64_t understood = f->cut_off == UINT64_MAX ? gw__dissector_off(f->explain) : f->cut_off;
	return pass_to(f, gw__min(understood, f->in_off));
}

/* --- the end --- */

static void tell_failure(struct flow *f)
{
	char text[GW__ERROR_BYTES + 64];
	if (f->peer_closed_read)
		snprintf(text, sizeof text, "the %s takes no more", listener(f));
	else
		snprintf(text, sizeof text, "%s", f->error.text);
	say(f, f->peer_closed_read ? "CLOSED" : "BROKEN", text);
}

/* A source that is not heard any more is to notice; a link that failed breaks for both. */
static void end_badly(struct flow *f, int r)
{
	look_back(f);
	if (r != -ECANCELED && !f->link->cut)
		tell_failure(f);
	atomic_store(&f->link->ending, true);
	if (f->peer_closed_read)
		shutdown(f->link->control_fd[is_forward(f) ? 0 : 1], SHUT_RD);
	else
		break_link(f->link);
}

static void end_flow(struct flow *f)
{
	if (f->explain)
		gw__dissector_stats(f->explain, &f->stats);
	gw__dissector_free(f->explain);
	gw__stream_buf_fini(&f->buf);
	gw__chan_close(&f->from, NULL);
	gw__chan_close(&f->to, NULL);
	if (atomic_fetch_add(&f->link->ended, 1) == 1) /* the second */
		break_link(f->link);
	atomic_store_explicit(&f->done, true, memory_order_release);
}

/* --- before its first byte is passed on: whose channel it is, and with that its faults, explainer and tap --- */

static int await_source(struct flow *f)
{
	uint8_t first[GW__FIRST_BYTES];
	ssize_t n = gw__chan_peek(f->from, first, sizeof first, &f->error);
	if (n < 0)
		return (int)n;
	name_link(f->link, first, (size_t)n);
	return 0;
}

static int await_destination(struct flow *f)
{
	uint8_t first;
	ssize_t n = gw__chan_peek(f->from, &first, 1, &f->error);
	if (n < 0)
		return (int)n;
	if (n == 0)
		return FLOW_OVER;
	name_link(f->link, NULL, 0);
	return 0;
}

static int open_tap(struct flow *f)
{
	const struct gw__proxy_opts *o = f->link->links->o;
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

static int set_up_faults(struct flow *f)
{
	const struct gw__faults *faults = &f->link->links->faults;
	const char *name = f->link->name;
	f->cut_at = gw__faults_find(faults, GW__FAULT_CUT_AT, name, f->direction);
	f->cut_after = gw__faults_find(faults, GW__FAULT_CUT_AFTER, name, f->direction);
	int r = gw__faults_slow(faults, name, f->direction, &f->from, &f->error);
	if (!r && f->cut_after >= 0)
		r = gw__chan_cut_after(&f->from, faults->v[f->cut_after].amount, UINT64_MAX, &f->error);
	return r;
}

static int set_up(struct flow *f)
{
	struct gw__links *p = f->link->links;
	const struct gw__proxy_opts *o = p->o;
	struct gw__dissector_opts eo = {.kind = explain_as(f->link, f->direction),
		.view = &p->view,
		.tail_max_bytes = o->tail_max_bytes,
		.page_bytes = p->run->page_bytes,
		.say = on_message,
		.ctx = f};
	int r = set_up_faults(f);
	eo.every_page = o->every_page || (f->cut_at >= 0 && gw__message_is_page(p->faults.v[f->cut_at].message));
	if (!r && gw__dissector_new(&eo, &f->explain))
		r = gw__error_set(&f->error, -ENOMEM, "no memory to explain a channel");
	if (!r && o->tap_dir)
		r = open_tap(f);
	return r ? r : gw__stream_buf_init(&f->buf, f->from, o->tail_max_bytes + FEED_SLACK, &f->error);
}

static void *flow_thread(void *ctx)
{
	struct flow *f = ctx;
	int r = is_forward(f) ? await_source(f) : await_destination(f);
	if (r == FLOW_OVER)
		say_closed(f);
	if (!r)
		r = set_up(f);
	while (!r)
		r = pass_some(f);
	if (r < 0)
		end_badly(f, r);
	end_flow(f);
	return NULL;
}

/* --- the life of one --- */

static bool is_over(const struct link *l)
{
	return atomic_load_explicit(&l->flow[0].done, memory_order_acquire) && atomic_load_explicit(&l->flow[1].done, memory_order_acquire);
}

static bool is_named(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	bool named = l->named;
	pthread_mutex_unlock(&l->lock);
	return named;
}

static bool is_main(struct link *l)
{
	if (is_over(l) || !is_named(l))
		return false;
	return l->kind == GW__DISSECTOR_MAIN || l->kind == GW__DISSECTOR_RECOVERY || !strcmp(l->name, "tls");
}

static void sum_up(struct link *l)
{
	struct gw__links *p = l->links;
	struct gw__proxy_channel_stats sum = {.connection = l->number, .channel = l->name, .cut = l->cut};
	for (unsigned i = 0; i < 2; i++) {
		sum.bytes[i] = l->flow[i].out_off;
		sum.stats[i] = l->flow[i].stats;
		p->bytes[i] += sum.bytes[i];
	}
	gw__event_queue_push_stats(p->events, &sum);
}

static void drop_link(struct link *l)
{
	for (unsigned i = 0; i < 2; i++) {
		gw__chan_close(&l->flow[i].from, NULL);
		gw__chan_close(&l->flow[i].to, NULL);
		if (l->control_fd[i] >= 0)
			close(l->control_fd[i]);
	}
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void free_link(struct link *l)
{
	pthread_join(l->flow[0].thread, NULL);
	pthread_join(l->flow[1].thread, NULL);
	if (l->admitted)
		atomic_fetch_sub(&l->links->mains, 1);
	sum_up(l);
	drop_link(l);
}

static int control_fd(int fd, int *to, struct gw__error *error)
{
	*to = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return *to < 0 ? gw__error_errno(error, errno, "no descriptor for a connection") : 0;
}

/* Each thread gets one end of each socket of its own. */
static int share_out(struct link *l, struct gw__chan **source, struct gw__chan **destination, struct gw__error *error)
{
	int r = control_fd((*source)->fd, &l->control_fd[0], error);
	if (!r)
		r = control_fd((*destination)->fd, &l->control_fd[1], error);
	if (!r)
		r = gw__chan_dup(*source, &l->flow[1].to, error);
	if (!r)
		r = gw__chan_dup(*destination, &l->flow[1].from, error);
	if (r)
		return r;
	l->flow[0].from = *source;
	l->flow[0].to = *destination;
	*source = *destination = NULL;
	for (unsigned i = 0; i < 2; i++) {
		struct flow *f = &l->flow[i];
		f->link = l;
		f->direction = i ? GW__PROXY_RETURN : GW__PROXY_FORWARD;
		f->cut_off = UINT64_MAX;
		f->cut_at = f->cut_after = -1;
		f->from->idle_ms = f->to->idle_ms = -1; /* a migration may be silent as long as it likes */
	}
	return 0;
}

static int link_new(struct gw__links *p, struct gw__chan **source, struct gw__chan **destination, struct link **l)
{
	struct gw__error *error = &p->run->error;
	struct link *made = calloc(1, sizeof *made);
	int r = made ? 0 : gw__error_set(error, -ENOMEM, "no memory for a connection");
	if (!r) {
		made->links = p;
		made->number = ++p->connections;
		made->control_fd[0] = made->control_fd[1] = -1;
		pthread_mutex_init(&made->lock, NULL);
		r = share_out(made, source, destination, error);
	}
	gw__chan_close(source, NULL);
	gw__chan_close(destination, NULL);
	if (!r)
		*l = made;
	else if (made)
		drop_link(made);
	return r;
}

static int start_link(struct link *l)
{
	struct gw__error *error = &l->links->run->error;
	int err = gw__thread_start(&l->flow[0].thread, flow_thread, &l->flow[0]);
	if (err)
		return gw__error_errno(error, err, "cannot start a thread");
	err = gw__thread_start(&l->flow[1].thread, flow_thread, &l->flow[1]);
	l->started = !err;
	if (!err)
		return 0;
	break_link(l);
	pthread_join(l->flow[0].thread, NULL);
	return gw__error_errno(error, err, "cannot start a thread");
}

/* --- what the main thread calls --- */

void gw__links_say(struct gw__links *p, uint32_t connection, const char *name, const char *text)
{
	struct gw__proxy_queued_message said = {.time_ns = gw__clock_now_ns(&p->run->clock) - p->start_ns,
		.connection = connection,
		.channel = "",
		.name = name,
		.text = text};
	gw__event_queue_push(p->events, &said);
}

static bool has_main(struct gw__links *p)
{
	for (unsigned i = 0; i < p->n; i++)
		if (is_main(p->link[i]))
			return true;
	return false;
}

struct gw__links_status gw__links_status(struct gw__links *p)
{
	struct gw__links_status s = {.n = p->n, .has_main = has_main(p), .has_spoken = p->spoken};
	pthread_mutex_lock(&p->lock);
	s.cuts = p->cuts_of_all;
	pthread_mutex_unlock(&p->lock);
	return s;
}

static bool is_same_peer(const struct gw__peer *a, const struct gw__peer *b)
{
	return a->family && a->family == b->family && !memcmp(a->who, b->who, sizeof a->who);
}

bool gw__links_may_be_preempt(struct gw__links *p, const struct gw__arrival *a)
{
	for (unsigned i = 0; i < p->n; i++) {
		struct link *l = p->link[i];
		if (is_main(l) && l->may_postcopy && !l->cut && !l->ending && l->serial < a->serial && is_same_peer(&l->peer, &a->peer))
			return true;
	}
	return false;
}

/* A connection that was being made while all were cut is one of them. */
static void add_link(struct gw__links *p, struct link *l, unsigned cuts_before)
{
	pthread_mutex_lock(&p->lock);
	p->link[p->n++] = l;
	if (p->cuts_of_all != cuts_before)
		cut_link(l);
	pthread_mutex_unlock(&p->lock);
}

static void remove_link(struct gw__links *p, unsigned i)
{
	pthread_mutex_lock(&p->lock);
	p->link[i] = p->link[--p->n];
	pthread_mutex_unlock(&p->lock);
}

int gw__links_add(struct gw__links *p, struct gw__arrival *a)
{
	struct gw__chan *destination = NULL;
	struct link *l;
	char text[2 * sizeof a->chan->name + 16];
	if (p->n == GW__LINKS_MAX) {
		gw__links_say(p, p->connections, "REFUSED", "a connection, because there are too many");
		gw__chan_close(&a->chan, NULL);
		return 0;
	}
	int r = gw__io_open_out(p->o->connect, &p->o->io, &destination, &p->run->error);
	if (r) {
		gw__chan_close(&a->chan, NULL);
		return r;
	}
	snprintf(text, sizeof text, "%s to %s", a->chan->name, destination->name);
	gw__links_say(p, p->connections + 1, "CONNECTED", text);
	r = link_new(p, &a->chan, &destination, &l);
	if (r)
		return r;
	l->serial = a->serial;
	l->peer = a->peer;
	add_link(p, l, a->cuts_before); /* before it can be the one that cuts */
	if (a->n)
		name_link(l, a->first, a->n);
	return 0;
}

int gw__links_start(struct gw__links *p)
{
	int r = 0;
	for (unsigned i = 0; !r && i < p->n; i++)
		r = p->link[i]->started ? 0 : start_link(p->link[i]);
	for (unsigned i = p->n; r && i-- > 0;) {
		struct link *l = p->link[i];
		if (l->started)
			continue;
		remove_link(p, i);
		drop_link(l);
	}
	return r;
}

/* What was passed on without a word, as a preempt channel may be, ends with the main channel. */
static void break_silent(struct gw__links *p)
{
	for (unsigned i = 0; i < p->n; i++)
		if (!is_named(p->link[i]))
			break_link(p->link[i]);
}

void gw__links_reap(struct gw__links *p)
{
	for (unsigned i = 0; i < p->n;) {
		struct link *l = p->link[i];
		if (!is_over(l)) {
			i++;
			continue;
		}
		remove_link(p, i);
		free_link(l);
	}
	if (!has_main(p))
		break_silent(p);
}

int gw__links_new(struct gw__run *run, const struct gw__proxy_opts *o, struct gw__event_queue *events, struct gw__links **p)
{
	struct gw__links *made = calloc(1, sizeof *made);
	if (!made)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a proxy");
	made->run = run;
	made->o = o;
	made->events = events;
	made->start_ns = gw__clock_now_ns(&run->clock);
	made->faults.v = o->fault;
	made->faults.n = o->faults_n;
	pthread_mutex_init(&made->lock, NULL);
	gw__migration_view_init(&made->view);
	*p = made;
	return 0;
}

void gw__links_free(struct gw__links *p, struct gw__proxy_result *result)
{
	if (!p)
		return;
	while (p->n) {
		struct link *l = p->link[p->n - 1];
		remove_link(p, p->n - 1);
		break_link(l);
		free_link(l);
	}
	result->connections = p->connections;
	result->cuts = p->cuts;
	memcpy(result->bytes, p->bytes, sizeof result->bytes);
	result->where = gw__migration_view_where(&p->view);
	gw__migration_view_fini(&p->view);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
