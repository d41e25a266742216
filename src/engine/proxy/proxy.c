/* SPDX-License-Identifier: MIT */
/*
 * The proxy's main thread: accepts, passes on those that have said what they are (links.h), and notices when it is over. See proxy.h.
 *
 * Of a connection that has not said yet what it is the far side hears nothing: a destination may wait for the first bytes of whoever
 * connects, and fails when none come. A source's main channel speaks immediately; what belongs to it comes after it.
 */
#include "engine/proxy/proxy.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "base/math.h"
#include "engine/proxy/faults.h"
#include "engine/proxy/links.h"
#include "io/wait.h"

enum {
	LOOK_MS = 20,
	LOOK_SOON_MS = 2,
	HELD_MAX = 300,
	SETTLE_MS = 100, /* those that come together are to be passed on together, in the order in which they came */
	PATIENCE_MS = 30000,
	OF_ALL_DESCRIPTORS = 3, /* a third is for those that say nothing */
};

/* What the first bytes of a connection mean. */
enum first_word {
	WORD_UNDECIDED, /* nothing came yet, or too little */
	WORD_OPENS,     /* a main channel, also of a recovery, or TLS, which may be one */
	WORD_JOINS,     /* belongs to a main channel */
	WORD_STRANGE,
};

/* A connection with which the far side has nothing to do yet. */
struct held {
	struct gw__arrival arrival;
	uint64_t came_ns, spoke_ns;
	enum first_word word;
};

struct proxy {
	struct gw__run *run;
	const struct gw__proxy_opts *o;
	struct gw__links *links;
	uint64_t start_ns;
	bool listens; /* at an address, where anybody may come */
	uint64_t accepted;
	struct held held[HELD_MAX]; /* in the order in which they came */
	unsigned held_n;
	uint32_t strangers; /* dropped before they were passed on */
	bool is_short;      /* of descriptors or memory, which was told */
};

static uint64_t now_ns(const struct proxy *p) { return gw__clock_now_ns(&p->run->clock); }
static bool is_past(const struct proxy *p, uint64_t since_ns, int ms) { return now_ns(p) - since_ns >= (uint64_t)ms * 1000000; }
static bool is_undecided(const struct held *h) { return h->word == WORD_UNDECIDED; }

static struct gw__peer peer_of(int fd)
{
	struct sockaddr_storage a = {0};
	socklen_t n = sizeof a;
	struct gw__peer peer = {0};
	if (getpeername(fd, (struct sockaddr *)&a, &n) < 0)
		return peer;
	peer.family = a.ss_family;
	if (a.ss_family == AF_INET)
		memcpy(peer.who, &((struct sockaddr_in *)&a)->sin_addr, sizeof(struct in_addr));
	if (a.ss_family == AF_INET6)
		memcpy(peer.who, &((struct sockaddr_in6 *)&a)->sin6_addr, sizeof(struct in6_addr));
	if (a.ss_family == AF_VSOCK)
		memcpy(peer.who, &((struct sockaddr_vm *)&a)->svm_cid, sizeof(unsigned));
	struct ucred user = {0};
	n = sizeof user;
	if (a.ss_family == AF_UNIX && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &user, &n) == 0)
		memcpy(peer.who, &user.uid, sizeof user.uid);
	return peer;
}

static enum first_word compare(const uint8_t *first, size_t n, const char *magic, size_t magic_n, size_t needed, enum first_word found)
{
	if (memcmp(first, magic, gw__min(n, magic_n)))
		return WORD_STRANGE;
	return n < needed ? WORD_UNDECIDED : found;
}

