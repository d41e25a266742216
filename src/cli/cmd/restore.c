/* SPDX-License-Identifier: MIT */
/* godwit restore: a kept guest into a QEMU, started here or waiting already. Options, words and exit statuses; the work is gw_qemu_restore(). */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cmd/commands.h"
#include "cli/cmd/epoch_image.h"
#include "cli/cmd/restore.h"

static void report(const struct gw__cli_restore *r)
{
	const struct gw_qemu_restore_result *out = &r->out;
	static const char *const ways[] =
		{[GW_WAY_REFUSED] = "none", [GW_WAY_DIRECT] = "direct", [GW_WAY_STREAM] = "stream", [GW_WAY_CLONE] = "clone"};
	const char *way = r->lazy ? "lazy" : ways[out->way];
	double seconds = (double)out->elapsed_ns / 1e9;
	json_t *number = r->number ? json_integer(r->number) : NULL;
	if (r->common.json)
		gw__cli_json(gw__cli_json_at(json_pack("{s:s, s:o, s:s, s:s, s:b, s:f, s:o*}", "event", "restored", "image",
						     gw__cli_json_text(out->path), "way", way, "state", out->run_state, "running",
						     out->running, "seconds", seconds, "clone", number),
			&out->guest));
	else if (r->clone)
		gw__ui_info("cloned %s of memory in %.2f s%s%.0u; the guest is %s", GW__SIZE(out->ram_bytes), seconds,
			r->number ? ": number " : "", r->number, out->run_state);
	else
		gw__ui_info("restored %s of memory in %.2f s; the guest is %s", GW__SIZE(out->ram_bytes), seconds, out->run_state);
}

/* From here on the guest is QEMU's alone. */
static int hand_over(const struct gw__cli_restore *r)
{
	int status;
	const char *name = r->o.command ? r->o.command[0] : "";
	if (!r->out.started || r->detach || gw_qemu_wait(r->work.qemu, &status))
		return (int)r->out.guest.exit_status;
	if (gw__cli_stopped())
		gw__ui_info("%s; %s was ended with its guest, and %s is unchanged", gw__command_error(&r->work), name, r->out.path);
	if (WIFSIGNALED(status))
		return gw__ui_error(GW__EXIT_FAILED, "%s was ended by signal %d (%s)", name, WTERMSIG(status), strsignal(WTERMSIG(status)));
	return WEXITSTATUS(status) ? gw__ui_error(GW__EXIT_FAILED, "%s ended with status %d", name, WEXITSTATUS(status)) : GW__EXIT_DONE;
}

static int failed(const struct gw__cli_restore *r, const char *error)
{
	if (r->out.qemu_ended)
		return gw__cli_failed_at(&r->common, &r->out.guest, "%s; the QEMU was ended, %s is untouched", error, r->out.path);
	return gw__cli_failed_at(&r->common, &r->out.guest, "%s; %s is untouched", error, r->out.path);
}

static int end(struct gw__cli_restore *r)
{
	const char *error = gw__command_qemu_error(&r->work), *monitor = r->o.monitor ? r->o.monitor : r->out.monitor;
	switch (r->out.outcome) {
	case GW_QEMU_GUEST_IN_PRIMARY:
		return gw__cli_failed_at(&r->common, &r->out.guest, "%s; nothing was started", error);
	case GW_QEMU_GUEST_PRIMARY_UNKNOWN:
		return gw__cli_failed_at(&r->common, &r->out.guest, "%s; nothing was started", error);
	case GW_QEMU_GUEST_NOT_BEGUN:
		return gw__cli_failed_at(&r->common, &r->out.guest, "%s; nothing was started", error);
	case GW_QEMU_GUEST_REFUSED:
		return failed(r, error);
	case GW_QEMU_GUEST_DONE:
		if (*error && r->lazy)
			gw__ui_error(0, "%s; the guest has every page", error);
		report(r);
		return hand_over(r);
	case GW_QEMU_GUEST_ENDED:
		gw__ui_info(
			"QEMU and its guest were shut down before every page was loaded; %s is unchanged, and older than the guest's disks",
			r->out.path);
		return hand_over(r);
	case GW_QEMU_GUEST_WAITS: /* the guest runs already, and needs us: whatever happens, its QEMU is left alone */
		return gw__cli_failed_at(&r->common, &r->out.guest,
			"%s; the guest runs in its QEMU until it touches a missing page: start godwit serve %s --qmp %s for the rest",
			error, r->out.path, monitor);
	case GW_QEMU_GUEST_UNKNOWN:
		if (!r->lazy)
			return gw__cli_failed_at(&r->common, &r->out.guest,
				"%s; QEMU has all it needs and may run the guest soon: look at query-status of %s before you start it elsewhere",
				error, monitor);
		return gw__cli_failed_at(&r->common, &r->out.guest,
			"%s; it is not known whether the guest is in this QEMU: start godwit serve %s --qmp %s to find out", error,
			r->out.path, monitor);
	default:
		return failed(r, error);
	}
}

static int check_not_lazy(const struct gw__cli_postcopy_opts *w)
{
	if (!gw__cli_postcopy_opts_given(w))
		return GW__CLI_GO;
	return gw__ui_error(GW__EXIT_USAGE,
		"--listen, --connect, --connect-timeout, --answer-timeout, --preempt, --working-set and the --tls options need --lazy");
}

static int check_clone(const struct gw__cli_restore *r)
{
	if (!r->clone)
		return r->clones ? gw__ui_error(GW__EXIT_USAGE, "-n needs --clone") : GW__CLI_GO;
	if (r->lazy || r->way || r->channels || r->o.max_bandwidth)
		return gw__ui_error(GW__EXIT_USAGE, "--clone cannot be used with --lazy, --way, --channels and --max-bandwidth");
	if (r->clones && !r->o.command)
		return gw__ui_error(GW__EXIT_USAGE, "-n needs -- and the command that starts QEMU");
	return GW__CLI_GO;
}

