/* SPDX-License-Identifier: MIT */
/* Asks the table of abilities; see check_caps.h. */
#include "cli/ui/check_caps.h"

#include <errno.h>

#include "cli/ui/command_ctx.h"

int gw__cli_check_caps(const struct gw__cli_common *c, enum gw_operation op, const struct gw__requested_caps *w, unsigned qemu)
{
	struct gw_rule refusal = GW_INIT(refusal);
	if (gw_plan_combination(op, w->name, qemu, &refusal) == -EOPNOTSUPP)
		return gw__cli_failed(c, GW__EXIT_REFUSED, "%s; nothing was changed", refusal.reason);
	return GW__CLI_GO;
}
