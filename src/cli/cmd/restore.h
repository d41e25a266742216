/* SPDX-License-Identifier: MIT */
/* What `restore` and `failover` share: they bring a guest into a QEMU, and say how that went. */
#ifndef GW_CLI_CMD_RESTORE_H
#define GW_CLI_CMD_RESTORE_H

#include "cli/cmd/postcopy_opts.h"
#include "cli/ui/command_ctx.h"

struct gw__cli_restore {
	struct gw__cli_common common;
	struct gw__command_ctx work;
	const char *path;      /* of the image; or */
	const char *folder;    /* of a protected guest, DIR/NAME */
	const uint64_t *epoch; /* of it, NULL: the last one */
	unsigned way, channels;
	unsigned clones, number; /* how many are asked for, and which this one is; 0: not said */
	bool lazy, clone, detach;
	bool primary_is_dead, accept_split_brain; /* and, of failover too: */
	const char *lease, *fence, *storage_daemon;
	struct gw_qemu_restore_opts o;
	struct gw__cli_postcopy_opts postcopy;
	struct gw_qemu_restore_result out;
};
#define GW__CLI_RESTORE_INIT(r)                                                                                                            \
	{                                                                                                                                  \
		.common = GW__CLI_COMMON_INIT, .o = GW_INIT((r).o), .out = GW_INIT((r).out)                                                \
	}

/* All of it: the exit status. */
int gw__cli_restore_run(struct gw__cli_restore *r);
/* The same for clones 1 to n, each in a process of its own. */
int gw__cli_restore_clones(struct gw__cli_restore *r, unsigned n);

#endif
