/* SPDX-License-Identifier: MIT */
/* godwit inspect: what is in a stream file or an image? Reads it with gw_inspect and shows it as text or
 * JSON. */
#include "cli/inspect/inspect.h"

#include <stdlib.h>
#include <string.h>

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

static int show(struct gw__inspect *in, const struct gw__cli_common *common)
{
	in->summary = (struct gw_info_summary)GW_INIT(in->summary);
	gw_info_summary(in->info, &in->summary);
	if (in->device && !has_device(in))
		return gw__cli_failed(common, GW__EXIT_FAILED, "%s has no device \"%s\"; godwit inspect --devices lists those there are",
			in->file, in->device);
	if (in->device && !in->summary.described)
		gw__ui_error(0, "%s has no VM description, so the fields of its devices are not known", in->file);
	if (common->json)
		gw__inspect_json(in);
	else
		gw__inspect_text(in);
	return GW__EXIT_DONE;
}

static int run(struct gw__inspect *in, const struct gw__cli_common *common, const struct gw_inspect_opts *opts)
{
	struct gw__command_ctx work;
	gw_info *info = NULL;
	int status = gw__command_ctx_begin(&work, common);
	if (status != GW__CLI_GO)
		return status;
	work.progress.json = false; /* results, not events, are what this command prints */
	if (gw_inspect(work.job, in->file, opts, &info)) {
		status = gw__command_ctx_failed(&work, GW__EXIT_FAILED, NULL);
	} else {
		in->info = info;
		gw__cli_progress_end(&work.progress);
		status = show(in, common);
	}
	gw_info_free(info);
	gw__command_ctx_end(&work);
	return status;
}

int gw__cli_inspect(int argc, char **argv)
{
	struct gw__cli_common common = GW__CLI_COMMON_INIT;
	struct gw__inspect in = {0};
	struct gw_inspect_opts opts = GW_INIT(opts);
	const struct gw__cli_option options[] = {
		GW__CLI_FLAG("blocks", &in.blocks, "show the RAM blocks only"),
		GW__CLI_FLAG("devices", &in.devices, "show the devices only"),
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
	status = run(&in, &common, &opts);
	free(in.working_set);
	return status;
}
