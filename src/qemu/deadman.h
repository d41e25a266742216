/* SPDX-License-Identifier: MIT */
/*
 * The deadman: a process of its own that kills another one at a moment, and asks nobody. It goes on when whoever started it is frozen or dead, and ends with the
 * process that it watches, or when its starter has gone and there is no moment set.
 *
 * It kills and does not stop: a stopped process can be continued by anybody. It is real-time and locked in memory where that is allowed.
 */
#ifndef GW_QEMU_DEADMAN_H
#define GW_QEMU_DEADMAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

#define GW__DEADMAN_NEVER UINT64_MAX

struct gw__deadman { /* zeroed: none */
	pid_t pid;
	int fd;
	bool realtime;
	bool is_late; /* it has not answered: what it says later is about an earlier moment */
};

/* `process`: a pidfd. `keep_fd` (-1: none) it holds as long as it lives. Returns when it is in its place, with no moment set. */
int gw__deadman_start(struct gw__deadman *d, int process, int keep_fd, struct gw__error *error);
/*
 * By CLOCK_BOOTTIME. True when it has it, so that an earlier moment is in force from then on. False: it is gone, or has not answered in time, and its last moment is in
 * force still; nothing can be set any more.
 */
bool gw__deadman_set(struct gw__deadman *d, uint64_t boottime_ns);
/* The moment stays set. */
void gw__deadman_leave(struct gw__deadman *d);
/* It kills nobody any more, also if it stood still until now. */
void gw__deadman_end(struct gw__deadman *d);
uint64_t gw__boottime_ns(void);

#endif
