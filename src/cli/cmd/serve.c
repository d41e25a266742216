/* SPDX-License-Identifier: MIT */
/* godwit serve: the page server of an image for one QEMU; started again after any death of its predecessor. */
#include <errno.h>
#include <string.h>

#include "cli/cmd/commands.h"
#include "qemu/postcopy_session.h"

enum { CONNECT_MS = 10000 };

struct serve {
	struct gw__cli_common common;
	struct gw__command_ctx work;
	struct gw__postcopy_session lazy;
	const char *address;
	uint64_t memory_limit;
};

static void report(const struct serve *s)
{
	const struct gw_serve_result *r = &s->lazy.result;
	if (s->common.json)
		gw__cli_json(json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:{s:I, s:I, s:I}}", "event", "served", "image",
			gw__cli_json_text(s->lazy.path), "requests", (json_int_t)r->requests, "requested_pages",
			(json_int_t)r->requested_pages, "pushed_pages", (json_int_t)r->pushed_pages, "zero_pages",
			(json_int_t)r->zero_pages, "already_there", (json_int_t)r->already_there, "working_set_pages",
			(json_int_t)r->working_set_pages, "preempt", s->lazy.preempt != GW_PREEMPT_OFF, "latency_us", "p50",
			(json_int_t)r->latency_p50_us, "p99", (json_int_t)r->latency_p99_us, "max", (json_int_t)r->latency_max_us));
	else if (!r->requested_pages && !r->pushed_pages)
		gw__ui_info("QEMU had every page of its guest already, and took nothing of %s", s->lazy.path);
	else
		gw__ui_info("QEMU has every page of %s (%ju requested, %ju pushed) and needs it no more", s->lazy.path,
			(uintmax_t)r->requested_pages, (uintmax_t)r->pushed_pages);
}

/* Nothing is left to do for a page server; what a user of the guest's disks must know is that the image is older than they are. */
static int ended(const struct serve *s)
{
	if (s->common.json)
		gw__cli_json(json_pack("{s:s, s:o}", "event", "ended", "image", gw__cli_json_text(s->lazy.path)));
	else
		gw__ui_info(
			"QEMU was shut down before it had every page, and with it the guest; %s is as it was, and older than the guest's disks",
			s->lazy.path);
	return GW__EXIT_DONE;
}

static int failed(struct serve *s)
{
	const struct gw__postcopy_session *l = &s->lazy;
	switch (l->guest) {
	case GW__GUEST_COMPLETE:
		gw__ui_error(0, "%s; the guest has every page", l->error.text);
		report(s);
		return GW__EXIT_DONE;
	case GW__GUEST_ENDED:
		return ended(s);
	case GW__GUEST_POSTCOPY_PAUSED:
		if (l->refused)
			return gw__cli_failed(&s->common, GW__EXIT_RECOVERABLE, "%s; the guest in QEMU waits on", l->error.text);
		return gw__cli_failed(&s->common, GW__EXIT_RECOVERABLE,
			"%s; the guest runs in QEMU until it touches a page it lacks, and waits then: start godwit serve %s --qmp %s again",
			l->error.text, l->path, s->address);
	case GW__GUEST_UNKNOWN:
		return gw__cli_failed(&s->common, GW__EXIT_IN_DOUBT,
			"%s; whether the guest is in this QEMU is not known: start godwit serve %s --qmp %s again", l->error.text, l->path,
			s->address);
	default:
		if (l->refused)
			return gw__cli_failed(&s->common, GW__EXIT_REFUSED, "%s", l->error.text);
		return gw__cli_failed(&s->common, GW__EXIT_FAILED, "%s; no guest runs in this QEMU, %s is untouched", l->error.text,
			l->path);
	}
}

/* A guest that QEMU runs already needs this image: asked for the exit status only, and a QEMU that does not answer is in doubt anyhow. */
static bool guest_waits(const struct serve *s)
{
	enum { LOOK_MS = 3000 };
	struct gw__monitor_broker_info keeper;
	struct gw__error error = {0};
	struct gw__qmp *q = NULL;
	struct gw__qmp_migration m = {0};
	int r = gw__monitor_broker_ask(s->address, &keeper, &error);
	if (r != -ENOENT) /* a monitor broker stays only where a guest may need a successor */
		return true;
	gw__error_clear(&error);
	r = gw__qmp_open(s->address, LOOK_MS, &q, &error);
	if (!r)
		r = gw__qmp_query_migrate(q, &m, &error);
	gw__qmp_close(q);
	return !r && !strncmp(m.status, "postcopy", strlen("postcopy"));
}

