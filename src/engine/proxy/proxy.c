/* SPDX-License-Identifier: MIT */
/* The proxy's main thread: accepts, pairs those that have said what they are (held.c), and notices when it is over. See proxy.h. */
#include "engine/proxy/proxy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "engine/proxy/proxy_private.h"
#include "io/wait.h"

enum { LOOK_MS = 20, LOOK_SOON_MS = 2 };

void gw__proxy_block_all(struct gw__proxy *p)
{
	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->links_n; i++)
		atomic_store(&p->link[i]->cut, true);
	p->cuts_of_all++;
	pthread_mutex_unlock(&p->lock);
}

void gw__proxy_cut_all(struct gw__proxy *p)
{
	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->links_n; i++)
		gw__link_cut(p->link[i]);
	p->cuts_of_all++;
	pthread_mutex_unlock(&p->lock);
}

unsigned gw__proxy_count_cuts(struct gw__proxy *p)
{
	pthread_mutex_lock(&p->lock);
	unsigned n = p->cuts_of_all;
	pthread_mutex_unlock(&p->lock);
	return n;
}

/* `cuts_before`: a connection that was being made while all were cut is one of them. */
static void add_link(struct gw__proxy *p, struct gw__link *l, unsigned cuts_before)
{
	pthread_mutex_lock(&p->lock);
	p->link[p->links_n++] = l;
	if (p->cuts_of_all != cuts_before)
		gw__link_cut(l);
	pthread_mutex_unlock(&p->lock);
}

static void remove_link(struct gw__proxy *p, unsigned i)
{
	pthread_mutex_lock(&p->lock);
	p->link[i] = p->link[--p->links_n];
	pthread_mutex_unlock(&p->lock);
}

void gw__proxy_say(struct gw__proxy *p, uint32_t connection, const char *name, const char *text)
{
	struct gw__proxy_queued_message said = {.time_ns = gw__clock_now_ns(&p->run->clock) - p->start_ns,
		.connection = connection,
		.channel = "",
		.name = name,
		.text = text};
	gw__event_queue_push(p->teller, &said);
}

bool gw__proxy_has_main(struct gw__proxy *p)
{
	for (unsigned i = 0; i < p->links_n; i++)
		if (gw__link_is_main(p->link[i]))
			return true;
	return false;
}

/* What was passed on without a word, as a preempt channel may be, ends with the main channel. */
static void break_silent(struct gw__proxy *p)
{
	for (unsigned i = 0; i < p->links_n; i++)
		if (!gw__link_is_named(p->link[i]))
			gw__link_break(p->link[i]);
}

static void reap(struct gw__proxy *p)
{
	for (unsigned i = 0; i < p->links_n;) {
		struct gw__link *l = p->link[i];
		if (!gw__link_is_over(l)) {
			i++;
			continue;
		}
		remove_link(p, i);
		gw__link_free(l);
	}
	if (!gw__proxy_has_main(p))
		break_silent(p);
}

/* Connects to the destination for it. 0, also when this connection alone came to nothing. */
static int pair(struct gw__proxy *p, struct gw__held *h)
{
	struct gw__chan *destination = NULL;
	struct gw__link *l;
	char text[2 * sizeof h->chan->name + 16];
	if (p->links_n == GW__LINKS_MAX) {
		gw__proxy_say(p, p->connections, "REFUSED", "a connection, because there are too many");
		gw__chan_close(&h->chan, NULL);
		return 0;
	}
	int r = gw__io_open_out(p->o->connect, &p->o->io, &destination, &p->run->error);
	if (r) {
		gw__chan_close(&h->chan, NULL);
		return r;
	}
	snprintf(text, sizeof text, "%s to %s", h->chan->name, destination->name);
	gw__proxy_say(p, p->connections + 1, "CONNECTED", text);
	r = gw__link_new(p, &h->chan, &destination, &l);
	if (r)
		return r;
	l->serial = h->serial;
	l->peer = h->peer;
	add_link(p, l, h->cuts_before); /* before it can be the one that cuts */
	if (h->n)
		gw__link_name(l, h->first, h->n);
	return 0;
}

