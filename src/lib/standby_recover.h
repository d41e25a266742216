/* SPDX-License-Identifier: MIT */
/* What standbys that died have left in the folders of their guests (engine/colo/durable.h). */
#ifndef GW_LIB_STANDBY_RECOVER_H
#define GW_LIB_STANDBY_RECOVER_H

#include <stdint.h>

#include "base/error.h"

#define GW__STANDBY_DISKS "disks.durable" /* in a guest's folder: its epochs have disks too (qemu/storage.h) */

/* gw__epoch_recover; -EBUSY: it has disks, of which who called knows nothing. */
int gw__standby_recover_image(int folder_fd, const char *image, uint64_t *epoch, struct gw__error *error);

/* `error` NULL: guest.img of that guest is there now, with this epoch. */
typedef void gw__standby_recovered_fn(void *ctx, const char *vm, const char *image, uint64_t epoch, const struct gw__error *error);
/* All guests below `dir` but those in use. What cannot be recovered stays as it is. */
void gw__standby_recover_all(const char *dir, gw__standby_recovered_fn *fn, void *ctx);

#endif
