/* SPDX-License-Identifier: MIT */
/*
 * How long things took: a histogram whose steps grow with the value, so that a percentile is right to an eighth from
 * nanoseconds to minutes. A few kilobytes, one addition per value. Owned by one thread.
 */
#ifndef GW_BASE_HISTOGRAM_H
#define GW_BASE_HISTOGRAM_H

#include <stdint.h>

enum {
	GW__HISTOGRAM_STEP_BITS = 3, /* steps per power of two */
	GW__HISTOGRAM_BITS = 40,     /* larger values count as the largest */
	GW__HISTOGRAM_STEPS = (GW__HISTOGRAM_BITS - GW__HISTOGRAM_STEP_BITS + 1) << GW__HISTOGRAM_STEP_BITS,
};

struct gw__histogram {
	uint64_t n, max;
	uint64_t counts[GW__HISTOGRAM_STEPS];
};

void gw__histogram_add(struct gw__histogram *h, uint64_t value);
/* What `per_mille` of the values did not exceed: the upper end of its step, at most the largest value. 0 without values. */
uint64_t gw__histogram_quantile(const struct gw__histogram *h, unsigned per_mille);

#endif
