/* SPDX-License-Identifier: MIT */
/* What the files pull_*.c of a stream share: one stream on its way into a sink. Nobody else includes it. */
#ifndef GW_ENGINE_PULL_INTERNAL_H
#define GW_ENGINE_PULL_INTERNAL_H

#include "engine/feed.h"
#include "plan/postcopy_sink.h"
#include "engine/source.h"
#include "wire/retpath.h"

enum { GW__BATCH_PAGES = 256 };

/* The conductor's. A batch is of consecutive pages, with content or of zeros. It points into the feed's buffer and is given away before that moves. */
struct gw__pull {
	struct gw__run *run;
	struct gw__feed feed;
	struct gw__stream stream;
	struct gw__sink *sink;
	struct gw__stream_tally *tally;
	struct iovec batch[GW__BATCH_PAGES];
	int batch_n;      /* pages with content */
	uint64_t zeros_n; /* or of zeros: one of the two is 0 */
	uint32_t batch_block;
	uint64_t batch_off;
	struct gw__incoming *in; /* NULL: one channel and nothing else; borrowed */
	struct gw__gang *gang;   /* NULL without multifd */
	bool live;               /* channels that came with this one would be here */
	bool sync_per_section;   /* how the source marks syncs; known at the end of START */
	bool ram_ended;          /* told to the sink */
	bool owes_config; /* the sink gets the configuration when POSTCOPY_ADVISE, which may state the page size, has come or will not */
	bool done;
	uint8_t *scratch; /* a page, for deltas */

	/* pull_postcopy.c, pull_recovery.c */
	enum gw__ps_role role;
	enum gw__ps_state state;
	bool in_package, package_came, early_shut, may_skip_blocks;
	bool say_failed;     /* the guest is kept, and the source is told that it is not, by which its run state stays (channels.md 3.2) */
	bool held;           /* what came survives us, and may be the only copy */
	bool may_lack_pages; /* memory that is not plugged in is never sent */
	uint8_t *package;    /* as it comes; the sink's once it is whole */
	size_t package_bytes, package_room;
	bool *asked; /* by block, while recovering */
	uint64_t checkpoint_ns, checkpoint_pages;
};

/* More bytes into the feed; gives the batch away first. */
int gw__pull_fill(struct gw__pull *p);
/* One word to the source on the return path. */
int gw__pull_say(struct gw__pull *p, uint16_t type, uint32_t value, struct gw__why *why);
/* The answer to a PING. No failure when the link is gone: what had come before is still to be read, and its end tells. */
int gw__pull_pong(struct gw__pull *p, uint32_t token);

/* --- pull_end.c --- */

/*
 * Tell the source how it went: `result`, or GW__UNTOLD. Success is told only when the data is safe; then the source closes first, because
 * closing with its last words unread would reset the connection.
 */
int gw__pull_tell_source(struct gw__pull *p, int result);

/* --- pull_postcopy.c --- */

static inline const struct gw__sink_postcopy_ops *gw__pull_postcopy_ops(const struct gw__pull *p) { return p->sink->ops->postcopy; }
/* A change of state; an event without a row is an error. */
int gw__pull_step(struct gw__pull *p, enum gw__ps_event event);
/* What only post-copy has: GW__SHORT: it is not for this file. */
int gw__pull_postcopy(struct gw__pull *p, const struct gw__event *ev);
/* May this page be taken? One that is there already is not taken twice. */
bool gw__pull_wants(struct gw__pull *p, const struct gw__ram_where *where);
/* The source has sent its last byte: is anything missing? Then the end of RAM and the devices of the package, which come behind it. */
int gw__pull_end_postcopy(struct gw__pull *p);
/* Those of a post-copy package, which may be empty (pull_alone.c). */
int gw__pull_put_devices(struct gw__sink *sink, struct gw__view package, struct gw__why *why);
/* Now and then, between two sections. */
int gw__pull_checkpoint(struct gw__pull *p);

/* --- pull_recovery.c --- */

int gw__pull_begin_recovery(struct gw__pull *p);
/* The source asks what came of a block. */
int gw__pull_answer_bitmap(struct gw__pull *p, const struct gw__command *cmd);
/* It has asked enough. */
int gw__pull_resume(struct gw__pull *p);

/* --- pull_events.c: what an event means for the sink --- */

int gw__pull_handle(struct gw__pull *p, const struct gw__event *ev);

/* --- pull_pages.c --- */

int gw__pull_page(struct gw__pull *p, const struct gw__event *ev);
int gw__pull_zero(struct gw__pull *p, const struct gw__event *ev);
int gw__pull_xbzrle(struct gw__pull *p, const struct gw__event *ev);
/* What was gathered goes to the sink: before the feed's buffer moves, and before anything that must not overtake it. */
int gw__pull_flush_batch(struct gw__pull *p);

#endif
