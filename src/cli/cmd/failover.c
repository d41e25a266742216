/* SPDX-License-Identifier: MIT */
/* godwit failover: let a protected guest go on from its last checkpoint, when its primary is dead. The proof is in qemu/failover.c, the rest is a restore. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cli/cmd/commands.h"
#include "cli/cmd/restore.h"
#include "qemu/failover.h"

struct failover {
	struct gw__restore restore;
	struct gw__failover held;
	const char *folder;
	char image[PATH_MAX];
	bool primary_is_dead, eager;
};

static int not_prepared(const struct failover *f, int r, const struct gw__error *error)
{
	int status = r == -EBUSY || r == -EPERM ? GW__EXIT_REFUSED : r == -ENODATA ? GW__EXIT_FAILED : GW__EXIT_IN_DOUBT;
	return gw__cli_failed(&f->restore.common, status, "%s; nothing was started", error->text);
}

/* The new QEMU alone has the lock now, and its guest may be protected in the same folder again. */
static void on_restored(void *ctx) { gw__failover_end(ctx); }

static int run(struct failover *f)
{
	struct gw__error error = {0};
	gw__ui_set_verbosity(f->restore.common.quiet, f->restore.common.verbose);
	int r = gw__failover_prepare(&f->held, f->folder, f->primary_is_dead, &error);
	if (r)
		return not_prepared(f, r, &error);
	gw__ui_info("the guest goes on from its last checkpoint%s", f->held.was_connected ? "; its standby has ended the protection" : "");
	gw__ui_verbose("the image %s was made %.1f s ago", f->held.image, f->held.age_s);
	snprintf(f->image, sizeof f->image, "%s", f->held.image);
	f->restore.path = f->image;
	f->restore.owner_fd = f->held.owner_fd;
	f->restore.on_restored = on_restored;
	f->restore.ctx = &f->held;
	int status = gw__restore_execute(&f->restore);
	gw__failover_end(&f->held);
	return status;
}

int gw__cli_failover(int argc, char **argv)
{
	struct failover f = {.restore = {.common = GW__CLI_COMMON_INIT}, .held = GW__FAILOVER_INIT};
	struct gw__restore *r = &f.restore;
	const struct gw__cli_option options[] = {
		GW__CLI_TEXT("qmp", "QMP", &r->address, "use the QEMU behind this monitor, started with -incoming defer"),
		GW__CLI_FLAG("primary-is-dead", &f.primary_is_dead,
			"you have made sure that the primary does not run the guest any more, where no lock proves it"),
		GW__CLI_FLAG("eager", &f.eager, "let the guest run when all of its memory is there, instead of at once (post-copy)"),
		GW__CLI_FLAG("detach", &r->detach, "leave as soon as the guest is restored instead of waiting for QEMU to end"),
		GW__CLI_COMMON(&r->common),
	};
	struct gw__cli_usage usage = GW__CLI_USAGE("DIR/NAME [options] (--qmp QMP | -- QEMU ARGUMENTS...)",
		"Lets a guest that godwit standby protects in DIR/NAME go on from its last checkpoint, in a QEMU that is started with the given command or in "
		"one that waits already. Never while its primary may run it still.",
		options, 1, 1);
	usage.takes_command = true;
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status != GW__CLI_GO)
		return status;
	f.folder = args.arg[0];
	r->command = args.command;
	r->lazy = !f.eager;
	if (!r->address == !(r->command && r->command[0]))
		return gw__ui_error(GW__EXIT_USAGE, "failover needs either --qmp QMP or -- and the command that starts QEMU");
	return run(&f);
}
