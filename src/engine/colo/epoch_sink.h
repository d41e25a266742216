/* SPDX-License-Identifier: MIT */
/*
 * Where the guest of a COLO primary is kept: the last whole epoch in a mapped-ram image that has no name yet, and next to it the one that is
 * being received, in memory (docs/spec/colo.md 6, image/epochs/epoch.h). This image is the one copy of the guest: between two epochs its pages
 * are replaced at their places.
 *
 *   sink calls of the initial migration                         epoch 0
 *   { begin, sink calls, reserve_devices, check, persist, commit, apply }  epochs 1, 2, ...     or drop, which leaves the epoch before
 *   finish                                                      the image gets its name
 *
 * From `commit` on the new epoch is the one that `finish` makes an image of, whether it was applied yet or not. The main thread's, but for lanes.
 */
#ifndef GW_ENGINE_COLO_EPOCH_SINK_H
#define GW_ENGINE_COLO_EPOCH_SINK_H

#include "engine/sink/sink.h"
#include "image/epochs/epoch_history.h"
#include "wire/vmdesc.h"

struct gw__epoch_sink;

struct gw__epoch_sink_opts {
	uint64_t limit_bytes;  /* the memory that one epoch may take, device state included */
	bool durable;          /* epochs outlive this process and its host, from gw__epoch_sink_start_journal on */
	uint64_t extent_bytes; /* of the journal; 0: as usual */
	uint64_t history;      /* so many epochs before the last one are kept; of a durable one */
};

/* The image will be `path`. */
int gw__epoch_sink_new(const char *path, const struct gw__epoch_sink_opts *o, struct gw__epoch_sink **s, struct gw__error *error);
void gw__epoch_sink_free(struct gw__epoch_sink **s); /* without `finish` nothing remains, but for the files of a durable one */
struct gw__sink *gw__epoch_sink_sink(struct gw__epoch_sink *s);

/* The initial migration is here: is all of it usable? Then it is epoch 0. `desc` is borrowed; NULL: there is none. */
int gw__epoch_sink_complete_guest(struct gw__epoch_sink *s, const struct gw__vmdesc *desc, struct gw__error *error);

/* Epoch 0 is safe on the disk. It takes as long as that takes; the guest need not wait for it. Not durable: 0. */
int gw__epoch_sink_start_journal(struct gw__epoch_sink *s, struct gw__error *error);

void gw__epoch_sink_begin(struct gw__epoch_sink *s);
int gw__epoch_sink_reserve_devices(struct gw__epoch_sink *s, uint64_t bytes, uint8_t **to, struct gw__error *error);
/* All has come: is it whole and usable, and is there room for it? Nothing is changed. */
int gw__epoch_sink_check(struct gw__epoch_sink *s, struct gw__error *error);
/* Between check and commit, of a durable one: it is safe on the disk. After a failure the epoch before is. Not durable: 0. */
int gw__epoch_sink_persist(struct gw__epoch_sink *s, struct gw__error *error);
void gw__epoch_sink_commit(struct gw__epoch_sink *s);
/* Its pages go to their places. A failure leaves the epoch what it is: again, or with `finish`. */
int gw__epoch_sink_apply(struct gw__epoch_sink *s, struct gw__error *error);
void gw__epoch_sink_drop(struct gw__epoch_sink *s); /* what came of an epoch that was not committed */

/* The image of the last epoch gets its name, without being synced unless `sync`, or it is durable. Nothing may follow. */
int gw__epoch_sink_finish(struct gw__epoch_sink *s, bool sync, struct gw__error *error);

/*
 * After the death of a durable one: the image of the last epoch that is whole gets its name, synced. -ENOENT: nothing was left. A failure leaves what is there as it
 * is, to be tried again.
 */
int gw__epoch_sink_recover(const char *path, uint64_t *epoch, struct gw__error *error);

/* A whole image of an epoch that is kept, as `to`, not synced; also while the guest is protected. -ENODATA: it is not kept. */
int gw__epoch_sink_export(const char *path, uint64_t epoch, const char *to, struct gw__error *error);
/* The last epoch, and those before it that are kept, the newest first; to be freed. -ENODATA: there is no history. */
int gw__epoch_sink_history(const char *path, uint64_t *last, struct gw__epoch_past **past, size_t *n, struct gw__error *error);

struct gw__epoch_sink_stats {
	uint64_t pages, zero_pages; /* of the epoch that is, or was last, received */
	uint64_t device_bytes;
	uint64_t memory_bytes, memory_most_bytes;
};
struct gw__epoch_sink_stats gw__epoch_sink_stats(const struct gw__epoch_sink *s);

#endif
