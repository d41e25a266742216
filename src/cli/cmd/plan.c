/* SPDX-License-Identifier: MIT */
/* godwit plan: how would this guest be restored there, or why not? Touches neither. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cmd/commands.h"
#include "cli/cmd/plan_table.h"
#include "cli/ui/command_ctx.h"

struct plan {
	struct gw__cli_common common;
	struct gw__command_ctx work;
	struct gw_inspect_opts opts;
	const char *image, *qmp;
	const char *machine;
	const char *operation, *abilities, *release; /* a question to the table */
	bool table;
	uint64_t ram_bytes;
	bool remote, old_qemu;
};

static const char *const ways[] = {
	[GW_WAY_REFUSED] = "refused", [GW_WAY_DIRECT] = "direct", [GW_WAY_STREAM] = "stream", [GW_WAY_CLONE] = "clone"};

static int report(const struct plan *p, const struct gw_restore_plan *r)
{
	if (p->common.json)
		gw__cli_json(json_pack("{ss so ss so}", "event", "plan", "image", gw__cli_json_text(p->image), "way", ways[r->way], "why",
			gw__cli_json_text(r->reason)));
	else
		gw__ui_print("%s: %s\n", ways[r->way], r->reason);
	return r->way == GW_WAY_REFUSED ? GW__EXIT_REFUSED : GW__EXIT_DONE;
}

static int plan_for(const struct plan *p, const gw_info *info, const struct gw_destination *d)
{
	struct gw_restore_plan r = GW_INIT(r);
	gw_plan_restore(info, d, &r);
	return report(p, &r);
}

static int refused(const struct plan *p, const char *error)
{
	struct gw_restore_plan r = {.size = sizeof r, .way = GW_WAY_REFUSED};
	snprintf(r.reason, sizeof r.reason, "%.511s", error);
	return report(p, &r);
}

static int plan_for_qmp(struct plan *p, const gw_info *info)
{
	struct gw_restore_plan r = GW_INIT(r);
	int status = gw__command_ctx_drive(&p->work);
	if (status != GW__CLI_GO)
		return status;
	int e = gw_qemu_plan_restore(p->work.qemu, p->qmp, info, p->remote, &r);
	const char *error = gw__command_qemu_error(&p->work);
	if (e == -EBUSY)
		return refused(p, error);
	return e ? gw__cli_failed(&p->common, GW__EXIT_FAILED, "%s", error) : report(p, &r);
}

/* A destination of which only the main memory's size is known has otherwise what the guest needs. */
static struct gw_destination_block *blocks_with_ram(const gw_info *info, uint64_t ram_bytes, uint32_t *n)
{
	struct gw_info_summary s = GW_INIT(s);
	struct gw_info_block b = GW_INIT(b);
	gw_info_summary(info, &s);
	struct gw_destination_block *v = calloc((size_t)s.blocks + 1, sizeof *v);
	uint32_t main_ram = 0;
	for (*n = 0; v && gw_info_block(info, *n, &b) == 0; (*n)++) {
		v[*n] = (struct gw_destination_block){.size = sizeof *v, .name = b.name, .used_bytes = b.used_bytes};
		if (b.used_bytes > v[main_ram].used_bytes)
			main_ram = *n;
	}
	if (v && *n)
		v[main_ram].used_bytes = ram_bytes;
	return v;
}

static int plan_for_words(struct plan *p, const gw_info *info)
{
	struct gw_destination d = GW_INIT(d);
	struct gw_destination_block *block = NULL;
	d.machine = p->machine;
	d.reads_images = !p->old_qemu;
	d.same_host = !p->remote;
	if (p->ram_bytes) {
		block = blocks_with_ram(info, p->ram_bytes, &d.blocks);
		if (!block)
			return gw__cli_failed(&p->common, GW__EXIT_FAILED, "no memory");
		d.block = block;
	}
	int status = plan_for(p, info, &d);
	free(block);
	return status;
}

