/* SPDX-License-Identifier: MIT */
/*
 * A sink: where a guest goes. A source (engine/incoming/stream.h) calls it in this order, from the main thread:
 *
 *   config, device* (early), blocks, device* (early), { pages | zeros | round | device (pieces) }*, switchover?, ram_end, device*, end, sync?,
 *   commit
 *
 * Nobody calls an operation (gw__sink_ops) but through the function of its name. It checks that the call has its turn, that the block is known and the
 * pages are inside it, and does without what the sink has no operation for. What it refuses is a fault of Godwit, and an error like any other:
 * wire data never ends the process. A call that failed has not changed whose turn it is. A sink keeps nothing it is lent. Free at any point drops
 * what is not committed.
 */
#ifndef GW_ENGINE_SINK_SINK_H
#define GW_ENGINE_SINK_SINK_H

#include <sys/uio.h>

#include "base/bitmap.h"
#include "base/bytes.h"
#include "base/conditions.h"
#include "base/error.h"
#include "wire/header.h"
#include "wire/framing.h"
#include "wire/ram.h"
#include "wire/stream.h"

struct gw__sink;
struct gw__image; /* image/read/image.h */

/*
 * A way into a sink for one more thread, which owns it; it goes before its sink. It lends buffers, so that a payload is read from the socket
 * right where it is stored from. Between two flushes no page may be in two lanes; within a lane the last put of a page wins.
 */
enum { GW__SINK_LANE_BUFFER_BYTES = 512 << 10 };
struct gw__sink_lane {
	const struct gw__sink_lane_ops *ops;
	/* sink.c's */
	const struct gw__sink *sink;
	bool borrowed;
};
struct gw__sink_lane_ops {
	/* GW__SINK_LANE_BUFFER_BYTES, aligned to 4096. Borrowed again without a submit it is the same one. */
	int (*borrow)(struct gw__sink_lane *l, void **buffer, struct gw__error *error);
	/* `n` pages that stand one after the other in the borrowed buffer; page i goes to off[i] of the block. */
	int (*submit)(struct gw__sink_lane *l, uint32_t block, const uint64_t *off, uint32_t n, struct gw__error *error);
	int (*zeros)(struct gw__sink_lane *l, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error);
	/* All that was put is where it belongs: what a barrier between rounds needs. */
	int (*flush)(struct gw__sink_lane *l, struct gw__error *error);
	void (*free)(struct gw__sink_lane *l);
};

/* What a sink knows of a guest whose first connection is gone. Lives as long as the sink. */
struct gw__sink_recovery_info {
	const struct gw__blocks *blocks;
	uint64_t page_bytes;
	uint32_t ram_id;
	bool ram_section_id_unknown; /* it was never told */
	uint32_t devices_n;          /* given so far, those of an earlier process too */
	struct gw__view early;       /* device sections before the end of RAM */
	struct gw__view package;     /* of post-copy; empty: the guest's memory alone is kept */
};

/*
 * For a sink that runs the guest when its devices are here, and gets its pages then. `load` and `run` are called from the main thread, which
 * runs hooks of a VMM, while another one receives pages; the rest comes from the thread that receives.
 */
struct gw__sink_run_ops {
	/* The devices of the package were given (device): load them. They may touch pages, which come. */
	int (*load)(struct gw__sink *s, struct gw__error *error);
	void (*run)(struct gw__sink *s);       /* its source has heard that they are loaded: it is ours */
	int (*request_fd)(struct gw__sink *s); /* readable: somebody waits for a page */
	bool (*next_request)(struct gw__sink *s, uint32_t *block, uint64_t *off); /* false: nobody waits for another one */
	int (*request_again)(struct gw__sink *s,
		struct gw__error *error);    /* over a new connection; also if the thread that requests them has failed */
	void (*give_up)(struct gw__sink *s); /* it will not run, and no page comes any more: nobody is to wait */
};

/*
 * After `blocks`: prepare?, begin, discard*, hold, { pages | zeros | checkpoint }*, then ram_end and all after it. From `hold` on the link may
 * break; known and received tell how to go on.
 */
