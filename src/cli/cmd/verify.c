/* SPDX-License-Identifier: MIT */
/* godwit verify: is a kept guest whole and consistent; or do two files hold the same guest? */
#include <errno.h>
#include <stdio.h>

#include "cli/cmd/commands.h"
#include "cli/cmd/epoch_image.h"
#include "cli/ui/command_ctx.h"

struct verify {
	struct gw__cli_common common;
	struct gw__command_ctx work;
	struct gw_inspect_opts opts;
	unsigned most; /* differences to show */
	unsigned shown;
	const char *a, *b;           /* as given */
	const char *path_a, *path_b; /* to open */
};

static void report_image(const struct gw_info_summary *s)
{
	gw__ui_print("  every page that the bitmaps name was read: %ju pages, %s; %ju more are zero\n",
		(uintmax_t)(s->page_bytes ? s->page_bytes_stored / s->page_bytes : 0), GW__SIZE(s->page_bytes_stored),
		(uintmax_t)s->zero_pages);
}

static void report_stream(const struct gw_info_summary *s)
{
	gw__ui_print("  every record was decoded: %ju pages, %ju zero pages, %s of page deltas, %u %s\n",
		(uintmax_t)(s->page_bytes ? s->page_bytes_stored / s->page_bytes : 0), (uintmax_t)s->zero_pages, GW__SIZE(s->xbzrle_bytes),
		s->rounds, s->rounds == 1 ? "pass" : "passes");
}

/* Nothing can be said about memory that is kept elsewhere. */
static void report_ignored(const gw_info *info)
{
	struct gw_info_block b = GW_INIT(b);
	for (uint32_t i = 0; gw_info_block(info, i, &b) == 0; i++)
		if (b.ignored)
			gw__ui_print("  not in the file: the content of %s (%s), which is shared memory\n", b.name, GW__SIZE(b.used_bytes));
}

static void report(const struct verify *v, const gw_info *info)
{
	struct gw_info_summary s = GW_INIT(s);
	const char *w;
	gw_info_summary(info, &s);
	gw__ui_print("%s: whole and consistent\n", GW__NAME(v->a));
	gw__ui_print("  configuration: %s, pages of %s, %u %s\n", s.machine, GW__SIZE(s.page_bytes), s.capabilities,
		s.capabilities == 1 ? "capability" : "capabilities");
	gw__ui_print("  memory: %s in %u RAM blocks, all within bounds\n", GW__SIZE(s.ram_bytes), s.blocks);
	(s.format == GW_FORMAT_IMAGE ? report_image : report_stream)(&s);
	report_ignored(info);
	gw__ui_print("  devices: %u sections, %s\n", s.devices,
		s.memory_only ? "left out: this is memory that was drained; it completes a QEMU that has the guest (godwit serve)"
		: s.described ? "each split by the VM description"
			      : "separated by their footers, as there is no description");
	gw__ui_print("  end: it ends at %ju\n", (uintmax_t)s.end_off);
	for (uint32_t i = 0; (w = gw_info_warning(info, i)); i++)
		gw__ui_print("  warning: %s\n", w);
}

static void report_json(const struct verify *v, const gw_info *info)
{
	struct gw_info_summary s = GW_INIT(s);
	const char *w;
	json_t *warnings = json_array();
	gw_info_summary(info, &s);
	for (uint32_t i = 0; (w = gw_info_warning(info, i)); i++)
		json_array_append_new(warnings, gw__cli_json_text(w));
	gw__cli_json(json_pack("{ss so ss so so so so si sb so so}", "event", "verified", "file", gw__cli_json_text(v->a), "format",
		s.format == GW_FORMAT_IMAGE ? "image" : "stream", "machine", gw__cli_json_text(s.machine), "ram_bytes",
		gw__cli_json_size(s.ram_bytes), "page_bytes_read", gw__cli_json_size(s.page_bytes_stored), "zero_pages",
		gw__cli_json_size(s.zero_pages), "devices", (int)s.devices, "described", s.described, "end", gw__cli_json_size(s.end_off),
		"warnings", warnings));
}

