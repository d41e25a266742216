/* SPDX-License-Identifier: MIT */
/*
 * The post-copy of a guest of this process, which is paused: its RAM as the page server's source of pages, and its devices in the package. Who may run
 * the guest is not known here; `source` steps plan/handover as these callbacks say. The call's thread.
 */
#ifndef GW_ENGINE_GUEST_POSTCOPY_H
#define GW_ENGINE_GUEST_POSTCOPY_H

#include "engine/guest/stream_out.h"
#include "engine/pageserver/pageserver.h"

struct gw__guest_postcopy_opts {
	bool resume;  /* the destination has it, and waits in postcopy-paused: its received bitmaps say what it lacks */
	bool confirm; /* ask whether it takes the switch, before the package leaves */
	int answer_ms;
	uint64_t max_bandwidth; /* bytes/s that the background push keeps to; 0: no limit */
	int (*on_package)(void *ctx);
	void (*on_guest_runs)(void *ctx);
	void *ctx;
};

/*
 * `stream` was begun, up to the end of a round, and its dirty pages are all that the destination does not have as they are; they are taken from it. For a
 * `resume` it was not begun. `devices`: the sections, as gw__stream_out_save_devices has them. As gw__pageserver.
 */
int gw__guest_postcopy(struct gw__run *run, struct gw__guest *guest, struct gw__stream_out *stream, struct gw__chan *chan,
	const struct gw_out *devices, const struct gw__guest_postcopy_opts *o, struct gw__pageserver_stats *stats);

#endif
