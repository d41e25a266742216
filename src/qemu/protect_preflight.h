/* SPDX-License-Identifier: MIT */
/*
 * Whether a QEMU can be protected by checkpoints now. It asks nobody else, and leaves nothing behind: whether a netdev can have a filter is tried with one
 * that lets everything pass.
 */
#ifndef GW_QEMU_PROTECT_PREFLIGHT_H
#define GW_QEMU_PROTECT_PREFLIGHT_H

#include <stdbool.h>

#include "base/error.h"
#include "qemu/mirror.h"
#include "qemu/net_buffers.h"
#include "qmp/qmp.h"

struct gw__protect_wishes {
	const char *uri;
	unsigned channels, compression;        /* compression: enum gw_compression */
	bool memory_only;                      /* its disks and network are the user's care */
	const struct gw__net_buffers *buffers; /* what is to be held back */
	const struct gw__mirror *mirror;       /* the disks that are written to */
	bool disks;                            /* and somebody at the standby takes them */
};

/* 0; -EOPNOTSUPP, -EBUSY: not possible (now), with the reason; anything else: it could not be found out. */
int gw__protect_preflight(struct gw__qmp *q, const struct gw__qmp_settings *now, const struct gw__protect_wishes *w,
	struct gw__error *error);

#endif
