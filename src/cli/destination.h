/* SPDX-License-Identifier: MIT */
/* What a waiting QEMU says about itself, as the planner takes it. */
#ifndef GW_CLI_DESTINATION_H
#define GW_CLI_DESTINATION_H

#include <godwit.h>
#include <stdbool.h>

#include "base/error.h"
#include "qmp/qmp.h"

struct gw__cli_destination {
	struct gw_destination d; /* for gw_plan_restore; points into the rest */
	char machine[256];
	struct gw__qmp_block *asked;
	struct gw_destination_block *block;
};

/*
 * Asks for machine, RAM blocks and the capability to read images. `same_host` is the caller's knowledge. With
 * `info`, RAM blocks that the kept guest does not have are left out: QEMU lists some that never migrate.
 */
int gw__cli_destination_ask(struct gw__qmp *q, const gw_info *info, bool same_host,
	struct gw__cli_destination *to, struct gw__why *why);
void gw__cli_destination_fini(struct gw__cli_destination *d); /* a zeroed one is fine */

#endif
