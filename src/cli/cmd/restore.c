/* SPDX-License-Identifier: MIT */
/* godwit restore: a kept guest into a QEMU, started here or waiting already. The flow. */
#include <errno.h>
#include <string.h>

#include "cli/cmd/commands.h"
#include "qemu/owner_lock.h"
#include "qmp/sleep.h"
#include "cli/cmd/restore.h"

enum { CONNECT_MS = 10000 };

/* The guest is not in this QEMU: if we started it, it ends; if not, it goes on waiting or has ended by itself. */
static int failed(struct gw__restore *r, int status)
{
	bool died = gw__restore_child_died(r), daemon = r->command && !r->child && r->qmp;
	if (died || (!r->child && !daemon))
		return gw__cli_failed(&r->common, status, "%s; %s is untouched", r->error.text, r->path);
	gw__restore_end_child(r);
	return gw__cli_failed(&r->common, status, "%s; the QEMU was ended again, %s is untouched", r->error.text, r->path);
}

static int refused(struct gw__restore *r)
{
	gw__error_clear(&r->error);
	gw__error_set(&r->error, -EINVAL, "%s", r->plan.reason);
	return failed(r, GW__EXIT_REFUSED);
}

static int not_direct(struct gw__restore *r)
{
	char error[sizeof r->plan.reason];
	snprintf(error, sizeof error, "%s", r->plan.reason);
	snprintf(r->plan.reason, sizeof r->plan.reason, "--way direct is not possible: %.480s", error);
	return refused(r);
}

static void report(struct gw__restore *r, const struct timespec *start)
{
	struct gw__qmp_status s = {.name = "unknown"};
	const char *way = r->lazy ? "lazy" : r->plan.way == GW_WAY_DIRECT ? "direct" : "stream";
	gw__qmp_query_status(r->qmp, &s, NULL);
	if (r->common.json)
		gw__cli_json(json_pack("{s:s, s:o, s:s, s:s, s:b, s:f}", "event", "restored", "image", gw__cli_json_text(r->path), "way",
			way, "state", s.name, "running", s.running, "seconds", gw__monotonic_seconds_since(start)));
	else
		gw__ui_info("restored %s of memory in %.2f s; the guest is %s", GW__SIZE(r->summary.ram_bytes),
			gw__monotonic_seconds_since(start), s.name);
}

static int hand_over(struct gw__restore *r)
{
	gw__qmp_close(r->qmp); /* from here on the guest is QEMU's alone */
	r->qmp = NULL;
	if (r->on_restored)
		r->on_restored(r->ctx);
	if (!r->child || r->detach)
		return GW__EXIT_DONE;
	return gw__restore_wait_child(r);
}

static int load_lazily(struct gw__restore *r)
{
	r->post_copy = (struct gw__postcopy_session){.path = r->path,
		.offset = r->offset,
		.opts = r->opts,
		.foreign_qemu = !r->command,
		.work = &r->work,
		.qmp = r->qmp,
		.keeper = GW__MONITOR_BROKER_INIT,
		.link = -1};
	r->post_copy.opts.link.max_bandwidth = r->max_bandwidth;
	r->post_copy.opts.link.idle_timeout_ms = r->idle_ms;
	int e = gw__postcopy_session_guard(&r->post_copy, r->address);
	if (!e)
		e = gw__postcopy_session_run(&r->post_copy);
	gw__postcopy_session_end(&r->post_copy);
	return e ? gw__error_set(&r->error, e, "%s", r->post_copy.error.text) : 0;
}

/* The guest runs already, and needs us: whatever happens, its QEMU is left alone. */
static int failed_behind(struct gw__restore *r)
{
	return gw__cli_failed(&r->common, GW__EXIT_RECOVERABLE,
		"%s; the guest runs in its QEMU until it touches a page it lacks, and waits then: godwit serve %s --qmp %s brings the rest",
		r->error.text, r->path, r->address ? r->address : r->post_copy.name);
}

/* What was started for this guest alone, and did not get it, ends. */
static int failed_lazily(struct gw__restore *r, const struct timespec *start)
{
	switch (r->post_copy.guest) {
	case GW__GUEST_COMPLETE:
		gw__ui_error(0, "%s; the guest has every page", r->error.text);
		report(r, start);
		return hand_over(r);
	case GW__GUEST_ENDED:
		gw__ui_info(
			"QEMU was shut down before it had every page, and with it the guest; %s is as it was, and older than the guest's disks",
			r->path);
		return hand_over(r);
	case GW__GUEST_POSTCOPY_PAUSED:
		return failed_behind(r);
	case GW__GUEST_UNKNOWN:
		if (r->command)
			break;
		return gw__cli_failed(&r->common, GW__EXIT_IN_DOUBT,
			"%s; whether the guest is in this QEMU is not known: godwit serve %s --qmp %s finds out", r->error.text, r->path,
			r->address);
	default:
		break;
	}
	return failed(r, GW__EXIT_FAILED);
}

static int open_monitor(struct gw__restore *r)
{
	struct gw__monitor_broker_info info;
	int e = gw__monitor_broker_ask(r->address, &info, &r->error);
	if (e == -ENOENT)
		return gw__qmp_open(r->address, CONNECT_MS, &r->qmp, &r->error);
	if (e)
		return e;
	return gw__error_set(&r->error, -EBUSY,
		"process %d holds the monitor %s: a guest of %s is in this QEMU, godwit serve goes on with it", info.pid, r->address,
		info.image);
}