static int verify_one(struct verify *v)
{
	gw_info *info = NULL;
	if (!v->path_a || gw_inspect(v->work.job, v->path_a, &v->opts, &info))
		return gw__command_ctx_failed(&v->work, GW__EXIT_FAILED, NULL);
	gw__cli_progress_end(&v->work.progress);
	(v->common.json ? report_json : report)(v, info);
	gw_info_free(info);
	return GW__EXIT_DONE;
}

static bool on_difference(void *ctx, const char *sentence)
{
	struct verify *v = ctx;
	if (v->common.json)
		gw__cli_json(json_pack("{ss so}", "event", "difference", "text", gw__cli_json_text(sentence)));
	else
		gw__ui_print("%s\n", GW__NAME(sentence));
	return !v->most || ++v->shown < v->most;
}

static int verify_two(struct verify *v)
{
	int rc = v->path_a && v->path_b ? gw_compare(v->work.job, v->path_a, v->path_b, on_difference, v) : -ENODATA;
	if (rc < 0)
		return gw__command_ctx_failed(&v->work, GW__EXIT_FAILED, NULL);
	gw__cli_progress_end(&v->work.progress);
	if (v->common.json)
		gw__cli_json(json_pack("{ss so so sb}", "event", "compared", "first", gw__cli_json_text(v->a), "second",
			gw__cli_json_text(v->b), "same", rc == 0));
	else if (rc == 0)
		gw__ui_print("%s and %s hold the same guest: machine, RAM blocks, every page, every device\n", GW__NAME(v->a),
			GW__NAME(v->b));
	else
		gw__ui_print("%s (the first) and %s (the second) differ%s\n", GW__NAME(v->a), GW__NAME(v->b),
			v->most && v->shown >= v->most ? "; there may be more differences" : "");
	return rc ? GW__EXIT_DIFFERENT : GW__EXIT_DONE;
}

int gw__cli_verify(int argc, char **argv)
{
	struct verify v = {.common = GW__CLI_COMMON_INIT, .opts = {.size = sizeof v.opts}};
	bool offset_given = false;
	struct gw__cli_option offset = GW__CLI_BYTES("offset", "BYTES", &v.opts.offset, "where the image or stream begins in FILE");
	offset.given = &offset_given;
	const struct gw__cli_option options[] = {
		offset,
		GW__CLI_COUNT("differences", "N", &v.most, "stop after N differences (default: show all)"),
		GW__CLI_BYTES("memory-limit", "BYTES", &v.opts.memory_limit, "device state held in memory at most (default: 32M)"),
		GW__CLI_PAGE_SIZE(&v.common),
		GW__CLI_QUIET(&v.common),
		GW__CLI_PROGRESS(&v.common),
		GW__CLI_JSON(&v.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("FILE [FILE] [options]",
		"With one file: reads the image or stream to its end and checks all of it. Exit status 0: whole. With two files (images or "
		"streams): compares the two guests (machine, RAM, devices). Exit status 0: the same; 6: different; 1: a file cannot be "
		"read or is damaged.",
		options, 1, 2);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status != GW__CLI_GO)
		return status;
	if (args.n == 2 && offset_given)
		return gw__ui_error(GW__EXIT_USAGE, "verify: --offset is for one file; convert the other first");
	if (args.n == 2 && v.opts.memory_limit)
		return gw__ui_error(GW__EXIT_USAGE, "verify: --memory-limit is for one file");
	v.a = args.arg[0];
	v.b = args.n == 2 ? args.arg[1] : NULL;
	v.opts.every_page = true;
	status = gw__command_ctx_begin(&v.work, &v.common);
	struct gw__cli_epoch_image epoch_a = {""}, epoch_b = {""};
	if (status == GW__CLI_GO) {
		v.path_a = gw__cli_epoch_image_open(&epoch_a, v.work.job, v.a);
		v.path_b = v.path_a && v.b ? gw__cli_epoch_image_open(&epoch_b, v.work.job, v.b) : NULL;
		status = v.b ? verify_two(&v) : verify_one(&v);
	}
	gw__cli_epoch_image_close(&epoch_a);
	gw__cli_epoch_image_close(&epoch_b);
	gw__command_ctx_end(&v.work);
	return status;
}
