/* SPDX-License-Identifier: MIT */
/*
 * Waits for all connections of one incoming migration and tells them apart (docs/spec/channels.md 2).
 *
 * Connections and their first bytes come in any order, so each is identified by a thread of its own, which also does the TLS
 * handshake; the caller's thread collects them. A connection that stays silent or speaks something else is dropped and counted: it neither ends nor
 * delays the wait, and when descriptors or places get scarce the one that has been silent for longest goes first.
 */
#ifndef GW_ENGINE_INCOMING_ACCEPT_H
#define GW_ENGINE_INCOMING_ACCEPT_H

#include "base/conditions.h"
#include "engine/core/run.h"
#include "io/chan.h"
#include "io/tls.h"
#include "wire/multifd.h"

enum {
	GW__MAGIC_BYTES = 4,
	GW__MAIN_HEAD_BYTES = 9,                           /* magic, version, and the type of what comes first */
	GW__COMMAND_HEAD_BYTES = 5,                        /* type, number, length */
	GW__HEAD_MAX_BYTES = GW__COMMAND_HEAD_BYTES + 256, /* a question about a block with the longest name */
};

/* What was gathered. The channels belong to whoever holds this. */
struct gw__incoming {
	struct gw__chan *main;
	uint8_t head[GW__HEAD_MAX_BYTES]; /* of the main channel, read already */
	size_t head_n;
	bool handshake_done;                                    /* it, or whoever the sentence is about, has a certificate that we take */
	struct gw__chan *multifd[GW__MULTIFD_CHANNELS_MAX + 1]; /* by id, hello read */
	uint32_t multifd_n;
	/*
	 * Still open, or NULL: a source that may switch to post-copy connects here again, for its preempt channel and after a break. Closed
	 * when it turns out that it will not.
	 */
	struct gw__listener *listener;
};
void gw__incoming_close(struct gw__incoming *in);

struct gw__accept_opts {
	/*
	 * How many multifd channels to wait for; 0: as many as come until the main channel brings pages itself, or for some time no other came. A
	 * source that marks its stream as one with channels is waited for until one has connected.
	 */
	uint32_t channels;
	int idle_ms;                     /* silence limit of the gathered channels */
	int hello_ms;                    /* a connection must say what it is within this */
	int accept_ms;                   /* all must have connected so long after the first */
	const struct gw__tls_creds *tls; /* NULL: plain */
	/*
	 * Sources of several guests may come. Nothing says whose a channel is, so if two main channels come in the time in which channels are waited
	 * for, and channels came: -EPROTO, and all of them are dropped.
	 */
	bool many_sources;
	/*
	 * A source that comes back after a break in post-copy is waited for: one connection, which begins with a command. Whoever waits goes on from
	 * call to call in `pending`, for one of them may be the preempt channel of the source.
	 */
	bool comes_again;
	uint64_t begun_ns;                    /* when the wait began, of which this call is a part; 0: now */
	struct gw__pending_channels *pending; /* NULL: everybody else is dropped at the end of the call */
	bool source_is_first; /* the caller started it: what comes alone and cannot be understood is the source, and the reason */
};
#define GW__ACCEPT_DEFAULTS ((struct gw__accept_opts){.idle_ms = 30000, .hello_ms = 5000, .accept_ms = 15000})

struct gw__pending_channels *gw__pending_channels_new(void);    /* NULL: no memory */
void gw__pending_channels_free(struct gw__pending_channels *p); /* closes them; NULL is fine */

/*
 * With `comes_again` also GW__DROPPED and a sentence: somebody was dropped who may be the source, and whose user or ours should read why (TLS at
 * one end only, certificates; with `source_is_first` anything).
 */
/*
 * Waits for a main channel as long as the listener's connect limit says, also if others connect meanwhile. Of a wait that began before, a connection
 * that came in time is still looked at, as it may have stood in a queue.
 */
int gw__accept(struct gw__run *run, struct gw__listener *l, const struct gw__accept_opts *o, struct gw__incoming *in);

#endif
