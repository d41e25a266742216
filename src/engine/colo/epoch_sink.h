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
#include "image/epochs/epoch_journal.h"
#include "image/write/writer.h"
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

/* What is on the disk of a durable one, and where it is to lead; see epoch_recover.h, which finds it. All is borrowed. */
struct gw__epoch_replay {
	const char *path; /* that the image of the standby has, or was to have */
	struct gw__epoch_journal *journal;
	const struct gw__epoch_base *base;
	uint64_t epoch; /* the last one of the journal, or one before that to which the history leads back */
	bool is_copy;   /* another image, of one epoch: not synced, and without a history. Else it is that of the standby */
};

/*
 * An image that has what the base has, and may have any of the journal's epochs in part, gets this epoch, the way of one that comes from a primary: loaded into
 * memory, applied whole; then its name. Takes the writer, also on failure.
 */
int gw__epoch_sink_replay(const struct gw__epoch_replay *from, struct gw__image_writer *writer, struct gw__error *error);

#endif
