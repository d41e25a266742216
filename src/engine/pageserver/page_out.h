/* SPDX-License-Identifier: MIT */
/*
 * The page server's connections as a way out of pages: pieces of runs of them; and when: never a page of the background push while a request lies there, never
 * so many that the next request would have to wait for room. How long requests waited. What is sent, and in which order, is for the page scheduler; what is
 * written around the pages, for the loop. The main thread's.
 */
#ifndef GW_ENGINE_PAGESERVER_PAGE_OUT_H
#define GW_ENGINE_PAGESERVER_PAGE_OUT_H

#include "base/conditions.h"
#include "engine/core/run.h"
#include "engine/outgoing/stream_writer.h"
#include "engine/pageserver/pageserver.h"
#include "io/chan.h"
#include "wire/ram.h"

enum { GW__PIECE_MAX_PAGES = 512 }; /* records that are written together */

struct gw__page_out;

/*
 * Borrows all of it; counts zero pages and latencies in `stats`. Requests are recorded in the working set of `o`, if there is one. 0 or -ENOMEM.
 */
int gw__page_out_new(struct gw__run *run, const struct gw__page_source *source, struct gw__stream_writer *main,
	const struct gw__pageserver_opts *o, struct gw__pageserver_stats *stats, struct gw__page_out **out);
void gw__page_out_free(struct gw__page_out *out); /* closes the preempt channel; NULL is fine */

struct gw__chan *gw__page_out_main(const struct gw__page_out *out);
/* The connection of postcopy-preempt, for requested pages; NULL: they go over the main one. */
struct gw__chan *gw__page_out_preempt(const struct gw__page_out *out);
/* Takes it over; the one before is closed. NULL: none. */
void gw__page_out_set_preempt(struct gw__page_out *out, struct gw__chan *chan);

struct gw__page_run {
	uint32_t block;
	uint64_t first, end; /* pages */
};
enum gw__page_urgency {
	GW__PAGES_PUSHED, /* one small piece: the next request waits for as long as it takes to write it. A larger one while nobody asks */
	GW__PAGES_REQUESTED, /* over the preempt channel, if there is one */
};
/*
 * As many pages of a run as are sent together; how many in *n. Unless `may_wait`, GW__WOULD_BLOCK when the first of them has to come from the
 * disk; nothing was sent then.
 */
int gw__page_out_send(struct gw__page_out *out, const struct gw__page_run *run, enum gw__page_urgency urgency, bool may_wait, uint64_t *n);

/* What was sent so far is not counted against the bandwidth. */
void gw__page_out_begin_push(struct gw__page_out *out);
/*
 * 1: there is input; 0: none within `ns`, or, where `may_push` is given, it is time to push before (*may_push); negative errno, also when the
 * peer took nothing for too long.
 */
int gw__page_out_wait(struct gw__page_out *out, uint64_t ns, bool *may_push);
/* There is a request: what it gets is not to wait for much that is pushed. */
void gw__page_out_note_request(struct gw__page_out *out);
/* These pages were requested, and have been written. */
void gw__page_out_note_answered(struct gw__page_out *out, uint32_t block, uint64_t first, uint64_t n);

#endif
