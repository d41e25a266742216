/* SPDX-License-Identifier: MIT */
/* godwit inspect: what is in a stream file or an image? Reads it with gw_inspect and shows it as text or
 * JSON. */
#include "cli/inspect/inspect.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli/cmd/epoch_image.h"

#include "cli/cmd/commands.h"
#include "cli/ui/command_ctx.h"

bool gw__inspect_wants(const struct gw__inspect *in, const struct gw_info_device *d)
{
	if (!strcmp(in->device, d->name))
		return true;
	size_t n = strlen(d->name);
	if (strncmp(in->device, d->name, n) || in->device[n] != '/')
		return false;
	char *end;
	unsigned long instance = strtoul(in->device + n + 1, &end, 10);
	return end != in->device + n + 1 && !*end && instance == d->instance;
}

static bool has_device(const struct gw__inspect *in)
{
	struct gw_info_device d = GW_INIT(d);
	for (uint32_t i = 0; gw_info_device(in->info, i, &d) == 0; i++)
		if (gw__inspect_wants(in, &d))
			return true;
	return false;
}

static int write_html(const struct gw__inspect *in, const struct gw__cli_common *common)
{
	int r = gw__inspect_html(in);
	if (r)
		return gw__cli_failed(common, GW__EXIT_FAILED, "cannot write the page %s: %s; a file that had this name is as it was",
			in->html, strerror(-r));
	if (common->json)
		gw__cli_json(
			json_pack("{ss so so}", "event", "page", "file", gw__cli_json_text(in->file), "html", gw__cli_json_text(in->html)));
	gw__ui_info("%s is shown in the page %s", in->file, in->html);
	return GW__EXIT_DONE;
}

static int show(struct gw__inspect *in, const struct gw__cli_common *common)
{
	in->summary = (struct gw_info_summary)GW_INIT(in->summary);
	gw_info_summary(in->info, &in->summary);
	if (in->device && !has_device(in))
		return gw__cli_failed(common, GW__EXIT_FAILED, "%s has no device \"%s\"; godwit inspect --devices lists those there are",
			in->file, in->device);
	if (in->device && !in->summary.described)
		gw__ui_error(0, "%s has no VM description, so the fields of its devices are not known", in->file);
	if (in->html)
		return write_html(in, common);
	if (common->json)
		gw__inspect_json(in);
	else
		gw__inspect_text(in);
	return GW__EXIT_DONE;
}

/* --- what a standby keeps of a guest --- */

static void json_epoch(void *ctx, const struct gw_epoch *e)
{
	(void)ctx;
	gw__cli_json(json_pack("{ss so sb so so}", "event", "epoch", "epoch", gw__cli_json_size(e->epoch), "last", e->is_last, "bytes",
		gw__cli_json_size(e->bytes), "time_ns", gw__cli_json_size((uint64_t)e->time_ns)));
}

static void print_epoch(void *ctx, const struct gw_epoch *e)
{
	char when[32] = "";
	time_t s = (time_t)(e->time_ns / 1000000000);
	struct tm t;
	(void)ctx;
	if (e->is_last) {
		gw__ui_print("epoch %ju, the last one\n", (uintmax_t)e->epoch);
		return;
	}
	if (localtime_r(&s, &t))
		strftime(when, sizeof when, "%F %T", &t);
	gw__ui_print("epoch %ju, until %s.%03d, %s to go back to it\n", (uintmax_t)e->epoch, when, (int)(e->time_ns / 1000000 % 1000),
		GW__SIZE(e->bytes));
}

static int run(struct gw__inspect *in, const struct gw__cli_common *common, const struct gw_inspect_opts *opts)
{
	struct gw__command_ctx work;
	gw_info *info = NULL;
	int status = gw__command_ctx_begin(&work, common);
	if (status != GW__CLI_GO)
		return status;
	work.progress.json = false; /* results, not events, are what this command prints */
	struct gw__cli_epoch_image epoch = {""};
	const char *path = in->history ? in->file : gw__cli_epoch_image_open(&epoch, work.job, in->file);
	if (in->history && !gw_standby_history(work.job, in->file, common->json ? json_epoch : print_epoch, NULL)) {
		status = GW__EXIT_DONE;
	} else if (in->history || !path || gw_inspect(work.job, path, opts, &info)) {
		status = gw__command_ctx_failed(&work, GW__EXIT_FAILED, NULL);
	} else {
		in->info = info;
		gw__cli_progress_end(&work.progress);
		status = show(in, common);
	}
	gw_info_free(info);
	gw__cli_epoch_image_close(&epoch);
	gw__command_ctx_end(&work);
	return status;
}

static bool same_file(const char *a, const char *b)
{
	struct stat x, y;
	return a && !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* A page replaces what has its name, which must not be what it shows. */
static int check_html(const struct gw__inspect *in)
{
	if (in->compare && !in->html)
		return gw__ui_error(GW__EXIT_USAGE,
			"inspect: --compare is for --html; godwit verify compares two files and prints the result");
	if (!in->html)
		return GW__CLI_GO;
	if (in->history || in->blocks || in->devices || in->device)
		return gw__ui_error(GW__EXIT_USAGE,
			"inspect: --html shows all there is; leave out --history, --blocks, --devices and --device");
	if (same_file(in->file, in->html) || same_file(in->compare, in->html) || same_file(in->working_set, in->html))
		return gw__ui_error(GW__EXIT_USAGE, "inspect: the page would replace %s, which it is to show; give --html another name",
			in->html);
	return GW__CLI_GO;
}

int gw__cli_inspect(int argc, char **argv)
{
	struct gw__cli_common common = GW__CLI_COMMON_INIT;
	struct gw__inspect in = {0};
	struct gw_inspect_opts opts = GW_INIT(opts);
	const struct gw__cli_option options[] = {
		GW__CLI_FLAG("history", &in.history, "list the epochs that a standby keeps of this guest (FILE: DIR/NAME/guest.img)"),
		GW__CLI_FLAG("blocks", &in.blocks, "show the RAM blocks only"),
		GW__CLI_FLAG("devices", &in.devices, "show the devices only"),
		GW__CLI_TEXT("html", "PAGE", &in.html, "write a page for a browser, which shows memory, devices and fields"),
		GW__CLI_TEXT("compare", "FILE", &in.compare, "with --html: show also how the image differs from this image or stream"),
		GW__CLI_TEXT("device", "NAME[/INSTANCE]", &in.device, "show the fields of this device and their values"),
		GW__CLI_BYTES("offset", "BYTES", &opts.offset, "where the image or stream begins in FILE"),
		GW__CLI_BYTES("memory-limit", "BYTES", &opts.memory_limit, "device state held in memory at most (default: 32M)"),
		GW__CLI_PAGE_SIZE(&common),
		GW__CLI_QUIET(&common),
		GW__CLI_PROGRESS(&common),
		GW__CLI_JSON(&common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("FILE [options]",
		"Shows what a mapped-ram image or a stream file holds: guest, RAM blocks, devices, and where "
		"its "
		"bytes go. FILE may also be exec:COMMAND or fd:N, which are read as a stream.",
		options, 1, 1);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status != GW__CLI_GO)
		return status;
	in.file = args.arg[0];
	in.working_set = gw__working_set_path(in.file);
	opts.working_set = in.working_set;
	opts.clonable = true;
	opts.pages = in.html != NULL;
	opts.compare = in.compare;
	status = check_html(&in);
	if (status == GW__CLI_GO)
		status = run(&in, &common, &opts);
	free(in.working_set);
	return status;
}
