/* SPDX-License-Identifier: MIT */
/* Asks the library's table whether what is wanted goes together, before anything is touched. */
#ifndef GW_CLI_UI_CHECK_CAPS_H
#define GW_CLI_UI_CHECK_CAPS_H

#include <godwit.h>

#include "cli/ui/options.h"

/* Names of abilities, collected one by one; a NULL is no ability. */
struct gw__cli_requested_caps {
	const char *name[32]; /* ends with NULL */
	unsigned n;
};
void gw__cli_requested_caps_add(struct gw__cli_requested_caps *w, const char *ability);
const char *gw__cli_ability_of_uri(const char *uri); /* "tcp", "file", ...; NULL: not a URI we know */

/* GW__CLI_GO, or GW__EXIT_REFUSED after the reason. `qemu`: its release, 100 * major + minor; 0: not known. */
int gw__cli_check_caps(const struct gw__cli_common *c, enum gw_operation op, const struct gw__cli_requested_caps *w, unsigned qemu);

#endif
