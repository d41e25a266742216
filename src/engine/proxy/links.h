/* SPDX-License-Identifier: MIT */
/*
 * The connections that a proxy passes on, each with the one that was made for it to the far side. The main thread adds, starts and
 * reaps them; two threads of each pass its bytes on, explain them, and cut it where a fault says so.
 */
#ifndef GW_ENGINE_PROXY_LINKS_H
#define GW_ENGINE_PROXY_LINKS_H

#include "engine/proxy/event_queue.h"

/* Who is at the other end of a socket: a host, or the user of a unix socket. family 0: nobody knows. */
struct gw__peer {
	int family;
	uint8_t who[16];
};

enum {
	GW__LINKS_MAX = 300,
	GW__FIRST_BYTES = 25, /* of a connection: up to the number in the hello of a multifd channel */
};

/* A connection of the near side that is to be passed on. */
struct gw__arrival {
	struct gw__chan *chan;
	struct gw__peer peer;
	uint64_t serial;      /* in the order in which they came */
	unsigned cuts_before; /* of all, when it came: it is cut with those that were there */
	uint8_t first[GW__FIRST_BYTES];
	size_t n; /* of them, which lie in the socket still */
};

struct gw__links;
/* The main thread's, all of them. `run`, `o` and the queue are lent until it is freed. */
int gw__links_new(struct gw__run *run, const struct gw__proxy_opts *o, struct gw__event_queue *events,
	struct gw__links **p); /* 0 or -ENOMEM */
/* Whoever is still connected is cut off. What came of it all goes to `result`, except what the caller counts. NULL is fine. */
void gw__links_free(struct gw__links *p, struct gw__proxy_result *result);

/* Connects to the far side for it and takes its channel, also on failure. Nothing is passed on before it is started. */
int gw__links_add(struct gw__links *p, struct gw__arrival *a);
int gw__links_start(struct gw__links *p); /* all that were added; those that cannot be started are gone */
void gw__links_reap(struct gw__links *p); /* those that ended */

struct gw__links_status {
	unsigned n;      /* of connections */
	unsigned cuts;   /* how often all were cut together */
	bool has_main;   /* a main channel, or a recovery's, or TLS, that is not over */
	bool has_spoken; /* any source has said something */
};
struct gw__links_status gw__links_status(struct gw__links *p);
/* A connection that says nothing and came after a main channel, from the same peer, that announced post-copy. */
bool gw__links_may_be_preempt(struct gw__links *p, const struct gw__arrival *a);
/* Of the connection of that number, from 1, or of none (0). Any thread. */
void gw__links_say(struct gw__links *p, uint32_t connection, const char *name, const char *text);

#endif
