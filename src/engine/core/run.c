/* SPDX-License-Identifier: MIT */
/* Progress and defaults of a job; see run.h. */
#include "engine/core/run.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "base/math.h"
#include "io/wait.h"

enum { STEPS_PER_LOOK = 32 }; /* a look costs a system call */

static uint64_t monotonic_ns(void *ctx)
{
	(void)ctx;
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void gw__run_init(struct gw__run *run)
{
	*run = (struct gw__run){.clock = {.now_ns = monotonic_ns},
		.tail_max_bytes = GW__TRAILER_MAX_BYTES,
		.tick_ns = 100000000,
		.cancel_fd = -1};
}

void gw__run_warn(struct gw__run *run, const char *fmt, ...)
{
	struct gw__warnings *w = &run->warnings;
	if (w->n == GW__LEN(w->text))
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(w->text[w->n++], sizeof w->text[0], fmt, ap);
	va_end(ap);
}

int gw__run_check_cancel(struct gw__run *run)
{
	if (++run->steps < STEPS_PER_LOOK)
		return 0;
	run->steps = 0;
	return gw__io_cancelled(run->cancel_fd) ? gw__error_set(&run->error, -ECANCELED, "cancelled") : 0;
}

void gw__run_tick(struct gw__run *run)
{
	if (!run->tick)
		return;
	uint64_t now = gw__clock_now_ns(&run->clock);
	if (now < run->next_tick_ns)
		return;
	run->next_tick_ns = now + run->tick_ns;
	run->tick(run->tick_ctx);
}

void gw__run_phase(struct gw__run *run, enum gw__phase phase)
{
	static const char *const names[] = {"waiting", "ram", "devices", "sync", "done"};
	GW__TRACE(&run->trace, phase, "%s", names[phase]);
	atomic_store_explicit(&run->counters.phase, phase, memory_order_relaxed);
	run->next_tick_ns = 0;
	gw__run_tick(run);
}
