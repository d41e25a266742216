/* SPDX-License-Identifier: MIT */
/*
 * A wire between the two ends of a migration: every connection that said what it is is paired with one that is made, and what one side
 * says is passed to the other immediately, byte for byte. Of strangers the destination hears nothing. It explains what passes, and can cut, slow and record it.
 *
 * The caller's thread accepts and pairs. Each direction of each connection has a thread, which passes bytes on first and looks at them
 * then; what there is to say is said by a thread of its own, so that whoever listens to it holds nothing up.
 */
#ifndef GW_ENGINE_PROXY_PROXY_H
#define GW_ENGINE_PROXY_PROXY_H

#include "dissect/dissector.h"
#include "engine/core/run.h"
#include "io/chan.h"

enum gw__proxy_direction {
	GW__PROXY_NEITHER, /* about the connection itself; in a fault: both */
	GW__PROXY_FORWARD, /* what the source says */
	GW__PROXY_RETURN,  /* what the destination says */
};

enum gw__fault_kind {
	GW__FAULT_CUT_AFTER, /* `amount` bytes */
	GW__FAULT_CUT_AT,    /* the end of the `amount`th `message` */
	GW__FAULT_RATE,      /* at most `amount` bytes per second */
};

/*
 * Holds for every channel of that name ("main", "recovery", "preempt", "multifd", "multifd2", "tls", "unknown"; NULL: any) and
 * direction, each counted separately. A cut happens once: later channels take the next one that fits.
 */
struct gw__fault {
	enum gw__fault_kind kind;
	const char *channel;
	enum gw__proxy_direction direction;
	uint64_t amount;
	const char *message;
};

enum { GW__FAULTS_MAX = 64, GW__PROXY_NAME_BYTES = 16 };

/* What is said, in the order of each direction. Lent during the call. */
struct gw__proxy_queued_message {
	uint64_t time_ns;    /* since the proxy began */
	uint32_t connection; /* from 1 */
	const char *channel; /* "": not known yet */
	enum gw__proxy_direction direction;
	uint64_t off, bytes;
	const char *name, *text;
	unsigned fields_n;
	const struct gw__message_field *field;
};

/* What a connection came to. [0] forward, [1] return. */
struct gw__proxy_channel_stats {
	uint32_t connection;
	const char *channel;
	uint64_t bytes[2];
	struct gw__dissector_stats stats[2];
	bool cut;
};

struct gw__proxy_opts {
	const struct gw__uri *listen, *connect;
	struct gw__io_opts io; /* towards the destination; the idle limit does not hold for what is passed on */
	int listen_ms;         /* how long to wait for the first connection; -1: no limit */
	bool keep;             /* go on when all connections ended, until cancelled */
	bool every_page;
	bool cut_all;        /* a cut breaks every connection there is */
	const char *tap_dir; /* NULL: record nothing */
	size_t tail_max_bytes;
	const struct gw__fault *fault;
	unsigned faults_n;
	void (*on_listening)(void *ctx, const char *uri);
	void (*on_message)(void *ctx,
		const struct gw__proxy_queued_message *said); /* these two: from a thread of their own, one at a time */
	void (*on_sum)(void *ctx, const struct gw__proxy_channel_stats *sum);
	void *ctx;
};

struct gw__proxy_result {
	uint32_t connections, cuts;
	uint32_t strangers; /* connections that were dropped before the destination heard of them */
	uint64_t bytes[2];
	uint64_t dropped; /* messages dropped because on_said was too slow */
	enum gw__guest_location where;
};

/* 0 when it is over, -ECANCELED; `result` is filled in any case. Other failures: nothing was or can be passed on. */
int gw__proxy(struct gw__run *run, const struct gw__proxy_opts *o, struct gw__proxy_result *result);

#endif
