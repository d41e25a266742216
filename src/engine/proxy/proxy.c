/* SPDX-License-Identifier: MIT */
/* The proxy's main thread: accepts, pairs, and notices when it is over. See proxy.h. */
#include "engine/proxy/proxy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "engine/proxy/proxy_private.h"
#include "io/wait.h"

enum { LOOK_MS = 20 };

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

static unsigned count_cuts(struct gw__proxy *p)
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

static void say(struct gw__proxy *p, uint32_t connection, const char *name, const char *text)
{
	struct gw__proxy_queued_message said = {.time_ns = gw__clock_now_ns(&p->run->clock) - p->start_ns,
		.connection = connection,
		.channel = "",
		.name = name,
		.text = text};
	gw__event_queue_push(p->teller, &said);
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
}

/* Takes what came. 0, also when this connection alone came to nothing. */
static int pair(struct gw__proxy *p, struct gw__chan **source)
{
	struct gw__chan *destination = NULL;
	struct gw__link *l;
	unsigned cuts_before = count_cuts(p);
	char text[2 * sizeof(*source)->name + 16];
	if (p->links_n == GW__LINKS_MAX) {
		say(p, p->connections, "REFUSED", "a connection, because there are too many");
		gw__chan_close(source, NULL);
		return 0;
	}
	int r = gw__io_open_out(p->o->connect, &p->o->io, &destination, &p->run->error);
	if (r) {
		gw__chan_close(source, NULL);
		return r;
	}
	snprintf(text, sizeof text, "%s to %s", (*source)->name, destination->name);
	say(p, p->connections + 1, "CONNECTED", text);
	r = gw__link_new(p, source, &destination, &l);
	if (r)
		return r;
	add_link(p, l, cuts_before); /* before it can be the one that cuts */
	r = gw__link_start(l);
	if (r) {
		remove_link(p, p->links_n - 1);
		gw__link_drop(l);
	}
	return r;
}

/* A destination that does not listen (yet) is no reason to end while others are connected, or when recoveries are awaited. */
static int pair_or_say(struct gw__proxy *p, struct gw__chan **source)
{
	int r = pair(p, source);
	if (!r || r == -ECANCELED || r == -EOPNOTSUPP || (!p->o->keep && !p->links_n))
		return r;
	say(p, 0, "REFUSED", p->run->error.text);
	gw__error_clear(&p->run->error);
	return 0;
}

static bool is_over(const struct gw__proxy *p) { return !p->o->keep && p->spoken && p->links_n == 0; }

static int conduct(struct gw__proxy *p, struct gw__listener *l)
{
	for (;;) {
		struct gw__chan *source = NULL;
		bool idle = !p->links_n;
		int r = idle && !p->spoken ? gw__listener_accept(l, &source, &p->run->error)
					   : gw__listener_accept_within(l, idle ? -1 : LOOK_MS, &source, &p->run->error);
		if (!r)
			r = pair_or_say(p, &source);
		if (r < 0)
			return r;
		reap(p);
		if (is_over(p))
			return 0;
	}
}

/* A descriptor is one connection, and all there is. */
static int conduct_one(struct gw__proxy *p)
{
	struct gw__chan *source;
	int r = gw__io_open_in(p->o->listen, &p->o->io, &source, &p->run->error);
	if (!r)
		r = pair(p, &source);
	while (!r && p->links_n) {
		r = gw__io_pause(p->run->cancel_fd, gw__io_deadline(LOOK_MS));
		reap(p);
	}
	return r;
}

static int run(struct gw__proxy *p)
{
	struct gw__listener *l = NULL;
	if (!gw__uri_listens(p->o->listen))
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
	*result = (struct gw__proxy_result){.connections = p->connections,
		.cuts = p->cuts,
		.bytes = {p->bytes[0], p->bytes[1]},
		.dropped = gw__event_queue_stop(p->teller),
		.where = gw__migration_view_where(&p->view)};
	proxy_free(p);
	return err;
}