/* Before QEMU is touched: an image that cannot be read starts nothing. */
static int look_at_image(struct serve *s)
{
	struct gw_inspect_opts o = GW_INIT(o);
	gw_info *info = NULL;
	o.offset = s->lazy.offset;
	o.memory_limit = s->memory_limit;
	if (gw_inspect(s->work.job, s->lazy.path, &o, &info))
		return guest_waits(s)
			       ? gw__command_ctx_failed(&s->work, GW__EXIT_RECOVERABLE,
					 "the guest in QEMU waits for its pages: bring the image back as it was and start godwit serve again")
			       : gw__command_ctx_failed(&s->work, GW__EXIT_FAILED, "QEMU was not asked for anything");
	int r = gw__postcopy_session_check(s->lazy.path, info, &s->lazy.error);
	struct gw_info_summary sum = GW_INIT(sum);
	gw_info_summary(info, &sum);
	s->lazy.memory_only = sum.memory_only;
	gw_info_free(info);
	return r ? gw__cli_failed(&s->common, GW__EXIT_REFUSED, "%s", s->lazy.error.text) : GW__CLI_GO;
}

static int run(struct serve *s)
{
	s->lazy.work = &s->work;
	s->lazy.foreign_qemu = true;
	int r = gw__postcopy_session_open(&s->lazy, s->address, CONNECT_MS);
	if (r == -ETIMEDOUT ||
		(r && s->lazy.guest ==
				GW__GUEST_UNKNOWN)) /* QEMU's main loop can be held up by a guest that waits for a page; then no new monitor is served */
		return gw__cli_failed(&s->common, GW__EXIT_IN_DOUBT,
			"%s; nothing was sent. A guest that waits for a page can hold its QEMU up: start the command again",
			s->lazy.error.text);
	if (r)
		return gw__cli_failed(&s->common, s->lazy.refused ? GW__EXIT_REFUSED : GW__EXIT_FAILED, "%s; nothing was sent",
			s->lazy.error.text);
	r = gw__postcopy_session_run(&s->lazy);
	gw__cli_progress_end(&s->work.progress);
	if (r)
		return failed(s);
	report(s);
	return GW__EXIT_DONE;
}

int gw__cli_serve(int argc, char **argv)
{
	struct serve s = {.common = GW__CLI_COMMON_INIT, .lazy = GW__POSTCOPY_SESSION_INIT};
	const struct gw__cli_option options[] = {
		GW__CLI_TEXT("qmp", "QMP", &s.address,
			"the monitor of the QEMU: one that waits (-incoming defer), or one whose pages stopped coming"),
		GW__CLI_BYTES("offset", "N", &s.lazy.offset, "where in the file the image begins"),
		GW__CLI_FLAG("resume", &s.lazy.opts.resume_only, "only go on with a guest that waits for its pages"),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &s.lazy.opts.link.max_bandwidth, "push no faster than this"),
		GW__CLI_SECONDS("idle-timeout", &s.lazy.opts.link.idle_timeout_ms,
			"silence that counts as a broken link (default: 30; none: wait for ever)"),
		GW__POSTCOPY_SESSION_OPTIONS(&s.lazy.opts),
		GW__CLI_BYTES("memory-limit", "BYTES", &s.memory_limit, "device state looked at in memory at most (default: 32M)"),
		GW__CLI_COMMON(&s.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("IMAGE --qmp QMP [options]",
		"Let a QEMU run the guest of an image at once and bring its memory as it touches it (post-copy). May be killed and started again "
		"at any moment: QEMU then says which pages it has.",
		options, 1, 1);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status == GW__CLI_GO)
		status = gw__cli_image_name(argv[0], &args.arg[0]);
	if (status != GW__CLI_GO)
		return status;
	s.lazy.path = args.arg[0];
	if (!s.address)
		return gw__ui_error(GW__EXIT_USAGE, "serve needs --qmp QMP, the monitor of the QEMU that is to run the guest");
	status = gw__postcopy_session_check_opts(&s.lazy.opts);
	if (status == GW__CLI_GO)
		status = gw__command_ctx_begin(&s.work, &s.common);
	if (status == GW__CLI_GO)
		status = look_at_image(&s);
	if (status == GW__CLI_GO)
		status = run(&s);
	gw__postcopy_session_end(&s.lazy);
	gw__qmp_close(s.lazy.qmp);
	gw__command_ctx_end(&s.work);
	return status;
}
