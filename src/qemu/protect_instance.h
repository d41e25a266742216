/* SPDX-License-Identifier: MIT */
/*
 * One protection per QEMU, and how another process ends it: a file of this user's run-time folder that is named after the monitor, and then after the QEMU as well (a
 * second link to it), which may have several monitors.
 *
 * Two locks are on it. One (flock) is shared with the second process and the deadman, so that it is free only when all are done with QEMU. The other (fcntl) is the first
 * process's own, and the kernel tells whose it is.
 */
#ifndef GW_QEMU_PROTECT_INSTANCE_H
#define GW_QEMU_PROTECT_INSTANCE_H

#include <stdbool.h>

#include "base/error.h"
#include "qmp/qmp.h"

struct gw__protect_instance {
	int fd;                         /* -1: none */
	char path[160], qemu_path[160]; /* "": none */
};
#define GW__PROTECT_INSTANCE_INIT                                                                                                          \
	{                                                                                                                                  \
		.fd = -1                                                                                                                   \
	}

/* `address` as for gw__qmp_open. -EBUSY: that QEMU is protected already. */
int gw__protect_instance_take(struct gw__protect_instance *i, const char *address, struct gw__error *error);
/* Then this, as soon as QEMU answers at `address`. -EBUSY: it is protected already, by another monitor. */
int gw__protect_instance_take_qemu(struct gw__protect_instance *i, struct gw__qmp *q, const char *address, struct gw__error *error);
/* `is_shared`: a child that holds it too, as the deadman does, may act on QEMU still: it stays until that child ends. Also of none, also twice. */
void gw__protect_instance_leave(struct gw__protect_instance *i, bool is_shared);

/* Ask whoever protects this QEMU to stop, and wait until it is done. 0; -ENOENT: nobody does; -ETIMEDOUT. */
int gw__protect_instance_stop(const char *address, int patience_ms, struct gw__error *error);
/* The same, whichever monitor it uses. */
int gw__protect_instance_stop_qemu(struct gw__qmp *q, int patience_ms, struct gw__error *error);

#endif