static int run(struct plan *p)
{
	gw_info *info = NULL;
	int status = gw__command_ctx_begin(&p->work, &p->common);
	p->work.progress.json = false; /* the decision is all that is printed */
	if (status != GW__CLI_GO)
		return status;
	p->opts.clonable = true;
	if (gw_inspect(p->work.job, p->image, &p->opts, &info)) {
		status = gw__command_ctx_failed(&p->work, GW__EXIT_FAILED, NULL);
	} else {
		gw__cli_progress_end(&p->work.progress);
		status = p->qmp ? plan_for_qmp(p, info) : plan_for_words(p, info);
	}
	gw_info_free(info);
	gw__command_ctx_end(&p->work);
	return status;
}

static int ask_table(const struct plan *p, int arguments)
{
	if (arguments || p->table == (p->operation || p->abilities || p->release))
		return gw__ui_error(GW__EXIT_USAGE, "plan: --table, and --for with --with, take no image and no other options");
	if (p->table)
		return gw__cli_plan_table(&p->common);
	if (!p->operation || !p->abilities)
		return gw__ui_error(GW__EXIT_USAGE, "plan: --for and --with need each other");
	return gw__cli_plan_question(&p->common, p->operation, p->abilities, p->release);
}

int gw__cli_plan(int argc, char **argv)
{
	struct plan p = {.common = GW__CLI_COMMON_INIT, .opts = {.size = sizeof p.opts}};
	const struct gw__cli_option options[] = {
		GW__CLI_TEXT("machine", "TYPE", &p.machine, "without QMP: the destination's machine type, such as pc-q35-10.0"),
		GW__CLI_BYTES("ram", "BYTES", &p.ram_bytes, "without QMP: the size of its main memory"),
		GW__CLI_FLAG("old-qemu", &p.old_qemu, "without QMP: the destination is older than QEMU 9.0 and reads no images"),
		GW__CLI_FLAG("remote", &p.remote, "the destination cannot open files of this host"),
		GW__CLI_FLAG("table", &p.table, "print which capabilities work together, which do not, and why"),
		GW__CLI_TEXT("for", "OPERATION", &p.operation, "look up in the table: in this operation"),
		GW__CLI_TEXT("with", "LIST", &p.abilities,
			"look up in the table: do these capabilities (separated by commas) work "
			"together?"),
		GW__CLI_TEXT("qemu", "RELEASE", &p.release, "look up in the table: with this release of QEMU, such as 10.0"),
		GW__CLI_BYTES("offset", "BYTES", &p.opts.offset, "where the image or stream begins in IMAGE"),
		GW__CLI_BYTES("memory-limit", "BYTES", &p.opts.memory_limit, "device state held in memory at most (default: 32M)"),
		GW__CLI_PAGE_SIZE(&p.common),
		GW__CLI_QUIET(&p.common),
		GW__CLI_JSON(&p.common),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("IMAGE [QMP] [options] | --table | --for=OPERATION --with=LIST",
		"Prints how the guest kept in IMAGE would be restored: direct, as a stream, or refused (exit status 3), and why. The "
		"destination is the QEMU with the monitor QMP (a socket path, unix:PATH or tcp:HOST:PORT), or described by options. "
		"Neither is changed. Without IMAGE: which capabilities work together.",
		options, 0, 2);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status != GW__CLI_GO)
		return status;
	if (p.table || p.operation || p.abilities || p.release)
		return ask_table(&p, args.n);
	if (!args.n)
		return gw__ui_error(GW__EXIT_USAGE, "plan: an argument is missing: the image, or --table");
	p.image = args.arg[0];
	p.qmp = args.n == 2 ? args.arg[1] : NULL;
	if (p.qmp && (p.machine || p.ram_bytes || p.old_qemu))
		return gw__ui_error(GW__EXIT_USAGE, "plan: --machine, --ram and --old-qemu describe a destination without QMP; leave them "
						    "out, or leave QMP out");
	return run(&p);
}
