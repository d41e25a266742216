/* SPDX-License-Identifier: MIT */
/*
 * Epochs from the disk: the last one of a standby that died, as the image; and any that is kept, as an image of its own. It finds the files, and settles which
 * of them counts; epoch_sink makes the image.
 */
#ifndef GW_ENGINE_COLO_EPOCH_RECOVER_H
#define GW_ENGINE_COLO_EPOCH_RECOVER_H

#include "image/epochs/epoch_history.h"

/*
 * After the death of a durable one: the image of the last epoch that is whole gets its name, synced. -ENOENT: nothing was left. A failure leaves what is there as it
 * is, to be tried again.
 */
int gw__epoch_recover(const char *path, uint64_t *epoch, struct gw__error *error);

/* A whole image of an epoch that is kept, as `to`, not synced; also while the guest is protected. -ENODATA: it is not kept. */
int gw__epoch_export(const char *path, uint64_t epoch, const char *to, struct gw__error *error);
/* The last epoch, and those before it that are kept, the newest first; to be freed. -ENODATA: there is no history. */
int gw__epoch_list(const char *path, uint64_t *last, struct gw__epoch_past **past, size_t *n, struct gw__error *error);

#endif
