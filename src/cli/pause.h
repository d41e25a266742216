/* SPDX-License-Identifier: MIT */
/* Waiting, and measuring how long something took, for commands. */
#ifndef GW_CLI_PAUSE_H
#define GW_CLI_PAUSE_H

#include <time.h>

void gw__cli_sleep_ms(int ms);

struct timespec gw__cli_now(void); /* never goes back */
double gw__cli_seconds_since(const struct timespec *start);

#endif
