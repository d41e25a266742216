/* SPDX-License-Identifier: MIT */
/*
 * Before a protected guest may run again: proves that its primary is dead, ends its protection, and holds its folder. Where the guest then runs is the
 * caller's business. One thread; prints nothing.
 */
#ifndef GW_QEMU_FAILOVER_H
#define GW_QEMU_FAILOVER_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include <godwit.h>

#include "base/error.h"

struct gw__failover {
	char image[PATH_MAX];
	int owner_fd;       /* the lock of owner_lock.h, for the new QEMU */
	int folder_fd;      /* nobody else protects or restores a guest of this name meanwhile */
	bool was_connected; /* the standby still had the link, and broke it */
	bool was_recovered; /* the standby had died, and its journal had the epoch */
	double age_s;       /* of the image */
};
#define GW__FAILOVER_INIT                                                                                                                  \
	{                                                                                                                                  \
		.owner_fd = -1, .folder_fd = -1                                                                                            \
	}

/*
 * 0: the guest may run, from `image`. -EBUSY: its primary runs it. -EPERM: nothing proves that it does not, and `primary_is_dead` was not said. -ENODATA: there
 * is no epoch to go on from. Another failure: it is not known, nothing was started.
 */
/* -EBUSY: a process of this host holds the guest's lock, whatever somebody says of it. Nothing is taken. */
int gw__failover_look(const char *folder, struct gw__error *error);
/* The same for an older epoch: its image is made next to that of the last one, and is what is run. -ENODATA: it is not kept. */
int gw__failover_choose(struct gw__failover *f, uint64_t epoch, gw_job *job, struct gw__error *error);
int gw__failover_prepare(struct gw__failover *f, const char *folder, bool primary_is_dead, gw_job *job, struct gw__error *error);
/* The image is not needed any more, or the new QEMU has both. */
void gw__failover_end(struct gw__failover *f);

#endif
