/* SPDX-License-Identifier: MIT */
/* godwit doctor: what this machine offers, and what to do about the rest. The checks are in doctor_*.c. */
#include "cli/doctor/doctor.h"

#include <stdarg.h>
#include <stdio.h>

#include "cli/cmd/commands.h"
#include "cli/ui/options.h"
#include "cli/ui/output.h"

static const struct {
	const char *name, *use;
	gw__checkup_fn *look;
} checks[] = {
	{"kernel", "everything", gw__check_kernel}, {"qemu", "save and restore", gw__check_qemu},
	{"clones", "many guests of one image", gw__check_clones}, {"kvm", "guests at full speed", gw__check_kvm},
	{"userfaultfd", "post-copy", gw__check_userfaultfd}, {"pagemap-scan", "finding dirty pages of a process", gw__check_pagemap_scan},
	{"dirty-tracking", "guests of a process that migrate while they run", gw__check_dirty_tracking},
	{"io_uring", "fast files and sockets", gw__check_io_uring}, {"tmpfile", "images without leftover files", gw__check_tmpfile},
	{"direct-io", "images past the page cache", gw__check_direct_io}, {"holes", "sparse images", gw__check_holes},
	{"memlock", "buffers fixed in memory", gw__check_memlock}, {"hugepages", "guests on huge pages", gw__check_hugepages},
	{"lease", "failover between hosts by a lease", gw__check_lease},
	{"brokers", "guests that wait for a page server", gw__check_monitor_brokers},
	{"qemu-userfaultfd", "post-copy into the QEMU of --qmp", gw__check_qemu_userfaultfd}, /* the last: only with --qmp */
};

static const char *const findings[] = {"ok", "limited", "missing"};

void gw__checkup_is(struct gw__checkup *c, enum gw__finding finding, const char *advice, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	vsnprintf(c->what, sizeof c->what, fmt, args);
	va_end(args);
	c->finding = finding;
	snprintf(c->advice, sizeof c->advice, "%s", advice ? advice : "");
}

static void show(const char *name, const char *use, const struct gw__checkup *c, bool json)
{
	if (json) {
		gw__cli_json(json_pack("{ss ss ss ss so so}", "event", "check", "name", name, "use", use, "finding", findings[c->finding],
			"text", gw__cli_json_text(c->what), "advice", gw__cli_json_text(*c->advice ? c->advice : NULL)));
		return;
	}
	gw__ui_print("%-14s %-8s %s\n", name, findings[c->finding], c->what);
	if (c->finding != GW__FOUND_OK)
		gw__ui_print("%-14s %-8s for: %s\n", "", "", use);
	if (*c->advice)
		gw__ui_print("%-14s %-8s try: %s\n", "", "", c->advice);
}

int gw__cli_doctor(int argc, char **argv)
{
	bool json = false;
	const char *qemu = "qemu-system-x86_64", *qmp = NULL;
	const struct gw__cli_option options[] = {
		GW__CLI_TEXT("qemu", "PROGRAM", &qemu, "the QEMU to ask (default: qemu-system-x86_64)"),
		GW__CLI_TEXT("qmp", "QMP", &qmp, "also ask the QEMU with this monitor: may it use userfaultfd?"),
		GW__CLI_FLAG("json", &json, "print one JSON object per line on standard output"),
	};
	const struct gw__cli_usage usage = GW__CLI_USAGE("[DIR] [options]",
		"Checks what this machine offers to godwit: the kernel, QEMU, and the file system of DIR (default: the current folder), a "
		"folder for images. Every row is ok, limited or missing.",
		options, 0, 1);
	struct gw__cli_args args;
	int status = gw__cli_parse(&usage, argc, argv, &args);
	if (status != GW__CLI_GO)
		return status;
	for (unsigned i = 0; i < GW__LEN(checks) - !qmp; i++) {
		struct gw__checkup c = {.dir = args.n ? args.arg[0] : ".", .qemu = qemu, .qmp = qmp};
		checks[i].look(&c);
		show(checks[i].name, checks[i].use, &c, json);
	}
	return GW__EXIT_DONE;
}