/* A destination that does not listen (yet) is no reason to end while others are connected, or when recoveries are awaited. */
static int pair_or_say(struct gw__proxy *p, struct gw__held *h)
{
	int r = pair(p, h);
	if (!r || r == -ECANCELED || r == -EOPNOTSUPP || (!p->o->keep && !p->links_n))
		return r;
	gw__proxy_say(p, 0, "REFUSED", p->run->error.text);
	gw__error_clear(&p->run->error);
	return 0;
}

/* From the `first`th on. Those that cannot be started are gone. */
static int start_links(struct gw__proxy *p, unsigned first)
{
	int r = 0;
	for (unsigned i = first; !r && i < p->links_n; i++)
		r = gw__link_start(p->link[i]);
	while (r && p->links_n > first && !p->link[p->links_n - 1]->started) {
		struct gw__link *l = p->link[p->links_n - 1];
		remove_link(p, p->links_n - 1);
		gw__link_drop(l);
	}
	return r;
}

/* All that came together are connected before one of them says a word: nobody behind us sees them come one by one. */
static int pass_held_on(struct gw__proxy *p)
{
	struct gw__held h;
	unsigned first = p->links_n;
	int r = 0;
	while (!r && gw__held_next(p, &h))
		r = pair_or_say(p, &h);
	gw__held_drop_strange(p);
	int started = start_links(p, first);
	return r ? r : started;
}

static bool is_over(const struct gw__proxy *p) { return p->links_n == 0 && (p->listens ? !p->o->keep && p->spoken : p->held_n == 0); }

/* How long until somebody has to be looked at. */
static int until_next_look(const struct gw__proxy *p)
{
	if (p->held_n)
		return gw__held_is_fresh(p) ? LOOK_SOON_MS : LOOK_MS;
	return p->links_n ? LOOK_MS : -1;
}

static bool is_too_late(const struct gw__proxy *p)
{
	return !p->spoken && !p->links_n && p->o->listen_ms >= 0 &&
	       gw__clock_now_ns(&p->run->clock) - p->start_ns >= (uint64_t)p->o->listen_ms * 1000000;
}

static int wait_for_some(struct gw__proxy *p, struct gw__listener *l, struct gw__chan **source)
{
	int ms = until_next_look(p);
	if (ms < 0 && !p->spoken && p->o->listen_ms >= 0)
		ms = p->o->listen_ms;
	int r = gw__listener_accept_within(l, ms, source, &p->run->error);
	if (r == GW__SHORT && is_too_late(p))
		return gw__error_set(&p->run->error, -ETIMEDOUT, "no source spoke at %.200s for %d ms; start it, or check its address",
			gw__listener_uri(l), p->o->listen_ms);
	return r;
}

/* Everybody who stands there. */
static int accept_all(struct gw__proxy *p, struct gw__listener *l)
{
	struct gw__chan *source = NULL;
	int r = wait_for_some(p, l, &source);
	for (unsigned n = 0; !r && n < GW__HELD_MAX; n++) {
		gw__held_add(p, &source);
		r = gw__listener_accept_within(l, 0, &source, &p->run->error);
	}
	if (!r)
		gw__held_add(p, &source);
	if ((r == -EMFILE || r == -ENFILE) && gw__held_drop_oldest(p, "there are no descriptors left, and it says nothing")) {
		gw__error_clear(&p->run->error);
		return 0;
	}
	return r < 0 ? r : 0;
}

/* `l` NULL: a descriptor, which is one connection, and all there is. */
static int conduct(struct gw__proxy *p, struct gw__listener *l)
{
	for (;;) {
		int r = l ? accept_all(p, l) : gw__io_pause(p->run->cancel_fd, gw__io_deadline(until_next_look(p)));
		if (!r)
			r = pass_held_on(p);
		if (r < 0)
			return r;
		reap(p);
		if (is_over(p))
			return 0;
	}
}

static int conduct_one(struct gw__proxy *p)
{
	struct gw__chan *source;
	int r = gw__io_open_in(p->o->listen, &p->o->io, &source, &p->run->error);
	if (r)
		return r;
	if (!source->two_way) {
		r = gw__error_set(&p->run->error, -EOPNOTSUPP, "%s: not a socket, and a migration goes both ways; give a socket",
			source->name);
		gw__chan_close(&source, NULL);
		return r;
	}
	gw__held_add(p, &source);
	return conduct(p, NULL);
}

