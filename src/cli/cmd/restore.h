/* SPDX-License-Identifier: MIT */
/*
 * A restore into a QEMU, between its parts: restore.c is the command, restore_child.c starts and ends the QEMU,
 * restore_load.c gets the guest into it, or postcopy_session.c. One thread.
 */
#ifndef GW_CLI_CMD_RESTORE_H
#define GW_CLI_CMD_RESTORE_H

#include <sys/types.h>

#include "qemu/postcopy_session.h"
#include "cli/ui/command_ctx.h"
#include "qmp/qmp.h"

struct gw__restore {
	/* What is asked for. */
	const char *path, *address; /* address: a waiting QEMU's monitor, or NULL */
	char **command;             /* or how to start one */
	uint64_t offset, max_bandwidth, memory_limit;
	struct gw__postcopy_session_opts opts; /* with `lazy` */
	int idle_ms;
	unsigned channels;
	unsigned way; /* enum gw__restore_way */
	bool detach;
	bool lazy;
	int owner_fd;                   /* a lock that says who runs the guest (qemu/owner_lock.h), for its QEMU to hold; -1: none */
	void (*on_restored)(void *ctx); /* the guest is in its QEMU, with all of its memory; NULL: nobody asks */
	void *ctx;
	struct gw__cli_common common;

	/* What is found. */
	struct gw__command_ctx work;
	gw_info *info;
	struct gw_info_summary summary;
	pid_t child; /* 0: none of ours */
	struct gw__qmp *qmp;
	struct gw__qmp_settings *before;
	struct gw_restore_plan plan;
	struct gw__postcopy_session post_copy;
	struct gw__error error;
};

enum gw__restore_way { GW__RESTORE_AUTO, GW__RESTORE_DIRECT, GW__RESTORE_STREAM };

/* All of it, with what is asked for: the exit status. */
int gw__restore_execute(struct gw__restore *r);

/* Start the command with a monitor of ours and nothing to load yet. */
int gw__restore_start_child(struct gw__restore *r);
/* End it, if it is ours and has not taken the guest over. */
void gw__restore_end_child(struct gw__restore *r);
/* Has it died meanwhile? Then that is the reason, and why says so. */
bool gw__restore_child_died(struct gw__restore *r);
/* Wait for its end; the exit status to leave with. */
int gw__restore_wait_child(struct gw__restore *r);

/* Compare and decide; fills r->plan. */
int gw__restore_plan(struct gw__restore *r);
/* Carry it out: 0 when the guest is in the QEMU. */
int gw__restore_load(struct gw__restore *r);

#endif