static enum first_word first_word_of(const uint8_t *first, size_t n)
{
	if (!n)
		return WORD_UNDECIDED;
	switch (gw__dissector_kind_of(first[0])) {
	case GW__DISSECTOR_MAIN:
		return compare(first, n, "QEVM", 4, 4, WORD_OPENS);
	case GW__DISSECTOR_RECOVERY:
		return compare(first, n, "\x08\0", 2, 2, WORD_OPENS);
	case GW__DISSECTOR_MULTIFD:
		return compare(first, n, "\x11\x22\x33\x44", 4, GW__FIRST_BYTES, WORD_JOINS);
	case GW__DISSECTOR_PREEMPT:
		return WORD_JOINS;
	default:
		return compare(first, n, "\x16\x03", 2, 2, WORD_OPENS);
	}
}

static void take_out(struct proxy *p, unsigned i)
{
	p->held_n--;
	memmove(&p->held[i], &p->held[i + 1], (p->held_n - i) * sizeof *p->held);
}

static void drop(struct proxy *p, unsigned i, const char *why)
{
	struct held *h = &p->held[i];
	char text[sizeof h->arrival.chan->name + 160];
	p->strangers++;
	snprintf(text, sizeof text, "%s: %s; the destination heard nothing of it", h->arrival.chan->name, why);
	gw__links_say(p->links, 0, "REFUSED", text);
	gw__chan_close(&h->arrival.chan, NULL);
	take_out(p, i);
}

static bool drop_oldest(struct proxy *p, const char *why)
{
	for (unsigned i = 0; i < p->held_n; i++)
		if (is_undecided(&p->held[i])) {
			drop(p, i, why);
			return true;
		}
	return false;
}

static void drop_all(struct proxy *p, const char *why)
{
	while (p->held_n)
		drop(p, 0, why);
}

static unsigned undecided_max(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / OF_ALL_DESCRIPTORS >= HELD_MAX)
		return HELD_MAX - 1;
	return (unsigned)limit.rlim_cur / OF_ALL_DESCRIPTORS;
}

static void hold(struct proxy *p, struct gw__chan **source)
{
	static const char why[] = "too many connections say nothing, and this one came first";
	unsigned undecided = 0;
	for (unsigned i = 0; i < p->held_n; i++)
		undecided += is_undecided(&p->held[i]);
	if (undecided >= undecided_max())
		drop_oldest(p, why);
	if (p->held_n == HELD_MAX && !drop_oldest(p, why))
		drop(p, 0, "too many connections wait for a main channel, and this one came first");
	struct gw__arrival *a = &p->held[p->held_n].arrival;
	p->held[p->held_n++] = (struct held){.came_ns = now_ns(p)};
	a->chan = *source;
	a->peer = peer_of(a->chan->fd);
	a->serial = ++p->accepted;
	a->cuts_before = gw__links_status(p->links).cuts;
	*source = NULL;
}

