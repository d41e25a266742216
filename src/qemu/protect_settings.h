/* SPDX-License-Identifier: MIT */
/* What is set in a QEMU that is to be a COLO primary. It puts nothing back: who calls it has a snapshot (gw__qmp_settings_save). */
#ifndef GW_QEMU_PROTECT_SETTINGS_H
#define GW_QEMU_PROTECT_SETTINGS_H

#include "base/error.h"
#include "qemu/protect.h"
#include "qmp/qmp.h"

/* `before`: what is set now. */
int gw__protect_settings_set(struct gw__qmp *q, const struct gw__protect_opts *o, const struct gw__qmp_settings *before,
	struct gw__error *error);
/* For how long packets are held back at most, whatever becomes of the guard; -1: as long as QEMU can. */
int gw__protect_settings_fallback_ms(const struct gw__protect_opts *o);

#endif
