/* SPDX-License-Identifier: MIT */
/*
 * A restore into a QEMU, between its parts: restore.c is the call, restore_child.c starts and ends the QEMU,
 * restore_load.c gets the guest into it, or postcopy_session.c. One thread.
 */
#ifndef GW_QEMU_RESTORE_H
#define GW_QEMU_RESTORE_H

#include <sys/types.h>

#include "qemu/clone.h"
#include "qemu/driver.h"
#include "qemu/postcopy_session.h"
#include "qmp/qmp.h"

#define GW__RESTORE_INIT(q, p)                                                                                                             \
	{                                                                                                                                  \
		.driver = q, .path = p, .out.path = p, .clone = GW__CLONE_INIT                                                             \
	}

struct gw__restore {
	/* What is asked for. */
	gw_qemu *driver; /* its child is the QEMU that was started */
	const char *path;
	struct gw_qemu_restore_opts o;
	/* The last moment at which nobody runs the guest. -EOPNOTSUPP: not into this QEMU. NULL: nothing is to be done */
	int (*before_load)(void *ctx, struct gw__qmp *q, struct gw__error *error);
	void *ctx;

	/* What is found. */
	gw_info *info;
	struct gw_info_summary summary;
	struct gw__qmp *qmp;
	pid_t qemu; /* its process; 0: not known */
	struct gw__qmp_settings *before;
	struct gw_restore_plan plan;
	struct gw__postcopy_session post_copy;
	struct gw__clone clone; /* with GW_QEMU_RESTORE_CLONE */
	bool left_to_qemu;      /* QEMU has all that it needs, and cannot be stopped by what is sent or not sent */
	struct gw__error error;
	struct gw_qemu_restore_result out;
};

/* All of it, with the driver, the path and the options set; the outcome is in r->out, the sentence is the driver's. 0 or a negative errno. */
int gw__restore_execute(struct gw__restore *r);

/* Start the command with a monitor of ours and nothing to load yet. */
int gw__restore_start_child(struct gw__restore *r);
/* End it, if it is ours and has not taken the guest over. */
void gw__restore_end_child(struct gw__restore *r);
/* Has it died meanwhile? Then that is the reason, and r->error says so. */
bool gw__restore_child_died(struct gw__restore *r);

/* Compare and decide; fills r->plan. */
int gw__restore_plan(struct gw__restore *r);
/* Carry it out: 0 when the guest is in the QEMU. */
int gw__restore_load(struct gw__restore *r);

#endif
