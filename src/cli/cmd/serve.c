/* SPDX-License-Identifier: MIT */
/* godwit serve: the page server of an image for one QEMU. Options, words and exit statuses; the work is gw_qemu_serve(). */
#include <stdint.h>
#include <stdlib.h>

#include "cli/cmd/commands.h"
#include "cli/cmd/postcopy_opts.h"
#include "cli/ui/command_ctx.h"

struct serve {
	struct gw__cli_common common;
	struct gw__command_ctx work;
	const char *monitor, *path;
	struct gw_qemu_serve_opts o;
	struct gw__cli_postcopy_opts postcopy;
	struct gw_qemu_serve_result out;
};

static void report(const struct serve *s)
{
	const struct gw_qemu_serve_result *r = &s->out;
	if (s->common.json)
		gw__cli_json(gw__cli_json_at(json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:{s:I, s:I, s:I}}", "event",
						     "served", "image", gw__cli_json_text(s->path), "requests", (json_int_t)r->requests,
						     "requested_pages", (json_int_t)r->requested_pages, "pushed_pages",
						     (json_int_t)r->pushed_pages, "zero_pages", (json_int_t)r->zero_pages, "already_there",
						     (json_int_t)r->already_there, "working_set_pages", (json_int_t)r->working_set_pages,
						     "preempt", r->preempt, "latency_us", "p50", (json_int_t)r->latency_p50_us, "p99",
						     (json_int_t)r->latency_p99_us, "max", (json_int_t)r->latency_max_us),
			&r->guest));
	else if (!r->requested_pages && !r->pushed_pages)
		gw__ui_info("QEMU already had every page of its guest, and took nothing from %s", s->path);
	else
		gw__ui_info("QEMU has every page of %s (%ju requested, %ju pushed) and no longer needs it", s->path,
			(uintmax_t)r->requested_pages, (uintmax_t)r->pushed_pages);
}

/* Nothing is left to do for a page server; what a user of the guest's disks must know is that the image is older than they are. */
static int ended(const struct serve *s)
{
	if (s->common.json)
		gw__cli_json(
			gw__cli_json_at(json_pack("{s:s, s:o}", "event", "ended", "image", gw__cli_json_text(s->path)), &s->out.guest));
	else
		gw__ui_info(
			"QEMU and its guest were shut down before every page was loaded; %s is unchanged, and older than the guest's disks",
			s->path);
	return (int)s->out.guest.exit_status;
}

static int waits(const struct serve *s, const char *error)
{
	if (s->out.image_unreadable)
		return gw__cli_failed_at(&s->common, &s->out.guest,
			"%s; the guest in QEMU waits for its pages: restore the original image file and start godwit serve again", error);
	if (s->out.refused)
		return gw__cli_failed_at(&s->common, &s->out.guest, "%s; the guest in QEMU still waits", error);
	return gw__cli_failed_at(&s->common, &s->out.guest,
		"%s; the guest runs in QEMU until it touches a missing page: start godwit serve %s --qmp %s again", error, s->path,
		s->monitor);
}

static int end(struct serve *s)
{
	const char *error = gw__command_qemu_error(&s->work);
	switch (s->out.outcome) {
	case GW_QEMU_GUEST_NOT_BEGUN:
		return gw__cli_failed_at(&s->common, &s->out.guest, "%s; %s", error,
			s->out.image_unreadable ? "QEMU was not asked for anything" : "nothing was sent");
	case GW_QEMU_GUEST_REFUSED:
		return gw__cli_failed_at(&s->common, &s->out.guest, "%s", error);
	case GW_QEMU_GUEST_DONE:
		if (*error)
			gw__ui_error(0, "%s; the guest has every page", error);
		report(s);
		return (int)s->out.guest.exit_status;
	case GW_QEMU_GUEST_ENDED:
		return ended(s);
	case GW_QEMU_GUEST_WAITS:
		return waits(s, error);
	case GW_QEMU_GUEST_UNKNOWN:
		return gw__cli_failed_at(&s->common, &s->out.guest,
			"%s; it is not known whether the guest is in this QEMU: start godwit serve %s --qmp %s again", error, s->path,
			s->monitor);
	case GW_QEMU_GUEST_SILENT:
		return gw__cli_failed_at(&s->common, &s->out.guest,
			"%s; nothing was sent. A guest that waits for a page can block its QEMU: start the command again", error);
	default:
		return gw__cli_failed_at(&s->common, &s->out.guest, "%s; no guest runs in this QEMU, %s is untouched", error, s->path);
	}
}

static int run(struct serve *s)
{
	s->o.postcopy = &s->postcopy.o;
	int status = gw__cli_postcopy_opts_fill(&s->postcopy, s->path);
	if (status == GW__CLI_GO)
		status = gw__command_ctx_begin(&s->work, &s->common);
	if (status == GW__CLI_GO)
		status = gw__command_ctx_drive(&s->work);
	if (status != GW__CLI_GO)
		return status;
	gw_qemu_serve(s->work.qemu, s->monitor, s->path, &s->o, &s->out);
	gw__cli_progress_end(&s->work.progress);
	return end(s);
}

int gw__cli_serve(int argc, char **argv)
{
	struct serve s = {.common = GW__CLI_COMMON_INIT, .o = GW_INIT(s.o), .out = GW_INIT(s.out)};
	const struct gw__cli_option options[] = {
		GW__CLI_TEXT("qmp", "QMP", &s.monitor,
			"the monitor of a QEMU that waits for a guest (-incoming defer) or for pages (postcopy-paused)"),
		GW__CLI_BYTES("offset", "N", &s.o.image_offset, "where in the file the image begins"),
		GW__CLI_FLAG("resume", &s.o.resume_only, "only resume a guest that waits for its pages"),
		GW__CLI_BYTES("max-bandwidth", "BYTES/S", &s.postcopy.link.max_bandwidth, "push no faster than this"),
		GW__CLI_SECONDS("idle-timeout", &s.postcopy.link.idle_timeout_ms,
			"silence that counts as a broken link (default: 30; none: wait without limit)"),
		GW__CLI_POSTCOPY_OPTIONS(&s.postcopy),
		GW__CLI_BYTES("memory-limit", "BYTES", &s.o.memory_limit, "device state held in memory at most (default: 32M)"),
		GW__CLI_COMMON(&s.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("IMAGE --qmp QMP [options]",
		"Lets a QEMU run the guest of an image immediately and loads its memory while it runs (post-copy). Once the guest runs, serve may be "
		"killed and started again at any moment: QEMU then reports which pages it has.",
		options, 1, 1);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status == GW__CLI_GO)
		status = gw__cli_image_name(argv[0], &args.arg[0]);
	if (status != GW__CLI_GO)
		return status;
	s.path = args.arg[0];
	if (!s.monitor)
		return gw__ui_error(GW__EXIT_USAGE, "serve needs --qmp QMP, the monitor of the QEMU for the guest");
	status = gw__cli_postcopy_opts_check(&s.postcopy);
	if (status == GW__CLI_GO)
		status = run(&s);
	free(s.postcopy.working_set);
	gw__command_ctx_end(&s.work);
	return status;
}
