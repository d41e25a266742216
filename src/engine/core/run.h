/* SPDX-License-Identifier: MIT */
/*
 * What one job lends to everything it runs: the failure's sentence, counters, trace, limits.
 * Owned by the job's main thread; the counters alone may be read by others.
 */
#ifndef GW_ENGINE_CORE_RUN_H
#define GW_ENGINE_CORE_RUN_H

#include <stdatomic.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/trace.h"

/* Counters for progress. Written by the main thread, read by anybody. */
struct gw__counters {
	_Atomic uint64_t total_bytes; /* guest RAM, all blocks; 0 until known */
	_Atomic uint64_t moved_bytes; /* of the stream or image so far */
	_Atomic uint64_t pages, zero_pages;
	_Atomic uint32_t rounds; /* iterations the source finished */
	_Atomic uint32_t phase;  /* enum gw__phase */
};

enum gw__phase { GW__PHASE_WAITING, GW__PHASE_RAM, GW__PHASE_DEVICES, GW__PHASE_SYNC, GW__PHASE_DONE };

struct gw__blocks; /* wire/ram.h */

/* What is legal and odd, for people; one thread, the main thread. What is too much is left out. */
struct gw__warnings {
	char text[16][200];
	unsigned n;
};

/*
 * Whoever has a monitor of the source has a say before the image gets its name. From the main thread; either may be NULL. `on_whole`: the
 * guest is whole and synced, the source waits to be told; 0, GW__SAY_FAILED, or a negative errno. `on_source_notified`: it was told; 0 or a negative errno.
 */
enum { GW__SAY_FAILED = 1 };
struct gw__say {
	int (*on_whole)(void *ctx, const char *machine, const char *run_state, const struct gw__blocks *blocks);
	int (*on_source_notified)(void *ctx);
	void *ctx;
};

struct gw__run {
	struct gw__say say; /* all NULL: nobody has */
	struct gw__error error;
	struct gw__warnings warnings;
	struct gw__counters counters;
	struct gw__trace trace;
	struct gw__clock clock;
	int cancel_fd;             /* readable when the job is cancelled; -1: never. Borrowed. */
	uint64_t page_bytes;       /* of the target, as the user says; 0: he does not */
	uint64_t usual_page_bytes; /* of a target that may state another; 0: not known */
	size_t tail_max_bytes;     /* device state and description held in memory */
	void (*tick)(void *ctx);   /* progress, from the main thread, at most every tick_ns; may be NULL */
	void *tick_ctx;
	uint64_t tick_ns, next_tick_ns;
	unsigned steps; /* since cancel_fd was looked at */
};

enum { GW__TRAILER_MAX_BYTES = 32 << 20 };

void gw__run_init(struct gw__run *run);
void gw__run_warn(struct gw__run *run, const char *fmt, ...) GW__PRINTF(2, 3);
/*
 * For loops that work for long on bytes that came already, where no channel looks: 0, or -ECANCELED with a sentence. Looks every few
 * calls.
 */
int gw__run_check_cancel(struct gw__run *run);
void gw__run_tick(struct gw__run *run);                        /* calls tick when it is time */
void gw__run_phase(struct gw__run *run, enum gw__phase phase); /* and ticks immediately */

#endif
