/* SPDX-License-Identifier: MIT */
/*
 * The primary of COLO whose guest runs in this process (docs/spec/colo.md). The guest is copied to the secondary while it runs; then, again and again, what it
 * wrote since. It stands still only while the rest of an epoch is copied here and its devices are saved; the epoch is sent while it runs again. Who lets the
 * guest be heard outside waits for `on_committed`. The thread of the call, which calls all hooks; channels have threads of their own.
 */
#ifndef GW_ENGINE_COLO_PRIMARY_GUEST_H
#define GW_ENGINE_COLO_PRIMARY_GUEST_H

#include "base/histogram.h"
#include "engine/core/run.h"
#include "engine/outgoing/connect.h"
#include "guest/guest.h"

enum gw__protect_order { GW__PROTECT_ORDER_NONE, GW__PROTECT_ORDER_CHECKPOINT, GW__PROTECT_ORDER_FINISH };

struct gw__primary_guest_epoch {
	uint64_t number; /* 0: the guest as it was when its protection began */
	uint64_t pages;
	uint64_t copied_in_pause; /* of these pages */
	uint64_t pause_ns;        /* how long the guest stood still */
	uint64_t commit_ns;       /* from then on until the secondary had it */
};

struct gw__primary_guest_opts {
	bool old_dialect; /* of QEMU 10.0: ENABLE_COLO, no return path, no SHUT; one channel */
	bool tls;
	uint32_t method; /* of compression, with channels; 0: none */
	int level;
	int answer_ms;                         /* for each word of the secondary in a checkpoint; -1: for ever */
	uint64_t copy_pages;                   /* an epoch with more is cut short */
	const _Atomic uint32_t *checkpoint_ms; /* between two checkpoints */
	_Atomic int *order;                    /* enum gw__protect_order; CHECKPOINT is taken back when it is done */
	/* The secondary has this epoch. May be NULL. */
	void (*on_committed)(void *ctx, const struct gw__primary_guest_epoch *epoch);
	void *ctx;
};

struct gw__primary_guest_result {
	struct gw__primary_guest_epoch last;
	bool protected;     /* there is at least epoch 0 */
	bool stays_stopped; /* the hook that lets the guest run again failed */
	bool hook;          /* a hook failed */
	uint64_t epochs;    /* without epoch 0 */
	uint64_t pages_most;
	struct gw__histogram pause; /* us */
};

/* Until it is ordered to end, which is 0, or a negative errno. The guest runs on here in any case, unless `stays_stopped`. */
int gw__primary_guest_run(struct gw__run *run, struct gw__guest *guest, struct gw__outgoing *out, const struct gw__primary_guest_opts *o,
	struct gw__primary_guest_result *result);

#endif
