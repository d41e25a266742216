/* SPDX-License-Identifier: MIT */
/* godwit convert: a kept guest into another form. */
#include <errno.h>
#include "cli/ui/check_caps.h"
#include "cli/cmd/commands.h"
#include "cli/cmd/epoch_image.h"
#include "cli/ui/command_ctx.h"

static const enum gw_format formats[] = {GW_FORMAT_IMAGE, GW_FORMAT_STREAM, GW_FORMAT_RAW};
static const char *const format_names[] = {"image", "stream", "raw"};

enum { ZERO_RECORD_BYTES = 9, MUCH_BYTES = 32 << 20 };

/* A stream has a record for each page, so what was a hole is large now. */
static void tell_zeros(struct gw__command_ctx *work, const char *to)
{
	struct gw_progress p = GW_INIT(p);
	gw_job_progress(work->job, &p);
	if (p.zero_pages * ZERO_RECORD_BYTES >= MUCH_BYTES)
		gw__ui_error(0, "%s has %s of records for %ju pages of zeros: a stream needs %d bytes for each, an image none", to,
			GW__SIZE(p.zero_pages * ZERO_RECORD_BYTES), (uintmax_t)p.zero_pages, ZERO_RECORD_BYTES);
}

static int run(const struct gw__cli_common *common, const char *from, const char *to, unsigned form, const struct gw_convert_opts *opts)
{
	struct gw__command_ctx work;
	int status = gw__command_ctx_begin(&work, common);
	if (status != GW__CLI_GO)
		return status;
	struct gw__cli_epoch_image epoch;
	const char *path = gw__cli_epoch_image_open(&epoch, work.job, from);
	int r = path ? gw_convert(work.job, path, to, opts) : -ENODATA;
	gw__cli_epoch_image_close(&epoch);
	if (r == GW_UNSYNCED) {
		status = gw__command_ctx_failed(&work, GW__EXIT_IN_DOUBT,
			"the result is whole, but a crash of this host now may bring the previous file back: sync its folder");
	} else if (r) {
		status = gw__command_ctx_failed(&work, GW__EXIT_FAILED, "nothing was written");
	} else {
		gw__cli_progress_end(&work.progress);
		if (common->json)
			gw__cli_json(json_pack("{ss so so ss}", "event", "done", "from", gw__cli_json_text(from), "to",
				gw__cli_json_text(to), "format", format_names[form]));
		if (formats[form] == GW_FORMAT_STREAM)
			tell_zeros(&work, to);
		gw__ui_verbose("%s was written, whole", to);
		status = GW__EXIT_DONE;
	}
	gw__command_ctx_end(&work);
	return status;
}

int gw__cli_convert(int argc, char **argv)
{
	struct gw__cli_common common = GW__CLI_COMMON_INIT;
	struct gw_convert_opts opts = GW_INIT(opts);
	unsigned form = 0;
	const struct gw__cli_option options[] = {
		GW__CLI_CHOICE("to", "image|stream|raw", &form,
			"the form to make: a mapped-ram image (the default), a stream, or the bytes of one "
			"RAM block"),
		GW__CLI_TEXT("block", "NAME", &opts.block, "with --to=raw: which RAM block (default: the largest)"),
		GW__CLI_BYTES("offset", "BYTES", &opts.from_offset, "where the image or stream begins in FROM"),
		GW__CLI_BYTES("from-offset", "BYTES", &opts.from_offset, NULL), /* its earlier name */
		GW__CLI_BYTES("to-offset", "BYTES", &opts.to_offset, "where the result begins in TO; earlier bytes of TO are kept"),
		GW__CLI_BYTES("memory-limit", "BYTES", &opts.memory_limit, "device state held in memory at most (default: 32M)"),
		GW__CLI_PAGE_SIZE(&common),
		GW__CLI_COMMON(&common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("FROM TO [options]",
		"Makes an image, a stream file or raw memory of the guest kept in FROM (an image or a stream). TO is replaced only when "
		"the result is whole.",
		options, 2, 2);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status != GW__CLI_GO)
		return status;
	status = gw__cli_image_name(argv[0], &args.arg[1]);
	if (status != GW__CLI_GO)
		return status;
	if (opts.block && formats[form] != GW_FORMAT_RAW)
		return gw__ui_error(GW__EXIT_USAGE, "convert: --block needs --to=raw; the other forms have all RAM blocks");
	static const char *const abilities[] = {NULL, "to-stream", "to-raw"};
	struct gw__requested_caps wish = {0};
	gw__requested_caps_add(&wish, abilities[form]);
	gw__requested_caps_add(&wish, opts.to_offset ? "offset" : NULL);
	status = gw__cli_check_caps(&common, GW_OPERATION_CONVERT, &wish, 0);
	if (status != GW__CLI_GO)
		return status;
	opts.to = formats[form];
	return run(&common, args.arg[0], args.arg[1], form, &opts);
}
