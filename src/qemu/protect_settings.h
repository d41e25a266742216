/* SPDX-License-Identifier: MIT */
/* What the options of a protection mean: what is set in a QEMU that is to be a COLO primary, and what is reported of it. Nothing is put back: who calls it has a snapshot (gw__qmp_settings_save). */
#ifndef GW_QEMU_PROTECT_SETTINGS_H
#define GW_QEMU_PROTECT_SETTINGS_H

#include "base/error.h"
#include "qemu/guard_report.h"
#include "qemu/protect.h"
#include "qmp/qmp.h"

/* `before`: what is set now. */
int gw__protect_settings_set(struct gw__qmp *q, const struct gw__protect_opts *o, const struct gw__qmp_settings *before,
	struct gw__error *error);
/* For how long packets are held back at most, whatever becomes of the guard; -1: as long as QEMU can. */
int gw__protect_settings_fallback_ms(const struct gw__protect_opts *o);

/*
 * What its guard reports of it: so many of its disks are mirrored, and of so many netdevs packets are held. `lease_end_ns`: by CLOCK_BOOTTIME; UINT64_MAX: there
 * is no lease, or it has no limit.
 */
void gw__protect_report_print(const struct gw__protect_opts *o, unsigned mirrored, unsigned held, uint64_t lease_end_ns,
	char words[GW__GUARD_REPORT_BYTES]);

#endif
