/* SPDX-License-Identifier: MIT */
/* Asks the library's table whether what is wanted goes together, before anything is touched. */
#ifndef GW_CLI_UI_CHECK_CAPS_H
#define GW_CLI_UI_CHECK_CAPS_H

#include <godwit.h>

#include "base/requested_caps.h"
#include "cli/ui/options.h"

/* GW__CLI_GO, or GW__EXIT_REFUSED after the reason. `qemu`: its release, 100 * major + minor; 0: not known. */
int gw__cli_check_caps(const struct gw__cli_common *c, enum gw_operation op, const struct gw__requested_caps *w, unsigned qemu);

#endif
