/* SPDX-License-Identifier: MIT */
/* Whether a QEMU can be protected by checkpoints now. It changes nothing there, and asks nobody else. */
#ifndef GW_QEMU_PROTECT_PREFLIGHT_H
#define GW_QEMU_PROTECT_PREFLIGHT_H

#include <stdbool.h>

#include "base/error.h"
#include "qmp/qmp.h"

struct gw__protect_wishes {
	const char *uri;
	unsigned channels, compression; /* compression: enum gw_compression */
	bool memory_only;               /* its disks and network are the user's care */
};

/* 0; -EOPNOTSUPP, -EBUSY: not possible (now), with the reason; anything else: it could not be found out. */
int gw__protect_preflight(struct gw__qmp *q, const struct gw__qmp_settings *now, const struct gw__protect_wishes *w,
	struct gw__error *error);

#endif