/* IMAGE@EPOCH becomes a file of that name, which stays: the guest's memory may come from it for long, and by another page server. */
static int make_epoch(struct gw__cli_restore *r)
{
	char image[PATH_MAX];
	uint64_t epoch;
	if (r->folder || access(r->path, F_OK) == 0 || !gw__cli_split_epoch(r->path, image, &epoch))
		return GW__CLI_GO;
	if (gw_standby_export(r->work.job, image, epoch, r->path))
		return gw__command_ctx_failed(&r->work, GW__EXIT_FAILED, NULL);
	return GW__CLI_GO;
}

static int execute(struct gw__cli_restore *r)
{
	struct gw_qemu_failover_opts failover = {.size = sizeof failover,
		.restore = &r->o,
		.primary_is_dead = r->primary_is_dead,
		.epoch = r->epoch,
		.lease = r->lease,
		.fence = r->fence,
		.accept_split_brain = r->accept_split_brain,
		.storage_daemon = r->storage_daemon};
	int status = gw__cli_postcopy_opts_fill(&r->postcopy, r->path);
	if (status == GW__CLI_GO)
		status = gw__command_ctx_begin(&r->work, &r->common);
	if (status == GW__CLI_GO)
		status = gw__command_ctx_drive(&r->work);
	if (status == GW__CLI_GO)
		status = make_epoch(r);
	if (status != GW__CLI_GO)
		return status;
	if (r->folder)
		gw_qemu_failover(r->work.qemu, r->folder, &failover, &r->out);
	else
		gw_qemu_restore(r->work.qemu, r->path, &r->o, &r->out);
	gw__cli_progress_end(&r->work.progress);
	return end(r);
}

int gw__cli_restore_run(struct gw__cli_restore *r)
{
	static const enum gw_qemu_restore_way ways[] = {GW_QEMU_RESTORE_AUTO, GW_QEMU_RESTORE_DIRECT, GW_QEMU_RESTORE_STREAM};
	r->o.way = r->lazy ? GW_QEMU_RESTORE_LAZY : r->clone ? GW_QEMU_RESTORE_CLONE : ways[r->way];
	r->o.channels = r->channels;
	r->o.postcopy = &r->postcopy.o;
	r->postcopy.link.max_bandwidth = r->o.max_bandwidth;
	r->postcopy.link.idle_timeout_ms = r->o.idle_timeout_ms;
	int status = execute(r);
	free(r->postcopy.working_set);
	gw__command_ctx_end(&r->work);
	return status;
}

int gw__cli_restore(int argc, char **argv)
{
	struct gw__cli_restore r = GW__CLI_RESTORE_INIT(r);
	const struct gw__cli_option options[] = {
		GW__CLI_TEXT("qmp", "QMP", &r.o.monitor, "use the QEMU with this monitor, started with -incoming defer"),
		GW__CLI_CHOICE("way", "auto|direct|stream", &r.way,
			"let QEMU read the image itself (direct), send it (stream), or whichever is possible and faster (default)"),
		GW__CLI_CHANNELS(&r.channels, "let QEMU read the image with N multifd threads (default: none)"),
		GW__CLI_BYTES("offset", "N", &r.o.image_offset, "where in the file the image begins"),
		GW__CLI_SECONDS("idle-timeout", &r.o.idle_timeout_ms,
			"silence of QEMU that counts as a failure while it is sent the image (default 30)"),
		GW__CLI_BYTES("memory-limit", "BYTES", &r.o.memory_limit, "device state held in memory at most (default: 32M)"),
		GW__CLI_PAGE_SIZE(&r.common),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &r.o.max_bandwidth, "send no faster than this"),
		GW__CLI_FLAG("lazy", &r.lazy, "let the guest run immediately and load its memory while it runs (post-copy)"),
		GW__CLI_FLAG("clone", &r.clone,
			"let QEMU map the image as the guest's memory, copy-on-write: the guest runs immediately, and the image is not "
			"changed"),
		{.name = "clones",
			.letter = 'n',
			.arg = "N",
			.help = "with --clone: start the command N times, {n} in it being 1 to N",
			.type = GW__CLI_TYPE_COUNT,
			.most = 10000,
			.to.count = &r.clones},
		GW__CLI_POSTCOPY_OPTIONS(&r.postcopy),
		GW__CLI_FLAG("detach", &r.detach, "exit when the guest has all of its memory, instead of waiting for QEMU to end"),
		GW__CLI_COMMON(&r.common),
	};
	struct gw__cli_usage usage = GW__CLI_USAGE("IMAGE [options] (--qmp QMP | -- QEMU ARGUMENTS...)",
		"Restores a kept guest: in a QEMU that the given command starts, or in a waiting one.", options, 1, 1);
	usage.takes_command = true;
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status == GW__CLI_GO)
		status = gw__cli_image_name(argv[0], &args.arg[0]);
	if (status != GW__CLI_GO)
		return status;
	r.path = args.arg[0];
	r.o.command = args.command;
	if (!r.o.monitor == !(r.o.command && r.o.command[0]))
		return gw__ui_error(GW__EXIT_USAGE, "restore needs either --qmp QMP or -- and the command that starts QEMU");
	status = r.lazy ? gw__cli_postcopy_opts_check(&r.postcopy) : check_not_lazy(&r.postcopy);
	if (status == GW__CLI_GO)
		status = check_clone(&r);
	if (status != GW__CLI_GO)
		return status;
	return r.clones ? gw__cli_restore_clones(&r, r.clones) : gw__cli_restore_run(&r);
}
