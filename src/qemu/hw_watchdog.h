/* SPDX-License-Identifier: MIT */
/*
 * A hardware watchdog, /dev/watchdogN: while it is armed, it resets the host unless it is armed again in time. It stays armed when whoever armed it dies.
 * One process at a time has it open; forks of that process share it. arm and disarm make system calls alone.
 */
#ifndef GW_QEMU_HW_WATCHDOG_H
#define GW_QEMU_HW_WATCHDOG_H

#include <stdbool.h>

#include "base/error.h"

/* A descriptor of it, not armed; closed on exec. -EOPNOTSUPP: it is no watchdog, or one that cannot be disarmed; -EBUSY: another program has it. */
int gw__hw_watchdog_open(const char *path, struct gw__error *error);
/* It resets the host in at most so many seconds. False: it may not, and the time of an earlier call is in force. */
bool gw__hw_watchdog_arm(int fd, unsigned seconds);
void gw__hw_watchdog_disarm(int fd);

#endif
