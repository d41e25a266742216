/* SPDX-License-Identifier: MIT */
/* Waiting, and measuring how long something took, for commands. */
#ifndef GW_QMP_SLEEP_H
#define GW_QMP_SLEEP_H

#include <time.h>

void gw__sleep_ms(int ms);

struct timespec gw__monotonic_now(void); /* never goes back */
double gw__monotonic_seconds_since(const struct timespec *start);

#endif
