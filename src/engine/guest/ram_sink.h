/* SPDX-License-Identifier: MIT */
/*
 * The sink that makes a guest of this process out of what comes: pages into its RAM, device sections into its devices, then it runs. What does not
 * fit is refused while its source still has it. The thread of the call; lanes have one each. Freed with gw__sink_free.
 */
#ifndef GW_ENGINE_GUEST_RAM_SINK_H
#define GW_ENGINE_GUEST_RAM_SINK_H

#include "engine/core/run.h"
#include "engine/sink/sink.h"
#include "guest/guest.h"

struct gw__ram_sink_result {
	bool given;         /* its devices are loaded, and its source has heard so: it is ours from then on, and lacks pages */
	bool arrived;       /* everything is loaded: it is ours from then on, whatever its source hears */
	bool stays_stopped; /* it is not run here, as it was wished, or because the hook failed */
	int resume_failed;  /* 0, or what the hook said */
	bool hook;          /* a hook failed */
	uint64_t loaded_ns; /* when it was */
};

struct gw__lazy; /* lazy_restore.h */

/*
 * Pages of a guest that runs before they are here, because its source switched to post-copy: which came, which are awaited by a thread that touched them, and
 * which are to be requested. The thread of the stream, which may be another one after each break; a fault thread of its own (guest/demand.h) tells of pages
 * that were touched. Outlives the sink: the guest waits at the first page that it lacks.
 */
struct gw__late_pages;

/* As of gw__demand_new. Nothing has changed when it fails. */
int gw__late_pages_new(struct gw__run *run, struct gw__guest *guest, int uffd, bool user_mode, struct gw__late_pages **late);
/* What did not come reads as zeros: only of a guest that has all of it, or will not run again. NULL is fine; nulls the giver's pointer. */
void gw__late_pages_free(struct gw__late_pages **late);
uint64_t gw__late_pages_faults(const struct gw__late_pages *l);

struct gw__ram_sink_opts {
	bool stay_paused;
	struct gw__lazy *lazy;         /* pages of an image come later: all but they are here when it is ours. NULL: they come first */
	struct gw__late_pages *late;   /* its source may switch to post-copy. NULL: that is refused */
	void (*on_given)(void *ctx);   /* it is ours, and lacks pages; before it runs. With `late` */
	void (*on_arrived)(void *ctx); /* it is ours, and whole; before it runs, if it does not run yet. May be NULL */
	void (*on_runs)(void *ctx);    /* it has been let run. May be NULL */
	void *ctx;
};

/* `result` is written while the sink lives. */
int gw__ram_sink_new(struct gw__run *run, struct gw__guest *guest, const struct gw__ram_sink_opts *o, struct gw__ram_sink_result *result,
	struct gw__sink **sink);

/* The same sink in another call, after a break in post-copy. */
void gw__ram_sink_go_on(struct gw__sink *sink, struct gw__run *run, const struct gw__ram_sink_opts *o, struct gw__ram_sink_result *result);

#endif
