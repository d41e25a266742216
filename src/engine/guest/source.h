/* SPDX-License-Identifier: MIT */
/*
 * A guest of this process as the source of a migration: copied while it runs, round by round, then stopped, and handed over; or it is stopped earlier and runs
 * at the destination before its pages have arrived (post-copy). Runs to its end in the thread of the call, which calls all hooks; the channels have threads
 * of their own.
 */
#ifndef GW_ENGINE_GUEST_SOURCE_H
#define GW_ENGINE_GUEST_SOURCE_H

#include "engine/core/run.h"
#include "engine/outgoing/connect.h"
#include "engine/pageserver/pageserver.h"
#include "guest/guest.h"
#include "plan/converge.h"
#include "plan/handover.h"

enum gw__guest_event_kind { GW__GUEST_EVENT_ROUND, GW__GUEST_EVENT_STOPPED, GW__GUEST_EVENT_RUNS, GW__GUEST_EVENT_RUNS_THERE };
struct gw__guest_event {
	enum gw__guest_event_kind kind;
	uint64_t round, dirty_pages, sent_bytes, bandwidth; /* ROUND: it is over, and so many pages were written meanwhile */
	uint64_t downtime_ns;                               /* RUNS: here, again or at last. RUNS_THERE: as seen from here */
};

/* When a guest is switched to post-copy. */
enum gw__guest_postcopy_when {
	GW__POSTCOPY_NEVER,
	GW__POSTCOPY_IF_NEEDED, /* as plan/converge says, or on order */
	GW__POSTCOPY_AFTER_ROUND,
	GW__POSTCOPY_AT_ONCE,
	GW__POSTCOPY_ON_ORDER,
};

struct gw__guest_source_opts {
	uint32_t method; /* of compression, with channels: 0, GW__MULTIFD_ZLIB, GW__MULTIFD_ZSTD */
	int level;
	uint64_t delta_bytes; /* memory for pages as they were sent; 0: pages go whole. Not with channels */
	bool tls;             /* pages are enciphered, so from a copy */
	bool confirm;         /* ask whether everything is loaded, or the switch is taken, before this side gives up the right to run it */
	int answer_ms;
	enum gw__converge_policy policy;                        /* GIVE_UP or STOP, when it does not get there */
	uint32_t patience;                                      /* rounds without progress before that. 0: the usual */
	uint64_t give_up_ns;                                    /* 0: no limit */
	const _Atomic uint32_t *limit_ms;                       /* how long it may stand still */
	const _Atomic bool *finish;                             /* stop it now */
	enum gw__guest_postcopy_when postcopy;                  /* but NEVER: not with channels */
	const _Atomic bool *switch_now;                         /* to post-copy */
	uint64_t max_bandwidth;                                 /* of the push in post-copy; 0: no limit */
	int (*open_preempt)(void *ctx, struct gw__chan **chan); /* post-copy: a second connection, for what is requested; NULL: none */
	void (*on_held)(void *ctx, const struct gw__location *location);  /* the destination runs it, and needs pages from here */
	void (*on_event)(void *ctx, const struct gw__guest_event *event); /* may be NULL */
	void *ctx;
};

struct gw__guest_source_result {
	struct gw__location location;                /* as plan/handover has it */
	uint64_t downtime_ns, bandwidth, dirty_rate; /* bytes/s, when it was decided to stop */
	bool hook;                                   /* a hook failed */
	bool postcopy;                               /* bytes of a package left: it may be resumed */
	struct gw__pageserver_stats pages;           /* of the post-copy */
	uint64_t delta_pages, delta_bytes;           /* that went instead of whole pages */
};

/*
 * 0: the destination has said that it has the guest. On failure it runs here again where nobody else can have it; else it stands
 * still, and the location says that both may.
 */
int gw__guest_source_run(struct gw__run *run, struct gw__guest *guest, struct gw__outgoing *out, const struct gw__guest_source_opts *o,
	struct gw__guest_source_result *result);
/*
 * Goes on with the post-copy of a guest whose destination waits in postcopy-paused at the other end of `out`; `location` is where it was left, with
 * everything here as it was then. As above, but the guest never runs here again.
 */
int gw__guest_source_resume(struct gw__run *run, struct gw__guest *guest, struct gw__outgoing *out, const struct gw__guest_source_opts *o,
	struct gw__location location, struct gw__guest_source_result *result);

#endif
