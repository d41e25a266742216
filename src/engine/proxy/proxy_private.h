/* SPDX-License-Identifier: MIT */
/* What the files of the proxy share. Nobody else includes it. */
#ifndef GW_ENGINE_PROXY_PROXY_PRIVATE_H
#define GW_ENGINE_PROXY_PROXY_PRIVATE_H

#include <stdatomic.h>

#include "engine/core/stream_buf.h"
#include "engine/proxy/proxy.h"

/* --- event_queue.c: a bounded queue of what is to be said, and the thread that says it --- */

struct gw__event_queue;
int gw__event_queue_start(const struct gw__proxy_opts *o, struct gw__event_queue **t, struct gw__error *error);
/* Never waits for the listener: what does not fit is counted and dropped. Any thread. */
void gw__event_queue_push(struct gw__event_queue *t, const struct gw__proxy_queued_message *said);
void gw__event_queue_push_stats(struct gw__event_queue *t, const struct gw__proxy_channel_stats *sum);
/* Says the rest and ends. Returns how much was dropped. NULL is fine. */
uint64_t gw__event_queue_stop(struct gw__event_queue *t);

/* --- proxy_faults.c --- */

/* Which cuts have happened; any thread. */
struct gw__faults {
	const struct gw__fault *v;
	unsigned n;
	_Atomic bool spent[GW__FAULTS_MAX];
};
/* The first of this kind, not spent, that fits; -1: none. */
int gw__faults_find(const struct gw__faults *f, enum gw__fault_kind kind, const char *channel, enum gw__proxy_direction d);
/* Slow a channel that is read from, by all rates that fit. */
int gw__faults_slow(const struct gw__faults *f, const char *channel, enum gw__proxy_direction d, struct gw__chan **from,
	struct gw__error *error);
int gw__faults_check(const struct gw__fault *v, unsigned n, struct gw__error *error); /* 0 or -EINVAL */

/* --- the whole --- */

struct gw__link;

/* Who is at the other end of a socket: a host, or the user of a unix socket. family 0: nobody knows. */
struct gw__peer {
	int family;
	uint8_t who[16];
};

/* What the first bytes of a connection mean. */
enum gw__first_word {
	GW__FIRST_WORD_UNDECIDED, /* nothing came yet, or too little */
	GW__FIRST_WORD_OPENS,     /* a main channel, also of a recovery, or TLS, which may be one */
	GW__FIRST_WORD_JOINS,     /* belongs to a main channel */
	GW__FIRST_WORD_STRANGE,
};

enum {
	GW__HELD_MAX = 300,
	GW__LINKS_MAX = 300,
	GW__MAINS_MAX = 4,         /* whose device state is held in memory */
	GW__LINK_FIRST_BYTES = 25, /* up to the number in the hello of a multifd channel */
};

/* A connection with which the far side has nothing to do yet. */
struct gw__held {
	struct gw__chan *chan;
	struct gw__peer peer;
	uint64_t serial; /* in the order in which they came */
	uint64_t came_ns, spoke_ns;
	unsigned cuts_before;
	enum gw__first_word word;
	uint8_t first[GW__LINK_FIRST_BYTES];
	size_t n;
};

struct gw__proxy {
	struct gw__run *run;
	const struct gw__proxy_opts *o;
	struct gw__event_queue *teller;
	struct gw__migration_view view;
	struct gw__faults faults;
	_Atomic uint32_t cuts, mains;
	_Atomic bool spoken; /* a source has said something */
	uint64_t start_ns;
	pthread_mutex_t lock;                 /* of the next three */
	struct gw__link *link[GW__LINKS_MAX]; /* the main thread alone changes these two */
	unsigned links_n;
	unsigned cuts_of_all;
	/* The main thread's. */
	bool listens; /* at an address, where anybody may come */
	uint64_t accepted;
	struct gw__held held[GW__HELD_MAX]; /* in the order in which they came */
	unsigned held_n;
	uint32_t connections, strangers; /* passed on, dropped before */
	uint64_t bytes[2];
};

/* --- flow.c: one direction, with a thread --- */