static int run(struct gw__proxy *p)
{
	struct gw__listener *l = NULL;
	p->listens = gw__uri_listens(p->o->listen);
	if (!p->listens)
		return conduct_one(p);
	struct gw__io_opts io = p->o->io;
	io.connect_ms = p->o->listen_ms;
	int r = gw__io_listen(p->o->listen, &io, &l, &p->run->error);
	if (!r && p->o->on_listening)
		p->o->on_listening(p->o->ctx, gw__listener_uri(l));
	if (!r)
		r = conduct(p, l);
	gw__listener_close(l);
	return r;
}

static bool is_socket(const struct gw__uri *uri) { return gw__uri_listens(uri) || uri->kind == GW__URI_FD; }

/* What is recorded holds a guest's memory, and names of files in it can be foreseen: nobody else may write there. */
static int make_tap_dir(const char *dir, struct gw__error *error)
{
	struct stat st;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return gw__error_errno(error, errno, "%.200s: making the folder for what is recorded", dir);
	if (stat(dir, &st) < 0)
		return gw__error_errno(error, errno, "%.200s: looking at the folder for what is recorded", dir);
	if (!S_ISDIR(st.st_mode))
		return gw__error_set(error, -ENOTDIR, "%.200s: not a folder, and what passes is recorded in files of one", dir);
	if (st.st_uid != geteuid() || st.st_mode & 022)
		return gw__error_set(error, -EPERM,
			"%.200s: others may write in this folder; record guest memory in one of your own (mode 700)", dir);
	return 0;
}

static int check(const struct gw__proxy_opts *o, struct gw__error *error)
{
	const struct gw__uri *wrong = !is_socket(o->listen) ? o->listen : !is_socket(o->connect) ? o->connect : NULL;
	if (wrong)
		return gw__error_set(error, -EINVAL,
			"%.200s: a migration goes both ways; expected tcp:, unix:, vsock: or fd:", wrong->text);
	if (o->keep && o->listen->kind == GW__URI_FD)
		return gw__error_set(error, -EINVAL, "%.200s: a descriptor is one connection, so there is nothing to go on listening at",
			o->listen->text);
	int r = o->tap_dir ? make_tap_dir(o->tap_dir, error) : 0;
	if (r)
		return r;
	return gw__faults_check(o->fault, o->faults_n, error);
}

/* Whoever is still connected is cut off. */
static void end_links(struct gw__proxy *p)
{
	while (p->links_n) {
		struct gw__link *l = p->link[p->links_n - 1];
		remove_link(p, p->links_n - 1);
		gw__link_break(l);
		gw__link_free(l);
	}
}

static struct gw__proxy *proxy_new(struct gw__run *run, const struct gw__proxy_opts *o)
{
	struct gw__proxy *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->run = run;
	p->o = o;
	p->start_ns = gw__clock_now_ns(&run->clock);
	p->faults.v = o->fault;
	p->faults.n = o->faults_n;
	pthread_mutex_init(&p->lock, NULL);
	gw__migration_view_init(&p->view);
	return p;
}

static void proxy_free(struct gw__proxy *p)
{
	gw__migration_view_fini(&p->view);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

int gw__proxy(struct gw__run *r, const struct gw__proxy_opts *o, struct gw__proxy_result *result)
{
	*result = (struct gw__proxy_result){.where = GW__WHERE_NO_MIGRATION};
	int err = check(o, &r->error);
	if (err)
		return err;
	struct gw__proxy *p = proxy_new(r, o);
	if (!p)
		return gw__error_set(&r->error, -ENOMEM, "no memory for a proxy");
	err = gw__event_queue_start(o, &p->teller, &r->error);
	if (!err)
		err = run(p);
	end_links(p);
	gw__held_drop_all(p, "the migration was over");
	*result = (struct gw__proxy_result){.connections = p->connections,
		.strangers = p->strangers,
		.cuts = p->cuts,
		.bytes = {p->bytes[0], p->bytes[1]},
		.dropped = gw__event_queue_stop(p->teller),
		.where = gw__migration_view_where(&p->view)};
	proxy_free(p);
	return err;
}
