/* SPDX-License-Identifier: MIT */
/*
 * What makes the epochs of a standby survive it: the journal beside the image (image/epochs/epoch_journal.h), the name under which the image outlives us while
 * it is filled, and a thread that syncs it, so that the journal stays short. The session's thread makes all calls.
 *
 *   start    epoch 0, which the image has          then { append, [applied to the image] turn }           end, once the image has its name
 */
#ifndef GW_ENGINE_COLO_DURABLE_H
#define GW_ENGINE_COLO_DURABLE_H

#include "image/epochs/epoch_journal.h"
#include "image/write/writer.h"

struct gw__durable;

/*
 * `path`: of the image that will be. Both are borrowed. When it returns 0, epoch 0 is safe. The folder is synced before the epoch can be found: what the caller
 * has removed from the folder does not come back beside it.
 */
int gw__durable_start(const char *path, uint64_t extent_bytes, struct gw__image_writer *writer, struct gw__epoch_base *base,
	struct gw__durable **d, struct gw__error *error);
/* The next epoch is safe, or is none. */
int gw__durable_append(struct gw__durable *d, const struct gw__epoch *epoch, struct gw__error *error);
uint64_t gw__durable_bytes(const struct gw__durable *d, const struct gw__epoch *epoch); /* at most, on the disk */
/*
 * All that was appended is in the image. When the extent is full the next one begins, with what `describe` says of the guest, and what the image has is synced in
 * the background.
 */
bool gw__durable_wants_base(const struct gw__durable *d);
int gw__durable_turn(struct gw__durable *d, struct gw__epoch_base *base, struct gw__error *error);
void gw__durable_end(struct gw__durable *d);  /* the image is whole, synced, and has its name: the journal goes */
void gw__durable_free(struct gw__durable *d); /* without `end` all files stay. NULL is fine */

#define GW__DURABLE_SUFFIX ".standby" /* of the image's name until then */

/*
 * Is there something to recover? 0: the journal and a writer of the image, which the caller owns. -ENOENT: there is nothing, and what was left of a beginning is
 * gone. `path` as above.
 */
int gw__durable_reopen(const char *path, struct gw__epoch_journal **j, struct gw__epoch_base *base, struct gw__image_writer **w,
	struct gw__error *error);

#endif
