/* SPDX-License-Identifier: MIT */
/*
 * What a destination of a machine type expects of a multifd source. Nothing announces it; QEMU ties it to the version
 * in the machine type's name (docs/spec/multifd.md 4.4, 5). Pure.
 */
#ifndef GW_PLAN_MULTIFD_COMPAT_H
#define GW_PLAN_MULTIFD_COMPAT_H

#include <stdbool.h>

struct gw__multifd_compat {
	bool sync_per_section; /* up to 8.0: every RAM section's end is a sync; later: a FLUSH record is */
	bool zeros_on_main;    /* before 9.0: packets cannot name zero pages */
};

/* "pc-i440fx-7.2", "q35-10.0", ...; a name without a version is taken for a new one. */
struct gw__multifd_compat gw__multifd_compat_of(const char *machine);

#endif
