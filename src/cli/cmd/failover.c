/* SPDX-License-Identifier: MIT */
/* godwit failover: let a protected guest go on from its last checkpoint, when its primary is dead. Options; the words are those of restore. */
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/cmd/commands.h"
#include "cli/cmd/epoch_image.h"
#include "cli/cmd/restore.h"

int gw__cli_failover(int argc, char **argv)
{
	struct gw__cli_restore r = GW__CLI_RESTORE_INIT(r);
	bool eager = false;
	char image[PATH_MAX];
	const struct gw__cli_option options[] = {
		GW__CLI_TEXT("qmp", "QMP", &r.o.monitor, "use the QEMU with this monitor, started with -incoming defer"),
		GW__CLI_FLAG("primary-is-dead", &r.primary_is_dead,
			"you have made sure that the primary no longer runs the guest, and no lock proves it"),
		GW__CLI_TEXT("lease", "URL", &r.lease, "first take the lease that protect was given (etcd://HOST:PORT/KEY, file:PATH)"),
		GW__CLI_TEXT("fence", "exec:CMD", &r.fence,
			"with --lease: run CMD, which must end the primary; its argument is the lease's generation"),
		GW__CLI_FLAG("accept-split-brain", &r.accept_split_brain,
			"with --lease: trust only the lease's term that a primary on another host has ended"),
		GW__CLI_TEXT("storage-daemon", "PROGRAM", &r.storage_daemon,
			"with @EPOCH and disks: the qemu-storage-daemon that makes their files (default: as PATH has it)"),
		GW__CLI_FLAG("eager", &eager, "let the guest run when all of its memory is loaded, instead of immediately (post-copy)"),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &r.o.max_bandwidth, "send the memory no faster than this"),
		GW__CLI_FLAG("detach", &r.detach, "exit when the guest has all of its memory, instead of waiting for QEMU to end"),
		GW__CLI_COMMON(&r.common),
	};
	struct gw__cli_usage usage = GW__CLI_USAGE("DIR/NAME[@EPOCH] [options] (--qmp QMP | -- QEMU ARGUMENTS...)",
		"Starts a guest that godwit standby protects in DIR/NAME from its last checkpoint, in a QEMU that the given command starts or in a waiting "
		"one. It refuses while the primary may still run the guest.",
		options, 1, 1);
	usage.takes_command = true;
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status != GW__CLI_GO)
		return status;
	uint64_t epoch;
	char folder[PATH_MAX];
	r.folder = args.arg[0];
	if (access(r.folder, F_OK) && gw__cli_split_epoch(r.folder, folder, &epoch)) {
		r.folder = folder;
		r.epoch = &epoch;
	}
	r.o.command = args.command;
	r.lazy = !eager;
	if ((r.fence || r.accept_split_brain) && !r.lease)
		return gw__ui_error(GW__EXIT_USAGE, "--fence and --accept-split-brain need --lease");
	if (r.storage_daemon && !r.epoch)
		return gw__ui_error(GW__EXIT_USAGE, "--storage-daemon needs DIR/NAME@EPOCH: the disks of the last epoch are there already");
	if (!r.o.monitor == !(r.o.command && r.o.command[0]))
		return gw__ui_error(GW__EXIT_USAGE, "failover needs either --qmp QMP or -- and the command that starts QEMU");
	int n = r.epoch ? snprintf(image, sizeof image, "%s/guest.img@%ju", r.folder, (uintmax_t)epoch)
			: snprintf(image, sizeof image, "%s/guest.img", r.folder);
	if (n < 0 || n >= (int)sizeof image)
		return gw__ui_error(GW__EXIT_USAGE, "the name of %s is too long", r.folder);
	r.path = image; /* whose working set is beside it */
	return gw__cli_restore_run(&r);
}
