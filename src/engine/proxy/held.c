/* SPDX-License-Identifier: MIT */
/*
 * Connections that came and have not said yet what they are. The far side hears nothing of them: a destination may wait for the first
 * bytes of whoever connects, and fails when none come. A source's main channel speaks at once; what belongs to it comes behind it.
 * The main thread's. See proxy_private.h.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <linux/vm_sockets.h>

#include "base/math.h"
#include "engine/proxy/proxy_private.h"

enum {
	SETTLE_MS = 100, /* those that come together are to be passed on together, in the order in which they came */
	PATIENCE_MS = 30000,
	OF_ALL_DESCRIPTORS = 3, /* a third is for those that say nothing */
};

static uint64_t now_ns(const struct gw__proxy *p) { return gw__clock_now_ns(&p->run->clock); }
static bool is_past(const struct gw__proxy *p, uint64_t since_ns, int ms) { return now_ns(p) - since_ns >= (uint64_t)ms * 1000000; }
static bool is_undecided(const struct gw__held *h) { return h->word == GW__FIRST_WORD_UNDECIDED; }

struct gw__peer gw__peer_of(int fd)
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

static bool is_same_peer(const struct gw__peer *a, const struct gw__peer *b)
{
	return a->family && a->family == b->family && !memcmp(a->who, b->who, sizeof a->who);
}

static void take_out(struct gw__proxy *p, unsigned i)
{
	p->held_n--;
	memmove(&p->held[i], &p->held[i + 1], (p->held_n - i) * sizeof *p->held);
}

static void drop(struct gw__proxy *p, unsigned i, const char *why)
{
	struct gw__held *h = &p->held[i];
	char text[sizeof h->chan->name + 160];
	p->strangers++;
	snprintf(text, sizeof text, "%s: %s; the destination heard nothing of it", h->chan->name, why);
	gw__proxy_say(p, 0, "REFUSED", text);
	gw__chan_close(&h->chan, NULL);
	take_out(p, i);
}

bool gw__held_drop_oldest(struct gw__proxy *p, const char *why)
{
	for (unsigned i = 0; i < p->held_n; i++)
		if (is_undecided(&p->held[i])) {
			drop(p, i, why);
			return true;
		}
	return false;
}

void gw__held_drop_all(struct gw__proxy *p, const char *why)
{
	while (p->held_n)
		drop(p, 0, why);
}

static unsigned undecided_max(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / OF_ALL_DESCRIPTORS >= GW__HELD_MAX)
		return GW__HELD_MAX - 1;
	return (unsigned)limit.rlim_cur / OF_ALL_DESCRIPTORS;
}

void gw__held_add(struct gw__proxy *p, struct gw__chan **source)
{
	static const char why[] = "too many connections say nothing, and this one came first";
	unsigned undecided = 0;
	for (unsigned i = 0; i < p->held_n; i++)
		undecided += is_undecided(&p->held[i]);
	if (undecided >= undecided_max())
		gw__held_drop_oldest(p, why);
	if (p->held_n == GW__HELD_MAX && !gw__held_drop_oldest(p, why))
		drop(p, 0, "too many connections wait for a main channel, and this one came first");
	p->held[p->held_n++] = (struct gw__held){.chan = *source,
		.peer = gw__peer_of((*source)->fd),
		.serial = ++p->accepted,
		.came_ns = now_ns(p),
		.cuts_before = gw__proxy_count_cuts(p)};
	*source = NULL;
}

/* False: it has ended. */
static bool hear(struct gw__proxy *p, struct gw__held *h)
{
	if (!is_undecided(h))
		return true;
	ssize_t n = recv(h->chan->fd, h->first, sizeof h->first, MSG_PEEK | MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	h->n = (size_t)n;
	h->word = gw__link_first_word(h->first, h->n);
	h->spoke_ns = now_ns(p);
	return true;
}

static void hear_all(struct gw__proxy *p)
{
	for (unsigned i = 0; i < p->held_n;) {
		struct gw__held *h = &p->held[i];
		if (h->cuts_before != gw__proxy_count_cuts(p))
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
static bool is_settled(const struct gw__proxy *p, const struct gw__held *h)
{
	for (unsigned i = 0; i < p->held_n; i++)
		if (is_undecided(&p->held[i]) && !is_past(p, p->held[i].came_ns, SETTLE_MS))
			return is_past(p, h->spoke_ns, SETTLE_MS);
	return true;
}

/*
 * The preempt channel says nothing until a page is asked for, and a 7.2 destination reads nothing before it is there: what is silent, came
 * behind a main channel that announced post-copy and from where that came is passed on (docs/spec/postcopy.md 5).
 */
static bool may_be_preempt(struct gw__proxy *p, const struct gw__held *h)
{
	for (unsigned i = 0; i < p->links_n; i++) {
		struct gw__link *l = p->link[i];
		if (gw__link_is_main(l) && l->may_postcopy && l->serial < h->serial && is_same_peer(&l->peer, &h->peer))
			return true;
	}
	return false;
}

static bool is_due(struct gw__proxy *p, const struct gw__held *h)
{
	switch (h->word) {
	case GW__FIRST_WORD_UNDECIDED:
		return !h->n && may_be_preempt(p, h);
	case GW__FIRST_WORD_OPENS:
		return is_settled(p, h);
	default:
		return gw__proxy_has_main(p) && is_settled(p, h);
	}
}

bool gw__held_next(struct gw__proxy *p, struct gw__held *next)
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
void gw__held_drop_strange(struct gw__proxy *p)
{
	for (unsigned i = 0; i < p->held_n;)
		if (p->held[i].word == GW__FIRST_WORD_STRANGE && !gw__proxy_has_main(p) && is_settled(p, &p->held[i]))
			drop(p, i, "its first bytes are no migration's, and there is no main channel");
		else
			i++;
}

bool gw__held_is_fresh(const struct gw__proxy *p)
{
	for (unsigned i = 0; i < p->held_n; i++)
		if (!is_past(p, p->held[i].came_ns, 2 * SETTLE_MS))
			return true;
	return false;
}
