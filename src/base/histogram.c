/* SPDX-License-Identifier: MIT */
/* Histograms; see histogram.h. */
#include "base/histogram.h"

enum { LINEAR = 1 << GW__HISTOGRAM_STEP_BITS };

/* Up to LINEAR each value has a step of its own, then each power of two has LINEAR steps. */
static unsigned step_of(uint64_t value)
{
	if (value < LINEAR)
		return (unsigned)value;
	if (value >> GW__HISTOGRAM_BITS)
		return GW__HISTOGRAM_STEPS - 1;
	unsigned power = 63 - (unsigned)__builtin_clzll(value) - GW__HISTOGRAM_STEP_BITS;
	return (power << GW__HISTOGRAM_STEP_BITS) + (unsigned)(value >> power);
}

/* The largest value of a step. */
static uint64_t end_of(unsigned step)
{
	if (step < LINEAR)
		return step;
	unsigned power = (step >> GW__HISTOGRAM_STEP_BITS) - 1;
	return ((uint64_t)(step - (power << GW__HISTOGRAM_STEP_BITS) + 1) << power) - 1;
}

void gw__histogram_add(struct gw__histogram *h, uint64_t value)
{
	h->n++;
	h->max = value > h->max ? value : h->max;
	h->counts[step_of(value)]++;
}

uint64_t gw__histogram_quantile(const struct gw__histogram *h, unsigned per_mille)
{
	uint64_t want = h->n / 1000 * per_mille + (h->n % 1000 * per_mille + 999) / 1000, seen = 0;
	for (unsigned i = 0; h->n && i < GW__HISTOGRAM_STEPS; i++) {
		seen += h->counts[i];
		if (seen >= want && seen)
			return i == GW__HISTOGRAM_STEPS - 1 || end_of(i) > h->max ? h->max : end_of(i);
	}
	return 0;
}
