/* SPDX-License-Identifier: MIT */
/* See sleep.h. */
#include "qmp/sleep.h"

void gw__sleep_ms(int ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
	nanosleep(&t, NULL);
}

struct timespec gw__monotonic_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now;
}

double gw__monotonic_seconds_since(const struct timespec *start)
{
	struct timespec now = gw__monotonic_now();
	return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}
