/* SPDX-License-Identifier: MIT */
/*
 * The secondary of COLO (docs/spec/colo.md): receives a primary's guest, then one epoch after the other, into a store, which also knows whether
 * anybody runs the guest here. An epoch is acknowledged as soon as the store has it. One thread, the session's.
 */
#ifndef GW_ENGINE_COLO_SECONDARY_H
#define GW_ENGINE_COLO_SECONDARY_H

#include "engine/colo/epoch_store.h"
#include "engine/incoming/accept.h"
#include "engine/core/run.h"
#include "plan/colo_secondary.h"

struct gw__colo_epoch {
	uint64_t number; /* 0: the initial migration */
	uint64_t pages, zero_pages, device_bytes;
	uint64_t pause_ns; /* from CHECKPOINT_REPLY to VMSTATE_LOADED, as seen here: most of what the primary's guest stands still */
	uint64_t merge_ns; /* of the epoch before: outside the pause */
	uint64_t memory_bytes;
};

struct gw__colo_secondary_opts {
	int checkpoint_ms; /* for the primary to ask for the next checkpoint; -1: no limit */
	int stop_fd;       /* readable: end between two epochs; -1: never. Borrowed */
	/* A new epoch is what a failover would run, 0 included. From the session's thread; may be NULL. */
	void (*on_epoch)(void *ctx, const struct gw__colo_epoch *epoch);
	/* All of this epoch is here, and the primary stands still: a failure drops it. May be NULL, as the next. */
	int (*on_boundary)(void *ctx, uint64_t number, struct gw__error *error);
	void (*on_kept)(void *ctx, uint64_t number, bool kept); /* before the image gets its name, or when there will be none */
	void *ctx;
};

struct gw__colo_secondary_result {
	enum gw__colo_secondary_state state; /* at the end: LOST, or FAILED where there never was an epoch */
	struct gw__colo_epoch last;
	uint64_t epochs;   /* that were acknowledged, the initial migration not counted */
	bool stopped;      /* by stop_fd */
	bool image_failed; /* the image of the last epoch could not be made */
};

/*
 * Until the link ends, which it always does: the result is a negative errno with a sentence that says why, or 0 when it was stopped. Whatever
 * it was, the store has finished with the last whole epoch then, unless state is FAILED or `image_failed`.
 */
int gw__colo_secondary_run(struct gw__run *run, struct gw__incoming *in, const struct gw__epoch_store *store,
	const struct gw__colo_secondary_opts *o, struct gw__colo_secondary_result *result);

#endif
