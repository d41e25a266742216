/* SPDX-License-Identifier: MIT */
/*
 * The end of a protection that another process keeps, or that was left by processes that were killed. It knows of it what the monitor's file says
 * (protect_instance.h), and what is in QEMU. Any thread.
 */
#ifndef GW_QEMU_PROTECT_STOP_H
#define GW_QEMU_PROTECT_STOP_H

#include "base/error.h"

/*
 * Ends the protection of the QEMU at `address`, as for gw__qmp_open. 0: it was stopped, and QEMU is as before. GW__PROTECT_WAS_IDLE: nobody protected it,
 * and nothing was to be done. GW__PROTECT_WAS_LEFT: nobody did, and the guest was released from a protection that somebody had left.
 */
enum { GW__PROTECT_WAS_IDLE = 1, GW__PROTECT_WAS_LEFT = 2 };
int gw__protect_stop(const char *address, int patience_ms, struct gw__error *error);

#endif