struct gw__sink_postcopy_ops {
	/* It may switch: what can be refused is refused now, while breaking off still gives the guest back. */
	int (*prepare_postcopy)(struct gw__sink *s, struct gw__error *error);
	int (*begin)(struct gw__sink *s, struct gw__error *error);
	/* What came of these pages is void. */
	int (*discard)(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error);
	/*
	 * The package is here: it and all that came survive us from now on. *package is malloc'ed, and the sink's afterwards (known); it may be
	 * large, and there are no two of it.
	 */
	int (*persist_handover)(struct gw__sink *s, uint8_t **package, size_t bytes, struct gw__error *error);
	void (*recovery_info)(struct gw__sink *s, struct gw__sink_recovery_info *recovery_info);
	const struct gw__bitmap *(*received)(struct gw__sink *s, uint32_t block);
	int (*learn_ram_id)(struct gw__sink *s, uint32_t id, struct gw__error *error); /* before ram_end, where it was not known */
	int (*checkpoint)(struct gw__sink *s, struct gw__error *error);                /* what came survives the host as well */
	bool (*is_committed)(struct gw__sink *s);       /* it has its name; if in an earlier life, nothing more may be given to it */
	void (*discard_checkpoint)(struct gw__sink *s); /* nobody will have to go on: what was kept for it goes */
	const struct gw__sink_run_ops *run;             /* NULL: it is kept, and not run */
};

/* One that is NULL has nothing to do, or cannot where it says so. */
struct gw__sink_ops {
	int (*config)(struct gw__sink *s, const struct gw__config *config, struct gw__error *error);
	int (*blocks)(struct gw__sink *s, uint32_t section_id, const struct gw__blocks *blocks, struct gw__error *error);
	/* `n` consecutive pages of a block, one iovec each. */
	int (*pages)(struct gw__sink *s, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error);
	int (*zeros)(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error);
	/* What is there now, as the base of an XBZRLE delta: 0, or GW__NO_PAGE when the page never came. NULL: it takes no deltas. */
	int (*read_back)(struct gw__sink *s, uint32_t block, uint64_t off, void *page, struct gw__error *error);
	/*
	 * A whole section, header and footer included; it stood at `off` of where it comes from. FULL: a device. START, PART, END, also between
	 * pages: a piece of an iterable that nobody here understands (spapr/htab), to be kept in its order.
	 */
	int (*device)(struct gw__sink *s, const struct gw__section *section, uint64_t off, struct gw__view raw, struct gw__error *error);
	int (*round)(struct gw__sink *s, struct gw__error *error);      /* the source finished an iteration */
	int (*barrier)(struct gw__sink *s, struct gw__error *error);    /* all lanes wait: what comes after it is newer */
	int (*switchover)(struct gw__sink *s, struct gw__error *error); /* it said that its guest is stopped */
	int (*ram_end)(struct gw__sink *s, struct gw__error *error);
	int (*end)(struct gw__sink *s, struct gw__view description, struct gw__error *error); /* n == 0: there is none */
	/* What commit would wait for, but the name. */
	int (*sync)(struct gw__sink *s, struct gw__error *error);
	int (*commit)(struct gw__sink *s, struct gw__error *error);
	/* Take all pages of an image in one call, in a way of its own. NULL: they come by `pages` and `zeros`. */
	int (*ram_of_image)(struct gw__sink *s, const struct gw__image *image, struct gw__error *error);
	/* For a source that switches to post-copy. NULL: this sink takes guests only as a whole. */
	const struct gw__sink_postcopy_ops *postcopy;
	/* A way in for one more thread, between `blocks` and `ram_end`. NULL: this sink takes pages from one thread only. */
	int (*add_lane)(struct gw__sink *s, struct gw__sink_lane **lane, struct gw__error *error);
	void (*free)(struct gw__sink *s);
};

/* What a sink was told so far, which decides what it may be told next. */
enum gw__sink_state {
	GW__SINK_NEW,
	GW__SINK_CONFIGURED, /* config */
	GW__SINK_RAM,        /* blocks: pages come */
	GW__SINK_SWITCHING,  /* begin_postcopy: ranges are void, and the package comes */
	GW__SINK_LATE,       /* persist_handover: the rest of the pages comes */
	GW__SINK_RAM_ENDED,
	GW__SINK_ENDED,
	GW__SINK_CHECKPOINT, /* of COLO: pages come again, until ram_end */
	GW__SINK_COMMITTED,
	GW__SINK_STATES
};

