/* SPDX-License-Identifier: MIT */
/*
 * Post-copy from an image into a QEMU, between the commands that do it: `restore --lazy` and `serve`. Drives the QEMU's
 * monitor and the page server in turn; one thread. Keeps nothing outside the image and the QEMU.
 */
#ifndef GW_CLI_LAZY_H
#define GW_CLI_LAZY_H

#include "cli/work.h"
#include "qmp/qmp.h"

struct gw__lazy {
	/* What is asked for; borrowed. */
	const char *path;
	uint64_t offset, max_bandwidth;
	bool foreign_qemu; /* it may run as another user */
	struct gw__cli_work *work;
	struct gw__qmp *qmp;

	/* What it makes. */
	struct gw__qmp_settings *before; /* NULL when it resumes */
	char folder[32];		 /* of the sockets QEMU listens at; "" without */
	unsigned attempts;
	bool memory_only; /* the image has no devices: it can complete a QEMU, not give it a guest */
	bool refused; /* this QEMU waits for no guest; nothing was done */
	struct gw_serve_result result;
	double running_s; /* from migrate-incoming until the guest ran; 0: not known */
	struct gw__why why;
};

/* Whether a guest can run before its memory is there: 0, or -EOPNOTSUPP with the reason. */
int gw__lazy_check(const char *path, const gw_info *info, struct gw__why *why);

/*
 * Until QEMU has every page. 0, or a negative errno with l->why; then l->result.recoverable says that the guest runs and waits.
 * A QEMU that waits for a guest is given one, one in postcopy-paused is resumed.
 */
int gw__lazy_run(struct gw__lazy *l);
void gw__lazy_end(struct gw__lazy *l);

#endif
