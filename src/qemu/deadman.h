/* SPDX-License-Identifier: MIT */
/*
 * The deadman: a process of its own that kills another one at a moment, and asks nobody. It goes on when whoever started it is frozen or dead, and ends with the
 * process that it watches, or when its starter has gone and there is no moment set.
 *
 * It kills and does not stop: a stopped process can be continued by anybody. It is real-time and locked in memory where that is allowed. With a hardware watchdog
 * the host is reset if even that is not done in time; then it kills a second before its moment, so that the watchdog need not.
 */
#ifndef GW_QEMU_DEADMAN_H
#define GW_QEMU_DEADMAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

#define GW__DEADMAN_NEVER UINT64_MAX
enum { GW__DEADMAN_RESET_MS = 1000 }; /* from the moment, until a watchdog has reset the host at the latest */

struct gw__deadman { /* zeroed: none */
	pid_t pid;
	int fd;
	bool realtime;
	bool is_late; /* it has not answered: what it says later is about an earlier moment */
};

/*
 * `process`: a pidfd. `keep_fd` (-1: none) it holds as long as it lives. `watchdog`: of hw_watchdog.h; -1: none. Returns when it is in its place, with no
 * moment set.
 */
int gw__deadman_start(struct gw__deadman *d, int process, int keep_fd, int watchdog, struct gw__error *error);
/*
 * By CLOCK_BOOTTIME. True when it has it, so that an earlier moment is in force from then on. False: it is gone, has not answered in time, or cannot arm its
 * watchdog; its last moment is in force still, and nothing can be set any more.
 */
bool gw__deadman_set(struct gw__deadman *d, uint64_t boottime_ns);
/* The moment stays set. */
void gw__deadman_leave(struct gw__deadman *d);
/* It kills nobody any more, also if it stood still until now. */
void gw__deadman_end(struct gw__deadman *d);
uint64_t gw__boottime_ns(void);

#endif
