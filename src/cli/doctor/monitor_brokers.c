/* SPDX-License-Identifier: MIT */
/* Which monitors are held for page servers; see doctor.h. */
#include <godwit-qemu.h>
#include <stdio.h>
#include <string.h>

#include "cli/doctor/doctor.h"

struct found {
	unsigned n, waiting, silent;
	int silent_pid;
	char first[240], waits_for[300];
};

static void count(void *ctx, const struct gw_qemu_broker *info)
{
	struct found *f = ctx;
	if (!info->answers) {
		f->silent++;
		f->silent_pid = f->silent_pid ? f->silent_pid : info->pid;
		return;
	}
	if (!f->n++)
		snprintf(f->first, sizeof f->first, "process %d holds %.90s for %.90s", (int)info->pid, info->monitor, info->path);
	if (!info->server_pid && !f->waiting++)
		snprintf(f->waits_for, sizeof f->waits_for, "godwit serve %.100s --qmp %.100s", info->path, info->monitor);
}

void gw__check_monitor_brokers(struct gw__checkup *c)
{
	struct found f = {0};
	gw_qemu_brokers(count, &f);
	if (f.silent)
		gw__checkup_is(c, GW__FOUND_LIMITED, "continue it: kill -CONT",
			"%u held for page servers, and %u by a process that does not answer (%d)", f.n, f.silent, f.silent_pid);
	else if (!f.n)
		gw__checkup_is(c, GW__FOUND_OK, NULL, "no monitor is held for a page server");
	else if (!f.waiting)
		gw__checkup_is(c, GW__FOUND_OK, NULL, "%u held for page servers that run: %s", f.n, f.first);
	else
		gw__checkup_is(c, GW__FOUND_LIMITED, f.waits_for, "%u held, %u of them for a page server that is gone: %s", f.n, f.waiting,
			f.first);
}
