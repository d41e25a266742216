/* SPDX-License-Identifier: MIT */
/* Asks the table of abilities; see check_caps.h. */
#include "cli/ui/check_caps.h"

#include <errno.h>
#include <string.h>

#include "cli/ui/command_ctx.h"

void gw__cli_requested_caps_add(struct gw__cli_requested_caps *w, const char *ability)
{
	if (ability && w->n + 1 < GW__LEN(w->name))
		w->name[w->n++] = ability;
}

const char *gw__cli_ability_of_uri(const char *uri)
{
	static const char *const kinds[] = {"tcp", "unix", "vsock", "fd", "file", "exec"};
	size_t n = strcspn(uri, ":");
	for (unsigned i = 0; uri[n] && i < GW__LEN(kinds); i++)
		if (strlen(kinds[i]) == n && !strncmp(uri, kinds[i], n))
			return kinds[i];
	return NULL;
}

int gw__cli_check_caps(const struct gw__cli_common *c, enum gw_operation op, const struct gw__cli_requested_caps *w, unsigned qemu)
{
	struct gw_rule refusal = GW_INIT(refusal);
	if (gw_plan_combination(op, w->name, qemu, &refusal) == -EOPNOTSUPP)
		return gw__cli_failed(c, GW__EXIT_REFUSED, "%s; nothing was touched", refusal.reason);
	return GW__CLI_GO;
}
