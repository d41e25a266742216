/* SPDX-License-Identifier: MIT */
/* How an image gets from a file into a struct gw__image; the part of image.h that its users do not see. */
#ifndef GW_IMAGE_IMAGE_LOAD_H
#define GW_IMAGE_IMAGE_LOAD_H

#include "image/image.h"
#include "wire/stream.h"

/* While an image is being opened, and only then. One thread. */
struct gw__image_load {
	struct gw__image *image;
	struct gw__stream stream;
	uint8_t *buf; /* the decoder is shown [at, n) of it, and goes on behind what it used up */
	size_t at, n, room;
	uint64_t off; /* in the file, of buf[at] */
	uint32_t devices_room;
	struct gw__why *why;
};

/* Fills everything behind file_bytes. 0 or a negative errno; what was filled so far is the caller's to free.
 */
int gw__image_load(struct gw__image *image, struct gw__why *why);

/* Notes one event, whose bytes end at `end_off` of the file. */
int gw__image_take(struct gw__image_load *l, const struct gw__event *ev, uint64_t end_off);

/* The bitmaps of all blocks, whose regions were checked. */
int gw__image_load_bitmaps(struct gw__image *image, struct gw__why *why);

/* Notes something legal that no QEMU writes; the first few are kept. */
void gw__image_note_odd(struct gw__image *image, const char *fmt, ...) GW__PRINTF(2, 3);

#endif