struct gw__flow {
	struct gw__link *link;
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
enum { GW__FLOW_OVER = 1 }; /* beside 0 and what is negative: nothing more comes, as it should be */
void *gw__flow_thread(void *flow);
bool gw__flow_on_message(void *flow, const struct gw__message *m); /* what its explainer says; false: cut behind it */

/* --- flow.c --- */

/* Until the source has said what channel this is, or that it is none. */
int gw__flow_await_source(struct gw__flow *f);
/*
 * Until the destination speaks: before the source did, that is no channel that is known. GW__FLOW_OVER: it will say nothing, which is no word
 * yet.
 */
int gw__flow_await_destination(struct gw__flow *f);
/* When the channel has a name. */
int gw__flow_set_up(struct gw__flow *f);

/* --- link.c: a connection and its pair --- */

struct gw__link {
	struct gw__proxy *proxy;
	uint32_t number;
	uint64_t serial; /* the main thread's, as is the peer */
	struct gw__peer peer;
	_Atomic bool may_postcopy; /* it announced post-copy, or nobody can read whether it did */
	int control_fd[2];         /* of both sockets, to break them from any thread */
	_Atomic bool cut;          /* on purpose: nothing more is passed on, and what looks like an end is none */
	pthread_mutex_t lock;
	bool named; /* behind the lock; what is named does not change any more */
	enum gw__dissector_kind kind;
	char name[GW__PROXY_NAME_BYTES];
	bool started;            /* the main thread's */
	bool admitted;           /* the forward thread's: counts as a main channel */
	struct gw__flow flow[2]; /* forward, return */
	_Atomic unsigned ended;
};

/* What these bytes, the first of a connection, mean; more of them may come. */
enum gw__first_word gw__link_first_word(const uint8_t *first, size_t n);
/* Takes both channels, also on failure. Nothing is passed on before it is started. */
int gw__link_new(struct gw__proxy *p, struct gw__chan **from_source, struct gw__chan **to_destination, struct gw__link **l);
int gw__link_start(struct gw__link *l);
void gw__link_drop(struct gw__link *l); /* one that was not */
bool gw__link_is_over(const struct gw__link *l);
void gw__link_free(struct gw__link *l);    /* joins, sums up */
bool gw__link_is_main(struct gw__link *l); /* or a recovery's, or TLS; and it is not over */
bool gw__link_is_named(struct gw__link *l);
void gw__link_break(struct gw__link *l);
void gw__link_cut(struct gw__link *l); /* the same, on purpose */
/*
 * The name of a channel, once: from the first bytes of its source. n 0: it said nothing and closed; NULL: the destination has spoken
 * first, which makes it unknown.
 */
void gw__link_name(struct gw__link *l, const uint8_t *first, size_t n);
/* What a direction is to be explained as. */
enum gw__dissector_kind gw__link_explain_as(struct gw__link *l, enum gw__proxy_direction d);
void gw__link_emit(struct gw__link *l, enum gw__proxy_direction d, uint64_t off, const char *name, const char *text);

/* --- held.c: connections that have not said yet what they are. The main thread's --- */

void gw__held_add(struct gw__proxy *p, struct gw__chan **source); /* takes it */
/* The next that is to be passed on, taken out; false: none for now. Drops those that ended or were silent for too long. */
bool gw__held_next(struct gw__proxy *p, struct gw__held *next);
void gw__held_drop_strange(struct gw__proxy *p);
bool gw__held_drop_oldest(struct gw__proxy *p, const char *why); /* of the silent ones; false: there is none */
void gw__held_drop_all(struct gw__proxy *p, const char *why);
bool gw__held_is_fresh(const struct gw__proxy *p); /* somebody who just came will speak soon */
struct gw__peer gw__peer_of(int fd);

/* --- proxy.c --- */

bool gw__proxy_has_main(struct gw__proxy *p);
unsigned gw__proxy_count_cuts(struct gw__proxy *p);
void gw__proxy_say(struct gw__proxy *p, uint32_t connection, const char *name, const char *text);
/* Nothing is passed on any more by anybody; then the links break. */
void gw__proxy_block_all(struct gw__proxy *p);
void gw__proxy_cut_all(struct gw__proxy *p);

#endif
