/* SPDX-License-Identifier: MIT */
/*
 * The working set of an image: which of its pages a guest asked for, in which order, kept in a file beside it
 * (docs/spec/working-set.md). A hint: nothing that is wrong with the file is an error, it only is not there then, and a
 * sentence says why. Not what is done with the pages.
 *
 * Nobody named the file, it only lies beside the image, where others may be able to write: so no link is followed to it, and what is
 * appended to is the file that was read.
 *
 * Owned by one thread, on an image that lives longer.
 */
#ifndef GW_IMAGE_READ_WORKING_SET_H
#define GW_IMAGE_READ_WORKING_SET_H

#include <sys/types.h>

#include "base/bitmap.h"
#include "image/read/image.h"
#include "wire/working_set.h"

enum gw__ws_state {
	GW__WS_NONE, /* there is no file */
	GW__WS_THERE,
	GW__WS_FOREIGN, /* it belongs to another image */
	GW__WS_UNKNOWN, /* it is none, or a link, or cannot be read; it is left alone */
};

/* Pages in a row of a block. */
struct gw__ws_pages {
	uint32_t block;
	uint64_t first, n;
};

struct gw__working_set {
	const struct gw__image *image;
	enum gw__ws_state state;
	struct gw__ws_head head;
	uint64_t added_s;    /* when the last chunk was written; 0: there is none */
	uint64_t end_off;    /* after the last chunk that is whole */
	uint64_t torn_bytes; /* after that */
	dev_t dev;           /* of the file that was read */
	ino_t ino;
	struct gw__bitmap *known; /* by block */
	struct gw__ws_pages *run; /* in the order to be sent: chunk by chunk, ascending and joined within one */
	uint32_t runs, room;

	/* Recording. */
	int fd; /* -1: not, for the reason in `unrecorded` unless nobody wanted it */
	char *path;
	bool is_new; /* nothing was recorded yet in a file that we made */
	struct gw__error unrecorded;
	struct gw__ws_run *fresh; /* not written yet */
	uint32_t fresh_n;
	uint8_t *bytes;
};

/*
 * Never fails but for memory (-ENOMEM). `note`: a sentence where there is a file that does not help. A file that cannot be
 * made or written to is no reason for one; then nothing is recorded.
 */
int gw__working_set_open(const char *path, const struct gw__image *image, bool record, struct gw__working_set **ws, struct gw__error *note);
/* Writes what is left, and deletes an empty file of ours. NULL is fine. */
void gw__working_set_close(struct gw__working_set *ws);

/* Pages that were asked for now. Those that are known already are left out. */
void gw__working_set_add(struct gw__working_set *ws, uint32_t block, uint64_t first, uint64_t n);
/* What was added is written as a chunk; it also is when there is enough for one. */
void gw__working_set_flush(struct gw__working_set *ws);

#endif
