/* SPDX-License-Identifier: MIT */
/*
 * What a file holds in the place of pages that an image does not: a reader of the image never looks, and who maps the file as memory sees it
 * (docs/spec/mapped-ram.md 11). Only what the file says is data is read. Any thread; owns nothing.
 */
#ifndef GW_IMAGE_FILE_ABSENT_H
#define GW_IMAGE_FILE_ABSENT_H

#include "base/bitmap.h"
#include "base/error.h"

/* Asked every 64 KiB or more often: 0, or a negative errno by which the search ends; whoever answers so has the sentence. */
struct gw__cancel_check {
	int (*check)(void *ctx); /* NULL: it is never cancelled */
	void *ctx;
};

struct gw__absent {
	int fd;
	const char *path; /* for sentences */
	uint64_t pages_off, page_bytes;
	const struct gw__bitmap *present; /* the pages of the block that the image holds */
	const struct gw__bitmap *among;   /* of the others, look at these only. NULL: all */
	struct gw__cancel_check cancel;
};

/* From page `from` on, the first that is absent and not all zeros in the file; the number of pages if there is none. */
int gw__absent_find(const struct gw__absent *a, uint64_t from, uint64_t *page, struct gw__error *error);
/* Each of them becomes a hole, or zeros where the file system has none. */
int gw__absent_clear(const struct gw__absent *a, struct gw__error *error);

#endif