/* A QEMU that is started has inherited it. */
static int hand_owner_lock(struct gw__restore *r)
{
	static const char name[] = "godwit-owner";
	if (r->owner_fd < 0)
		return 0;
	gw__owner_lock_name_owner(r->owner_fd, gw__monitor_broker_peer(gw__qmp_fd(r->qmp)));
	return r->command ? 0 : gw__qmp_call_fd(r->qmp, "getfd", json_pack("{s:s}", "fdname", name), r->owner_fd, NULL, &r->error);
}

static int run(struct gw__restore *r)
{
	struct timespec start = gw__monotonic_now();
	int e = r->command ? gw__restore_start_child(r) : open_monitor(r);
	if (e)
		return failed(r, GW__EXIT_FAILED);
	e = hand_owner_lock(r);
	if (!e)
		e = gw__restore_plan(r);
	if (e) /* -EBUSY: it waits for no guest, which plan and serve refuse as well */
		return failed(r, e == -EBUSY && !r->command ? GW__EXIT_REFUSED : GW__EXIT_FAILED);
	if (r->plan.way == GW_WAY_REFUSED)
		return refused(r);
	if (r->lazy && gw__postcopy_session_check(r->path, r->info, &r->error))
		return failed(r, GW__EXIT_REFUSED);
	if (r->way == GW__RESTORE_DIRECT && r->plan.way != GW_WAY_DIRECT)
		return not_direct(r);
	if (!r->lazy)
		gw__ui_verbose("%s", r->plan.reason);
	e = r->lazy ? load_lazily(r) : gw__restore_load(r);
	gw__cli_progress_end(&r->work.progress);
	if (e)
		return r->lazy ? failed_lazily(r, &start) : failed(r, GW__EXIT_FAILED);
	report(r, &start);
	return hand_over(r);
}

static int inspect(struct gw__restore *r)
{
	struct gw_inspect_opts o = GW_INIT(o);
	o.offset = r->offset;
	o.memory_limit = r->memory_limit;
	int e = gw_inspect(r->work.job, r->path, &o, &r->info);
	if (e)
		return gw__command_ctx_failed(&r->work, GW__EXIT_FAILED, "nothing was started");
	r->summary.size = sizeof r->summary;
	gw_info_summary(r->info, &r->summary);
	return GW__CLI_GO;
}

static int check_not_lazy(const struct gw__postcopy_session_opts *w)
{
	if (!w->listen && !w->connect && !w->link.connect_timeout_ms && !w->answer_ms && !w->tls.creds_dir && !w->tls.hostname &&
		!w->tls.priority && !w->tls.psk_name && !w->preempt && !w->working_set)
		return GW__CLI_GO;
	return gw__ui_error(GW__EXIT_USAGE,
		"--listen, --connect, --connect-timeout, --answer-timeout, --preempt, --working-set, --tls-creds and the other --tls options are of use with --lazy only");
}

int gw__restore_execute(struct gw__restore *r)
{
	int status = gw__command_ctx_begin(&r->work, &r->common);
	if (status == GW__CLI_GO)
		status = inspect(r);
	if (status == GW__CLI_GO)
		status = run(r);
	gw_info_free(r->info);
	gw__qmp_settings_free(r->before);
	gw__qmp_close(r->qmp);
	gw__command_ctx_end(&r->work);
	return status;
}

int gw__cli_restore(int argc, char **argv)
{
	struct gw__restore r = {.common = GW__CLI_COMMON_INIT, .owner_fd = -1};
	const struct gw__cli_option options[] = {
		GW__CLI_TEXT("qmp", "QMP", &r.address, "use the QEMU behind this monitor, started with -incoming defer"),
		GW__CLI_CHOICE("way", "auto|direct|stream", &r.way,
			"let QEMU read the image itself (direct), send it (stream), or whichever is possible and faster (default)"),
		GW__CLI_CHANNELS(&r.channels, "let QEMU read the image with N multifd threads (default: none)"),
		GW__CLI_BYTES("offset", "N", &r.offset, "where in the file the image begins"),
		GW__CLI_SECONDS("idle-timeout", &r.idle_ms,
			"silence of QEMU that counts as a failure while it is sent the image (default 30)"),
		GW__CLI_BYTES("memory-limit", "BYTES", &r.memory_limit, "device state held in memory at most (default: 32M)"),
		GW__CLI_PAGE_SIZE(&r.common),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &r.max_bandwidth, "send no faster than this"),
		GW__CLI_FLAG("lazy", &r.lazy, "let the guest run at once and bring its memory behind (post-copy)"),
		GW__POSTCOPY_SESSION_OPTIONS(&r.opts),
		GW__CLI_FLAG("detach", &r.detach, "leave as soon as the guest is restored instead of waiting for QEMU to end"),
		GW__CLI_COMMON(&r.common),
	};
	struct gw__cli_usage usage = GW__CLI_USAGE("IMAGE [options] (--qmp QMP | -- QEMU ARGUMENTS...)",
		"Bring a kept guest back: in a QEMU that is started with the given command, or in one that waits already.", options, 1, 1);
	usage.takes_command = true;
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status == GW__CLI_GO)
		status = gw__cli_image_name(argv[0], &args.arg[0]);
	if (status != GW__CLI_GO)
		return status;
	r.path = args.arg[0];
	r.command = args.command;
	if (!r.address == !(r.command && r.command[0]))
		return gw__ui_error(GW__EXIT_USAGE, "restore needs either --qmp QMP or -- and the command that starts QEMU");
	status = r.lazy ? gw__postcopy_session_check_opts(&r.opts) : check_not_lazy(&r.opts);
	return status == GW__CLI_GO ? gw__restore_execute(&r) : status;
}
