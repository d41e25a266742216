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
#include "qemu/protect.h"
#include "qmp/qmp.h"

/*
 * Also finds what is to be held back and mirrored, which is the caller's. 0; -EOPNOTSUPP, -EBUSY: not possible (now), with the reason; anything else: it could
 * not be found out.
 */
int gw__protect_preflight(struct gw__qmp *q, const struct gw__protect_opts *o, struct gw__net_buffers *buffers, struct gw__mirror *mirror,
	struct gw__error *error);
/* The guest's name, as its user gave it or as QEMU has it; "": none. -EINVAL: the standby has a folder for it, and it cannot be the name of one. */
int gw__protect_find_name(struct gw__qmp *q, const struct gw__protect_opts *o, char name[256], struct gw__error *error);
/* No migration is under way, and the guest runs here: 0; -EBUSY: not so. A guest that does not run may run elsewhere by now, and a primary lets its guest run. */
int gw__protect_check_free(struct gw__qmp *q, struct gw__error *error);
/* Whether the standby's folder `dir` has too little room for the guest's memory; then `text` says so. A hint: pages of zeros take none. */
bool gw__protect_lacks_room(struct gw__qmp *q, const char *dir, char text[300]);

#endif
