/* SPDX-License-Identifier: MIT */
/* Seconds that pass, for the programs of this folder. */
#ifndef GW_BENCH_CLOCK_H
#define GW_BENCH_CLOCK_H

#include <time.h>

static inline double seconds_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

#endif
