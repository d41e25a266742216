/* SPDX-License-Identifier: MIT */
/*
 * Releasing a COLO primary from its standby: the guest runs on in it, unprotected, wherever the two are in an epoch (docs/spec/colo.md 12).
 *
 * It knows neither why nor for whom, and changes no setting. It may be called again, and when there is nothing to release.
 */
#ifndef GW_QEMU_COLO_RELEASE_H
#define GW_QEMU_COLO_RELEASE_H

#include "base/error.h"
#include "qmp/qmp.h"

/*
 * 0: no migration is under way, and the guest runs, or its user has stopped it. -ECONNRESET: QEMU has gone. -EBUSY: the migration is over and the guest stands
 * still, for a reason that is not ours to end. -ETIMEDOUT: it did not end within `patience_ms`. Sets the call limit of `q`.
 */
int gw__colo_release(struct gw__qmp *q, int patience_ms, struct gw__error *error);

#endif
