/* SPDX-License-Identifier: MIT */
/* Where time comes from: rooms that wait or measure are given a clock, so that tests own time. */
#ifndef GW_BASE_CLOCK_H
#define GW_BASE_CLOCK_H

#include <stdint.h>

struct gw__clock {
	uint64_t (*now_ns)(void *ctx); /* never goes back */
	void *ctx;
};

static inline uint64_t gw__clock_now_ns(const struct gw__clock *c) { return c->now_ns(c->ctx); }

#endif
