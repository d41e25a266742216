/* SPDX-License-Identifier: MIT */
/* What a waiting QEMU says about itself, as the planner takes it. */
#ifndef GW_QEMU_DESTINATION_H
#define GW_QEMU_DESTINATION_H

#include <godwit.h>
#include <stdbool.h>

#include "base/error.h"
#include "qmp/qmp.h"

struct gw__qemu_destination {
	struct gw_destination d; /* for gw_plan_restore; points into the rest */
	char machine[256];
	struct gw__qmp_block *asked;
	struct gw_destination_block *block;
	struct gw__qmp_device *asked_devices;
	struct gw_destination_device *device;
};

/* One that failed to load a guest takes no other: -EBUSY with a sentence. */
int gw__qemu_destination_failed(const struct gw__qmp_migration *m, struct gw__error *error);
/* Does it wait for a guest, and for us to say from where? -EBUSY with a sentence if not. */
int gw__qemu_destination_waits(struct gw__qmp *q, struct gw__error *error);

/*
 * Asks for machine, RAM blocks, CPUs and devices; `now` are its settings. A monitor that can pass descriptors is taken for one on this
 * host. End with gw__qemu_destination_fini in any case.
 */
int gw__qemu_destination_ask(struct gw__qmp *q, const struct gw__qmp_settings *now, struct gw__qemu_destination *to,
	struct gw__error *error);
/* Does the guest fit it? 0, or -EINVAL with the planner's sentence. For who brings the guest by a way of its own. */
int gw__qemu_destination_fits(struct gw__qmp *q, const struct gw__qmp_settings *now, const gw_info *info, struct gw__error *error);
void gw__qemu_destination_fini(struct gw__qemu_destination *d); /* a zeroed one is fine */

#endif
