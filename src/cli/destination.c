/* SPDX-License-Identifier: MIT */
/* Asks a waiting QEMU what it is; see destination.h. */
#include "cli/destination.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_block(const gw_info *info, const char *name)
{
	struct gw_info_block b = GW_INIT(b);
	for (uint32_t i = 0; gw_info_block(info, i, &b) == 0; i++)
		if (!strcmp(b.name, name))
			return true;
	return false;
}

static int ask_blocks(
	struct gw__qmp *q, const gw_info *info, struct gw__cli_destination *to, struct gw__why *why)
{
	unsigned n = 0;
	int rc = gw__qmp_query_blocks(q, &to->asked, &n, why);
	if (rc)
		return rc;
	to->block = calloc(n + 1, sizeof *to->block);
	if (!to->block)
		return gw__why_set(why, -ENOMEM, "no memory for %u RAM blocks", n);
	for (unsigned i = 0; i < n; i++) {
		const struct gw__qmp_block *b = &to->asked[i];
		if (info && !has_block(info, b->name))
			continue;
		to->block[to->d.blocks++] = (struct gw_destination_block){
			.name = b->name, .used_bytes = b->used_bytes, .max_bytes = b->total_bytes};
	}
	to->d.block = to->block;
	return 0;
}

int gw__cli_destination_ask(struct gw__qmp *q, const gw_info *info, bool same_host,
	struct gw__cli_destination *to, struct gw__why *why)
{
	struct gw__qmp_machine machine;
	struct gw__qmp_settings *settings = NULL;
	*to = (struct gw__cli_destination){.d = {.size = sizeof(struct gw_destination)}};
	int rc = gw__qmp_query_machine(q, &machine, why);
	if (!rc)
		rc = gw__qmp_settings_save(q, &settings, why);
	if (!rc)
		rc = ask_blocks(q, info, to, why);
	if (!rc) {
		snprintf(to->machine, sizeof to->machine, "%s", machine.machine);
		to->d.machine = *to->machine ? to->machine : NULL;
		to->d.reads_images = gw__qmp_settings_has(settings, "mapped-ram");
		to->d.same_host = same_host;
	}
	gw__qmp_settings_free(settings);
	return rc;
}

void gw__cli_destination_fini(struct gw__cli_destination *d)
{
	free(d->asked);
	free(d->block);
	*d = (struct gw__cli_destination){.d = {.size = sizeof(struct gw_destination)}};
}