/* False: it has ended. */
static bool hear(struct proxy *p, struct held *h)
{
	if (!is_undecided(h))
		return true;
	ssize_t n = recv(h->arrival.chan->fd, h->arrival.first, sizeof h->arrival.first, MSG_PEEK | MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	h->arrival.n = (size_t)n;
	h->word = first_word_of(h->arrival.first, h->arrival.n);
	h->spoke_ns = now_ns(p);
	return true;
}

static void hear_all(struct proxy *p)
{
	for (unsigned i = 0; i < p->held_n;) {
		struct held *h = &p->held[i];
		if (h->arrival.cuts_before != gw__links_status(p->links).cuts)
			drop(p, i, "cut with all other connections");
		else if (!hear(p, h))
			drop(p, i, "it closed without a word");
		else if (p->listens && is_past(p, h->came_ns, PATIENCE_MS))
			drop(p, i, is_undecided(h) ? "it did not say what it is" : "no main channel came for it");
		else
			i++;
	}
}

/* Has everybody who came with it said what he is? A source has connected its multifd channels before its main channel speaks. */
static bool is_settled(const struct proxy *p, const struct held *h)
{
	for (unsigned i = 0; i < p->held_n; i++)
		if (is_undecided(&p->held[i]) && !is_past(p, p->held[i].came_ns, SETTLE_MS))
			return is_past(p, h->spoke_ns, SETTLE_MS);
	return true;
}

/*
 * The preempt channel says nothing until a page is asked for, and a 7.2 destination reads nothing before it is connected: what is silent, came
 * after a main channel that announced post-copy and from where that came is passed on (docs/spec/postcopy.md 5).
 */
static bool is_due(struct proxy *p, const struct held *h)
{
	switch (h->word) {
	case WORD_UNDECIDED:
		return !h->arrival.n && gw__links_may_be_preempt(p->links, &h->arrival);
	case WORD_OPENS:
		return is_settled(p, h);
	default:
		return gw__links_status(p->links).has_main && is_settled(p, h);
	}
}

static bool next_held(struct proxy *p, struct held *next)
{
	hear_all(p);
	for (unsigned i = 0; i < p->held_n; i++)
		if (is_due(p, &p->held[i])) {
			*next = p->held[i];
			take_out(p, i);
			return true;
		}
	return false;
}

/* No kind of channel that is known: only beside a migration it may be one of its own. */
static void drop_strange(struct proxy *p)
{
	for (unsigned i = 0; i < p->held_n;)
		if (p->held[i].word == WORD_STRANGE && !gw__links_status(p->links).has_main && is_settled(p, &p->held[i]))
			drop(p, i, "its first bytes are no migration's, and there is no main channel");
		else
			i++;
}

static bool is_fresh(const struct proxy *p)
{
	for (unsigned i = 0; i < p->held_n; i++)
		if (!is_past(p, p->held[i].came_ns, 2 * SETTLE_MS))
			return true;
	return false;
}

/* A destination that does not listen (yet) is no reason to end while others are connected, or when recoveries are awaited. */
static int pass_on(struct proxy *p, struct held *h)
{
	int r = gw__links_add(p->links, &h->arrival);
	bool is_alone = !p->o->keep && !gw__links_status(p->links).n;
	if (!r || r == -ECANCELED || r == -EOPNOTSUPP || (is_alone && !gw__error_is_shortage(r)))
		return r;
	gw__links_say(p->links, 0, "REFUSED", p->run->error.text);
	gw__error_clear(&p->run->error);
	return 0;
}

/* All that came together are connected before one of them says a word: the far side does not see them come one by one. */
static int pass_held_on(struct proxy *p)
{
	struct held h;
	int r = 0;
	while (!r && next_held(p, &h))
		r = pass_on(p, &h);
	drop_strange(p);
	int started = gw__links_start(p->links);
	if (!r && gw__error_is_shortage(started)) { /* of threads, for one connection: the others go on */
		gw__links_say(p->links, 0, "REFUSED", p->run->error.text);
		gw__error_clear(&p->run->error);
		return 0;
	}
	return r ? r : started;
}

static bool is_over(const struct proxy *p)
{
	const struct gw__links_status s = gw__links_status(p->links);
	return s.n == 0 && (p->listens ? !p->o->keep && s.has_spoken : p->held_n == 0);
}

/* How long until somebody has to be looked at. */
static int until_next_look(const struct proxy *p)
{
	if (p->held_n)
		return is_fresh(p) ? LOOK_SOON_MS : LOOK_MS;
	return gw__links_status(p->links).n ? LOOK_MS : -1;
}

static bool is_too_late(const struct proxy *p)
{
	const struct gw__links_status s = gw__links_status(p->links);
	return !s.has_spoken && !s.n && p->o->listen_ms >= 0 &&
	       gw__clock_now_ns(&p->run->clock) - p->start_ns >= (uint64_t)p->o->listen_ms * 1000000;
}

static int wait_for_some(struct proxy *p, struct gw__listener *l, struct gw__chan **source)
{
	int ms = until_next_look(p);
	if (ms < 0 && !gw__links_status(p->links).has_spoken && p->o->listen_ms >= 0)
		ms = p->o->listen_ms;
	int r = gw__listener_accept_within(l, ms, source, &p->run->error);
	if (r == GW__NOBODY && is_too_late(p))
		return gw__error_set(&p->run->error, -ETIMEDOUT, "no source spoke at %.200s for %d ms; start it, or check its address",
			gw__listener_uri(l), p->o->listen_ms);
	return r;
}

/* One that says nothing makes room. Without such a one, those that come wait in the queue until another ends, which is told once for as long as it lasts. */
static int await_room(struct proxy *p, int r)
{
	char text[GW__ERROR_BYTES + 80];
	if (!gw__error_is_shortage(r) || is_too_late(p))
		return r;
	if (!drop_oldest(p, "there are no descriptors left, and it says nothing")) {
		snprintf(text, sizeof text, "%s; connections wait until another one ends", p->run->error.text);
		if (!p->is_short)
			gw__links_say(p->links, 0, "REFUSED", text);
		p->is_short = true;
		gw__io_pause(p->run->cancel_fd, gw__io_deadline(LOOK_MS)); /* the next accept sees a cancel */
	}
	gw__error_clear(&p->run->error);
	return 0;
}

/* Everybody who stands there. */
static int accept_all(struct proxy *p, struct gw__listener *l)
{
	struct gw__chan *source = NULL;
	int r = wait_for_some(p, l, &source);
	if (r >= 0)
		p->is_short = false;
	for (unsigned n = 0; !r && n < HELD_MAX; n++) {
		hold(p, &source);
		r = gw__listener_accept_within(l, 0, &source, &p->run->error);
	}
	if (!r)
		hold(p, &source);
	return r < 0 ? await_room(p, r) : 0;
}

/* `l` NULL: a descriptor, which is one connection, and all there is. */
static int conduct(struct proxy *p, struct gw__listener *l)
{
	for (;;) {
		int r = l ? accept_all(p, l) : gw__io_pause(p->run->cancel_fd, gw__io_deadline(until_next_look(p)));
		if (!r)
			r = pass_held_on(p);
		if (r < 0)
			return r;
		gw__links_reap(p->links);
		if (is_over(p))
			return 0;
	}
}

static int conduct_one(struct proxy *p)
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
	hold(p, &source);
	return conduct(p, NULL);
}

