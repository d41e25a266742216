/* SPDX-License-Identifier: MIT */
/*
 * What the destination of a post-copy sends: requests, PONGs, bitmaps, SHUT. It judges every message, for its values and for its place in the
 * state of the migration, and hands on what is right; an unexpected one is an error that names both. The main thread's.
 */
#ifndef GW_ENGINE_PAGESERVER_RETURN_PATH_READER_H
#define GW_ENGINE_PAGESERVER_RETURN_PATH_READER_H

#include "base/bitmap.h"
#include "base/conditions.h"
#include "engine/core/run.h"
#include "engine/pageserver/page_source.h"
#include "io/chan.h"
#include "plan/postcopy_src.h"

/* Each is called during gw__return_path_reader_read and may fail with run->error. */
struct gw__return_path_ops {
	/* Pages are requested; the range was judged. */
	int (*request)(void *ctx, uint32_t block, uint64_t start_off, uint64_t bytes);
	/* Where the bits of a received bitmap go; called when they have arrived. */
	struct gw__bitmap *(*bitmap)(void *ctx, uint32_t block);
	int (*bitmap_complete)(void *ctx, uint32_t block);
	/* GUEST_RUNS (PONG 0x42) or RESUMED (RESUME_ACK). */
	int (*event)(void *ctx, enum gw__postcopy_src_event event);
	/* Waits as gw__page_out_wait. */
	int (*wait)(void *ctx, uint64_t ns, bool *may_push);
};

struct gw__return_path_reader;

/* Borrows all of it. `state` is read whenever a message comes. `answer_ms`: how long a reply may take; -1: for ever. */
int gw__return_path_reader_new(struct gw__run *run, const struct gw__page_source *source, struct gw__chan *chan, int answer_ms,
	const enum gw__postcopy_src_state *state, const struct gw__return_path_ops *ops, void *ctx, struct gw__return_path_reader **rp);
void gw__return_path_reader_free(struct gw__return_path_reader *rp); /* NULL is fine */

/* Messages that came, waiting at most `ns` for the first byte: 0, or GW__NOTHING_CAME when none came. `may_push` as of wait; NULL: no. */
int gw__return_path_reader_take(struct gw__return_path_reader *rp, uint64_t ns, bool *may_push);

/* What a reply may be; each stays true once it came. */
enum gw__return_path_reply {
	GW__REPLY_OPENED,    /* the first PONG: the destination has the main connection */
	GW__REPLY_DISCARDED, /* PONG 2: it has taken the switch, and has no devices yet */
	GW__REPLY_BITMAPS,   /* every one that was asked for */
	GW__REPLY_RESUME_ACK,
	GW__REPLY_GUEST_RUNS, /* it loaded the devices (PONG 0x42) */
	GW__REPLY_SHUT,
};
/* Reads until it has arrived, within the limit for a reply. */
int gw__return_path_reader_await(struct gw__return_path_reader *rp, enum gw__return_path_reply reply);
bool gw__return_path_reader_came(const struct gw__return_path_reader *rp, enum gw__return_path_reply reply);
/* The destination sent SHUT with an error. */
bool gw__return_path_reader_shut_error(const struct gw__return_path_reader *rp);

/*
 * From now on these have a place: BITMAPS, of all blocks that migrate, in their order; RESUME_ACK, as RESUME was sent. The others always have one in
 * their state.
 */
void gw__return_path_reader_expect(struct gw__return_path_reader *rp, enum gw__return_path_reply reply);
/*
 * Discards what was meant for a predecessor on this link, up to the PONG with this token. In it there are whole messages, parts of them and
 * bitmaps; answers come in order, so that PONG is the end of it.
 */
int gw__return_path_reader_skip_to_pong(struct gw__return_path_reader *rp, uint32_t token);
/* 1: the destination has not ended the main connection within `ns`; what it sends meanwhile is kept. 0: it has. */
int gw__return_path_reader_stays_open(struct gw__return_path_reader *rp, uint64_t ns);

#endif