/* Zeroed but for its ops when it is made. All else is sink.c's. */
struct gw__sink {
	const struct gw__sink_ops *ops;
	_Atomic unsigned state;
	uint64_t page_bytes;
	uint64_t *block_bytes;
	uint32_t blocks_n;
};

/* A sink that went on before, maybe in another process, begins in that state. -ENOMEM with a sentence. */
int gw__sink_begin_in(struct gw__sink *s, enum gw__sink_state state, uint64_t page_bytes, const struct gw__blocks *blocks,
	struct gw__error *error);

/* --- the calls: 0, what the operation says, or -EINVAL with a sentence --- */

int gw__sink_config(struct gw__sink *s, const struct gw__config *config, struct gw__error *error);
int gw__sink_blocks(struct gw__sink *s, uint32_t section_id, const struct gw__blocks *blocks, struct gw__error *error);
int gw__sink_pages(struct gw__sink *s, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error);
/* The same, of pages that stand one after the other; NULL: of zeros. */
int gw__sink_put(struct gw__sink *s, uint32_t block, uint64_t off, const void *pages, uint64_t n, struct gw__error *error);
int gw__sink_zeros(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error);
int gw__sink_read_back(struct gw__sink *s, uint32_t block, uint64_t off, void *page, struct gw__error *error);
int gw__sink_device(struct gw__sink *s, const struct gw__section *section, uint64_t off, struct gw__view raw, struct gw__error *error);
int gw__sink_round(struct gw__sink *s, struct gw__error *error);
int gw__sink_barrier(struct gw__sink *s, struct gw__error *error);
int gw__sink_switchover(struct gw__sink *s, struct gw__error *error);
int gw__sink_ram_end(struct gw__sink *s, struct gw__error *error);
int gw__sink_end(struct gw__sink *s, struct gw__view description, struct gw__error *error);
int gw__sink_sync(struct gw__sink *s, struct gw__error *error);
int gw__sink_commit(struct gw__sink *s, struct gw__error *error);
/* GW__NOT_MINE: this sink takes pages one by one. */
int gw__sink_ram_of_image(struct gw__sink *s, const struct gw__image *image, struct gw__error *error);
/* By a sink itself, when its next epoch begins: after `end`, or after the ram_end of the one before. */
int gw__sink_begin_checkpoint(struct gw__sink *s, struct gw__error *error);

int gw__sink_add_lane(struct gw__sink *s, struct gw__sink_lane **lane, struct gw__error *error);
int gw__sink_lane_borrow(struct gw__sink_lane *l, void **buffer, struct gw__error *error);
int gw__sink_lane_submit(struct gw__sink_lane *l, uint32_t block, const uint64_t *off, uint32_t n, struct gw__error *error);
int gw__sink_lane_zeros(struct gw__sink_lane *l, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error);
int gw__sink_lane_flush(struct gw__sink_lane *l, struct gw__error *error);

/* For a sink that takes post-copy (ops->postcopy). */
int gw__sink_prepare_postcopy(struct gw__sink *s, struct gw__error *error);
int gw__sink_begin_postcopy(struct gw__sink *s, struct gw__error *error);
int gw__sink_discard(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error);
int gw__sink_persist_handover(struct gw__sink *s, uint8_t **package, size_t bytes, struct gw__error *error);
int gw__sink_learn_ram_id(struct gw__sink *s, uint32_t id, struct gw__error *error);
int gw__sink_checkpoint(struct gw__sink *s, struct gw__error *error);

/* --- questions, at any time --- */

struct gw__sink_recovery_info gw__sink_recovery_info(struct gw__sink *s);
const struct gw__bitmap *gw__sink_received(struct gw__sink *s, uint32_t block);
/* Pages that did not come yet; for a sink that takes post-copy, once it has its blocks. */
uint64_t gw__sink_count_missing(struct gw__sink *s);
/* False also for a sink that takes guests only as a whole. */
bool gw__sink_is_committed(struct gw__sink *s);
/* Nothing to do for a sink that takes guests only as a whole. */
void gw__sink_discard_checkpoint(struct gw__sink *s);

/* Both: NULL is fine; nulls the giver's pointer. */
void gw__sink_lane_free(struct gw__sink_lane **l);
void gw__sink_free(struct gw__sink **s);

#endif
