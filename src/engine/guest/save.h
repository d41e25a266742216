/* SPDX-License-Identifier: MIT */
/*
 * A guest of this process into a sink that keeps it (an image): its pages while it runs, then it is stopped for the rest and its devices, and runs on
 * before all of it is synced. As it was when it was stopped. Runs in the thread of the call.
 */
#ifndef GW_ENGINE_GUEST_SAVE_H
#define GW_ENGINE_GUEST_SAVE_H

#include "engine/core/run.h"
#include "engine/guest/source.h"
#include "engine/sink/sink.h"
#include "guest/guest.h"

struct gw__guest_save_opts {
	bool stop; /* it stays stopped once it is kept */
	const _Atomic uint32_t *limit_ms;
	const _Atomic bool *finish;
	void (*on_event)(void *ctx, const struct gw__guest_event *event); /* may be NULL */
	void *ctx;
};

struct gw__guest_save_result {
	uint64_t downtime_ns;
	bool stood_still;   /* before the call */
	bool stays_stopped; /* the hook that lets it run on failed */
	bool hook;          /* a hook failed */
};

/* 0: the sink has committed. In any case it runs again as it did, but with `stop` after a success. */
int gw__guest_save_run(struct gw__run *run, struct gw__guest *guest, struct gw__sink *sink, const struct gw__guest_save_opts *o,
	struct gw__guest_save_result *result);

#endif