static int run(struct proxy *p)
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

/* NUMBER-CHANNEL-forward or -return (links.c) */
static bool is_recording(const char *name)
{
	const char *way = strrchr(name, '-');
	return *name >= '1' && *name <= '9' && way && (!strcmp(way, "-forward") || !strcmp(way, "-return"));
}

/* The connections of each run are counted from 1, so a second run would write over the files of the first. */
static int check_nothing_recorded(const char *dir, struct gw__error *error)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	int r = 0;
	if (!d)
		return gw__error_errno(error, errno, "%.200s: looking into the folder for what is recorded", dir);
	while (!r && (e = readdir(d)))
		if (is_recording(e->d_name))
			r = gw__error_set(error, -EALREADY,
				"%.200s holds an earlier recording (%.100s); remove it, or give another folder, which Godwit makes", dir,
				e->d_name);
	closedir(d);
	return r;
}

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
	return check_nothing_recorded(dir, error);
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

int gw__proxy(struct gw__run *r, const struct gw__proxy_opts *o, struct gw__proxy_result *result)
{
	struct gw__event_queue *events = NULL;
	*result = (struct gw__proxy_result){.where = GW__WHERE_NO_MIGRATION};
	int err = check(o, &r->error);
	if (err)
		return err;
	struct proxy *p = calloc(1, sizeof *p);
	if (!p)
		return gw__error_set(&r->error, -ENOMEM, "no memory for a proxy");
	p->run = r;
	p->o = o;
	p->start_ns = now_ns(p);
	err = gw__event_queue_start(o, &events, &r->error);
	if (!err)
		err = gw__links_new(r, o, events, &p->links);
	if (!err)
		err = run(p);
	drop_all(p, "the migration was over");
	gw__links_free(p->links, result);
	result->strangers = p->strangers;
	result->dropped = gw__event_queue_stop(events);
	free(p);
	return err;
}
