/* SPDX-License-Identifier: MIT */
/*
 * When the page server writes and when it listens: never a page of the background push while a request lies there, never so many that the
 * next request would have to wait for room; and how long requests waited. The main thread's.
 */
#ifndef GW_ENGINE_PAGESERVER_PACING_H
#define GW_ENGINE_PAGESERVER_PACING_H

#include "base/histogram.h"
#include "engine/pageserver/page_out.h"
#include "image/read/working_set.h"

struct gw__pacing;

/*
 * Borrows all of it. `max_bandwidth`: bytes/s the push keeps to, with what is requested counted in; 0: no limit. Requests are recorded in the
 * working set (NULL: nowhere), their latencies in `latency`. NULL: no memory.
 */
struct gw__pacing *gw__pacing_new(struct gw__run *run, struct gw__page_out *out, uint64_t max_bandwidth, struct gw__working_set *ws,
	struct gw__histogram *latency);
void gw__pacing_free(struct gw__pacing *p); /* NULL is fine */

/* What was sent so far is not counted against the bandwidth. */
void gw__pacing_begin_push(struct gw__pacing *p);
/*
 * 1: there is input; 0: none within `ns`, or, where `may_push` is given, it is time to push before (*may_push); negative errno, also when the
 * peer took nothing for too long.
 */
int gw__pacing_wait(struct gw__pacing *p, uint64_t ns, bool *may_push);
/* There is a request: what it gets is not to wait for much that is pushed. */
void gw__pacing_note_request(struct gw__pacing *p);
/* These pages were requested, and have been written. */
void gw__pacing_note_answered(struct gw__pacing *p, uint32_t block, uint64_t first, uint64_t n);
/* Nobody has asked for a while: more may be on its way. */
bool gw__pacing_bulk_mode(const struct gw__pacing *p);

#endif
