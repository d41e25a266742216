/* SPDX-License-Identifier: MIT */
/*
 * The epochs before the last one (docs/spec/epoch-journal.md 5): for each a file IMAGE.history.N with what the pages that epoch N + 1 changed were in epoch N, and
 * N's device state. Who has the last epoch goes back one by one. A file is safe before the pages are replaced, so that it is whole or not needed.
 */
#ifndef GW_IMAGE_EPOCHS_EPOCH_HISTORY_H
#define GW_IMAGE_EPOCHS_EPOCH_HISTORY_H

#include "image/epochs/epoch_journal.h"
#include "image/file/destination_path.h"
#include "wire/ram.h"

/* The guest as it is before an epoch is applied to it. */
struct gw__epoch_guest {
	uint64_t page_bytes;
	struct gw__view devices;
	int (*read)(void *ctx, uint32_t block, uint64_t off, void *page, struct gw__error *error); /* GW__NO_PAGE: zeros */
	void *ctx;
};
/* It is epoch `number`; of its pages those are kept that `next` has. Safe on the disk when it returns 0. */
int gw__epoch_history_keep(const char *path, uint64_t number, const struct gw__epoch *next, const struct gw__epoch_guest *now,
	struct gw__error *error);
/* What is known of the last epoch of an image that is finished, to go back from. Safe as well. */
int gw__epoch_history_keep_last(const char *path, struct gw__epoch_base *base, struct gw__error *error);
bool gw__epoch_history_has(const char *path, uint64_t number); /* whole */
void gw__epoch_history_remove(const char *path, uint64_t number);
void gw__epoch_history_remove_all(const char *path); /* and the base of a finished image, GW__EPOCH_HISTORY_SUFFIX */

#define GW__EPOCH_HISTORY_SUFFIX ".history" /* of the image's name: a journal that has a base and no record, of an image that is finished */

struct gw__epoch_past {
	uint64_t number;
	uint64_t bytes;  /* of its file */
	int64_t time_ns; /* when the epoch after it was merged; since 1970 */
};
/* Those from which there is a way back from `last`, the newest first; to be freed. 0 or a negative errno. */
int gw__epoch_history_list(const char *path, uint64_t last, struct gw__epoch_past **past, size_t *n, struct gw__error *error);

/* The pages of epoch `number`, where the image has those of `number` + 1. `blocks` bounds them. `devices` is to be freed. */
int gw__epoch_history_replay(const char *path, uint64_t number, uint64_t page_bytes, const struct gw__blocks *blocks,
	gw__epoch_apply_fn *fn, void *ctx, uint8_t **devices, size_t *devices_bytes, struct gw__error *error);

#endif
