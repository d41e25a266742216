/* SPDX-License-Identifier: MIT */
/*
 * What the driver has seen of a QEMU, as evidence of where the guest is: one table per call. What follows from it (place, next step, exit status)
 * is libgodwit's to say (gw_outcome_note); nothing is decided here. Pure.
 */
#ifndef GW_QEMU_GUEST_OUTCOME_H
#define GW_QEMU_GUEST_OUTCOME_H

#include <godwit-qemu.h>

/* A save ended so. `begun_at`: where the guest was before it, as far as it may run. */
struct gw_outcome gw__guest_after_save(enum gw_place begun_at, const struct gw_qemu_save_result *r);
/*
 * A restore or a page server. `served`: of the page server's last call, whose size is 0 if there was none. `hangs`: the QEMU lost its page server while it
 * loaded the devices.
 */
struct gw_outcome gw__guest_after_restore(const struct gw_outcome *served, enum gw_qemu_guest_outcome outcome, bool refused, bool hangs);
/* A failover that found no epoch: there is nothing to go on from, and nobody was seen to run the guest. */
struct gw_outcome gw__guest_without_epoch(void);
/* `drained`: of gw_drain(), whose size is 0 if it was not called. */
struct gw_outcome gw__guest_after_drain(const struct gw_outcome *drained, enum gw_qemu_drain_outcome outcome);
/* A protection. `wrong_use`: of one that was not begun; `has_left`: its user had migrated the guest before, while it was not protected. */
struct gw_outcome gw__guest_after_protect(enum gw_qemu_protect_outcome outcome, bool wrong_use, bool has_left);

#endif
