/* SPDX-License-Identifier: MIT */
/*
 * The disks that a standby kept with the last epoch of a guest (qemu/storage.h), for the QEMU that goes on from it. An image's memory and its disks are of
 * one moment only until a guest has written to them: after that they are refused.
 */
#ifndef GW_QEMU_FAILOVER_DISKS_H
#define GW_QEMU_FAILOVER_DISKS_H

#include <stdint.h>

#include "base/error.h"

struct gw__failover_disk {
	char id[64];
	char *path; /* of a qcow2 file */
};
struct gw__failover_disks {
	struct gw__failover_disk *disks;
	unsigned n;
	char **command; /* what fill has made */
};

/* Of this epoch, once gw__storage_branch was called; NULL: of the last one. None is fine. -ESTALE: a guest has written to one already. */
int gw__failover_disks_find(struct gw__failover_disks *d, const char *folder, const uint64_t *epoch, struct gw__error *error);
/* `command` with each {disk:ID} replaced by its path. -EINVAL: one is not mentioned, or there is none of that name. */
int gw__failover_disks_fill(struct gw__failover_disks *d, char *const *command, struct gw__error *error);
/* Does the QEMU behind this monitor have all of them? -EBUSY: no, with the paths. */
int gw__failover_disks_are_in(const struct gw__failover_disks *d, const char *monitor, struct gw__error *error);
/* From now on they are a guest's: no standby removes them. */
int gw__failover_disks_use(const struct gw__failover_disks *d, const char *folder, struct gw__error *error);
void gw__failover_disks_fini(struct gw__failover_disks *d);

#endif
