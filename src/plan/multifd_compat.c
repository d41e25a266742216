/* SPDX-License-Identifier: MIT */
/* Dialects of multifd by machine type; see multifd_compat.h. */
#include "plan/multifd_compat.h"

#include <stdio.h>
#include <string.h>

/* 100 * major + minor of the version at the end of the name; 0 without one. */
static unsigned version_of(const char *machine)
{
	unsigned major, minor;
	const char *dash = strrchr(machine, '-');
	int used = 0;
	if (!dash || sscanf(dash + 1, "%2u.%2u%n", &major, &minor, &used) != 2 || dash[1 + used])
		return 0;
	return 100 * major + minor;
}

struct gw__multifd_compat gw__multifd_compat_of(const char *machine)
{
	unsigned version = version_of(machine);
	return (struct gw__multifd_compat){
		.sync_per_section = version && version <= 800,
		.zeros_on_main = version && version < 900,
	};
}
