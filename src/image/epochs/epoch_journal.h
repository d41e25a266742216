/* SPDX-License-Identifier: MIT */
/*
 * The epochs of a protected guest, safe on the disk before they are acknowledged (docs/spec/epoch-journal.md). Two extents beside the image, IMAGE.journal.0
 * and .1, take turns: each begins with a base (all that is known of the guest but its pages, at one epoch) and goes on with one record per epoch. An
 * extent is given up when the image was synced up to the base of the other one. Replaying is idempotent: it does not matter how many of the
 * recorded pages the image has already.
 *
 * Not the image, and not the thread that syncs it: those are the caller's. One thread at a time.
 */
#ifndef GW_IMAGE_EPOCHS_EPOCH_JOURNAL_H
#define GW_IMAGE_EPOCHS_EPOCH_JOURNAL_H

#include "image/epochs/epoch.h"
#include "image/journal/recv_state.h"

enum { GW__EPOCH_EXTENT_BYTES = 64 << 20 }; /* of records; the one that crosses it is the last of its extent */

struct gw__epoch_journal;

/* A guest at one epoch. `saved`: early are the device sections before RAM, package is all of its device state, user_data is the caller's. */
struct gw__epoch_base {
	uint64_t epoch;
	struct gw__recv_state_saved saved;
	const struct gw__bitmap *(*present)(void *ctx, uint32_t block); /* to write: which pages have content */
	void *ctx;
	struct gw__view maps; /* when read: the same, one after the other, as in the image */
};

/*
 * Two empty extents; older ones are replaced. `extent_bytes` 0: GW__EPOCH_EXTENT_BYTES. `path` is the image's. Nothing can be opened before
 * gw__epoch_journal_begin.
 */
int gw__epoch_journal_create(const char *path, uint64_t extent_bytes, struct gw__epoch_journal **j, struct gw__error *error);
/* The other extent, which was given up, begins at this epoch. It is not synced before gw__epoch_journal_sync, or the next record. */
int gw__epoch_journal_begin(struct gw__epoch_journal *j, struct gw__epoch_base *base, struct gw__error *error);
int gw__epoch_journal_sync(struct gw__epoch_journal *j, struct gw__error *error); /* with the folder */
/* 0: this epoch, the one after the last, is safe. After a failure it is not one, and the ones before it are as safe as they were. */
int gw__epoch_journal_append(struct gw__epoch_journal *j, const struct gw__epoch *epoch, struct gw__error *error);
/* What appending would take, devices included; an upper bound. */
uint64_t gw__epoch_journal_bytes(const struct gw__epoch_journal *j, const struct gw__epoch *epoch);
bool gw__epoch_journal_is_full(const struct gw__epoch_journal *j); /* the other extent is to begin, when it is free */
/* The image has all up to the base of the extent that grows: the other one is not needed. From any thread, while nothing begins. */
int gw__epoch_journal_release(struct gw__epoch_journal *j, struct gw__error *error);
void gw__epoch_journal_remove(const char *path);           /* both extents */
void gw__epoch_journal_close(struct gw__epoch_journal *j); /* NULL is fine; the files stay */

/*
 * What a dead standby left. 0; -ENOENT: there is no journal, or none that was begun; -EPERM: it is not ours alone; -EPROTO: damaged, no epoch can be had of it. The
 * base and its pieces live as long as the journal.
 */
int gw__epoch_journal_open(const char *path, struct gw__epoch_journal **j, struct gw__epoch_base *base, struct gw__error *error);
uint64_t gw__epoch_journal_last(const struct gw__epoch_journal *j);
/* As if the last epoch had not come. False: it stands in no record. */
bool gw__epoch_journal_drop_last(struct gw__epoch_journal *j);
/* After the pages of a record: the device state of that epoch, lent for the call. */
typedef int gw__epoch_replayed_fn(void *ctx, uint64_t epoch, struct gw__view devices, struct gw__error *error);
/* All records in their order. `done` may be NULL. The device state of the last epoch, as `devices`, lives as long as the journal. */
int gw__epoch_journal_replay(struct gw__epoch_journal *j, gw__epoch_apply_fn *fn, gw__epoch_replayed_fn *done, void *ctx,
	struct gw__view *devices, struct gw__error *error);

#endif
