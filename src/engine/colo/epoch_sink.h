/* SPDX-License-Identifier: MIT */
/*
 * Where the guest of a COLO primary is kept: the last whole epoch in a mapped-ram image that has no name yet, and next to it the one that is
 * being received, in memory (docs/spec/colo.md 6, image/epochs/epoch.h). This image is the one copy of the guest: between two epochs its pages
 * are replaced at their places.
 *
 * It is a store of epochs (epoch_store.h). From `commit` on the new epoch is the one that `finish` makes an image of, whether it was applied yet or
 * not. The main thread's, but for lanes.
 */
#ifndef GW_ENGINE_COLO_EPOCH_SINK_H
#define GW_ENGINE_COLO_EPOCH_SINK_H

#include "engine/colo/epoch_store.h"
#include "image/epochs/epoch_history.h"
#include "wire/vmdesc.h"

struct gw__epoch_sink;

struct gw__epoch_sink_opts {
	uint64_t limit_bytes;  /* the memory that one epoch may take, device state included */
	bool durable;          /* epochs outlive this process and its host, from `start` on */
	uint64_t extent_bytes; /* of the journal; 0: as usual */
	uint64_t history;      /* so many epochs before the last one are kept; of a durable one */
};

/* The image will be `path`. */
int gw__epoch_sink_new(const char *path, const struct gw__epoch_sink_opts *o, struct gw__epoch_sink **s, struct gw__error *error);
void gw__epoch_sink_free(struct gw__epoch_sink **s); /* without `finish` nothing remains, but for the files of a durable one */

/*
 * What a secondary does with it. `start`: epoch 0 of a durable one is safe on the disk; the guest need not wait for it. Of one that is not durable
 * `persist` does nothing; after a failure the epoch before is safe. A failure of `apply` leaves the epoch what it is: again, or with `finish`, by
 * which the image of the last epoch gets its name, without being synced unless that is asked for, or it is durable.
 */
struct gw__epoch_store gw__epoch_sink_store(struct gw__epoch_sink *s); /* borrows it */

/*
 * After the death of a durable one: the image of the last epoch that is whole gets its name, synced. -ENOENT: nothing was left. A failure leaves what is there as it
 * is, to be tried again.
 */
int gw__epoch_sink_recover(const char *path, uint64_t *epoch, struct gw__error *error);

/* A whole image of an epoch that is kept, as `to`, not synced; also while the guest is protected. -ENODATA: it is not kept. */
int gw__epoch_sink_export(const char *path, uint64_t epoch, const char *to, struct gw__error *error);
/* The last epoch, and those before it that are kept, the newest first; to be freed. -ENODATA: there is no history. */
int gw__epoch_sink_history(const char *path, uint64_t *last, struct gw__epoch_past **past, size_t *n, struct gw__error *error);

#endif
