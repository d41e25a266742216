/* SPDX-License-Identifier: MIT */
/*
 * The page server: a post-copy source whose pages do not change any more (docs/spec/postcopy.md): those of an image, or of a guest of this process that
 * is paused. The destination runs immediately. The pages that it touches are sent first, the rest in the background.
 *
 * It keeps no state that is not with the pages or with the destination: when the link breaks or this process dies, a new one
 * asks for the received bitmaps and goes on. One thread, the main thread; memory is one bit per page and a few buffers.
 */
#ifndef GW_ENGINE_PAGESERVER_PAGESERVER_H
#define GW_ENGINE_PAGESERVER_PAGESERVER_H

#include "base/bitmap.h"
#include "base/histogram.h"
#include "engine/core/run.h"
#include "engine/pageserver/page_source.h"
#include "image/read/working_set.h"
#include "io/chan.h"
#include "plan/guest_location.h"
#include "plan/postcopy_src.h"

enum gw__preempt {
	GW__PREEMPT_OFF,
	GW__PREEMPT_ON,
	GW__PREEMPT_EARLY, /* for a destination that reads nothing before both connections are made; it wants a mark at the end */
};

struct gw__pageserver_opts {
	bool resume;      /* the destination holds the guest already and waits in postcopy-paused */
	bool takeover_fd; /* and in postcopy-recover: the link is that of a predecessor, who wrote whole commands and no RESUME */
	/*
	 * Not NULL: the stream was begun by somebody else, up to the end of a section; here the guest is handed over. Of each block `sent` has the pages, all
	 * set: those that are still to be sent, or anew, are cleared. One page goes in any case (docs/spec/postcopy.md 2, "Trap").
	 */
	void (*clear_unsent)(void *ctx, struct gw__bitmap *sent);
	/*
	 * With clear_unsent: before the package leaves, the destination has to answer that it has read all before it. A destination that takes no switch has
	 * said so then, while the guest is not its own yet.
	 */
	bool confirm;
	int (*on_package)(void *ctx);     /* bytes of the package have left, so the guest may be the destination's; may be NULL */
	void (*on_guest_runs)(void *ctx); /* PONG 0x42 came, or RESUME_ACK; NULL: nobody wants to know */
	/* Backing page sizes of the destination by block, where it has larger ones than the target page; both may be NULL, 0. */
	const struct gw__pageserver_block {
		const char *name;
		uint64_t page_bytes;
	} * block;
	uint32_t blocks_n;
	uint64_t max_bandwidth;              /* bytes/s the background push keeps to, with what is requested counted in; 0: no limit */
	struct gw__working_set *working_set; /* what goes first, and where requests are recorded; NULL: nothing, nowhere */
	enum gw__preempt preempt;
	int (*open_preempt)(void *ctx, struct gw__chan **chan); /* the second connection, owned by the page server from then on */
	void (*on_connected)(void *ctx);                        /* all connections stand; may be NULL */
	void *ctx;
	int answer_ms; /* how long a word of the destination may take where one is due: bitmaps, RESUME_ACK, SHUT; -1: for ever */
};

/* What was sent, which decides nothing. */
struct gw__pageserver_stats {
	uint64_t requests;                                  /* messages */
	uint64_t requested_pages, pushed_pages, zero_pages; /* target pages sent */
	uint64_t working_set_pages;                         /* pushed because they are in it; counted in pushed_pages too */
	uint64_t already_there;                             /* pages that a resumed destination had */
	struct gw__histogram latency; /* ns from a request that can be read to its pages being written, of those that sent any */
};

/*
 * 0: completed, the destination needs nothing more. Otherwise a negative errno. *state: how far it came. PAUSED can be resumed; of FAILED the
 * destination has said, or cannot but have, no guest.
 */
int gw__pageserver(struct gw__run *run, const struct gw__page_source *source, struct gw__chan *chan, const struct gw__pageserver_opts *o,
	struct gw__pageserver_stats *stats, enum gw__postcopy_src_state *state);
/* Where the guest of an image is after that, which was where *l says. */
void gw__pageserver_locate(enum gw__postcopy_src_state state, struct gw__location *l);

#endif
