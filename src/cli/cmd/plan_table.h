/* SPDX-License-Identifier: MIT */
/* godwit plan without a guest: the table of abilities, and single questions to it. */
#ifndef GW_CLI_CMD_PLAN_TABLE_H
#define GW_CLI_CMD_PLAN_TABLE_H

#include "cli/ui/options.h"

int gw__cli_plan_table(const struct gw__cli_common *c);
/* `abilities`: names separated by commas. `qemu`: "10.0", or NULL. */
int gw__cli_plan_question(const struct gw__cli_common *c, const char *operation, const char *abilities, const char *qemu);

#endif
