/* SPDX-License-Identifier: MIT */
/*
 * Writes a mapped-ram image exactly as QEMU lays it out (docs/spec/mapped-ram.md), so that stock QEMU loads it.
 *
 * Nothing is half done: the file grows without a name (O_TMPFILE, or a clearly named partial beside the target where
 * the file system cannot), and appears under its name in gw__image_commit, whole and synced; any other way out leaves
 * what was there before. Calls come in the order of the enum-like list below; one thread.
 */
#ifndef GW_IMAGE_WRITER_H
#define GW_IMAGE_WRITER_H

#include <sys/uio.h>

#include "base/bitmap.h"
#include "base/error.h"
#include "wire/header.h"
#include "wire/ram.h"

struct gw__image_writer;

struct gw__image_writer_opts {
	uint64_t base_off; /* the first base_off bytes of an existing file are kept, as QEMU does with offset= */
	bool sparse_check; /* look at content: pages of zeros sent as data are left out too */
};

/* Checks that the target can be replaced (a regular file or nothing, writable folder) before a byte is received. */
int gw__image_create(const char *path, const struct gw__image_writer_opts *o, struct gw__image_writer **w, struct gw__why *why);
/* Drops what was written; nothing appears. NULL is fine; after commit it only frees. */
void gw__image_writer_close(struct gw__image_writer *w);

/* 1. The configuration; the capability mapped-ram is added, the list kept. */
int gw__image_put_config(struct gw__image_writer *w, const struct gw__config *config, struct gw__why *why);
/* 2. Whole sections or commands, verbatim, at this place of the stream (early devices, SWITCHOVER_START, devices, ...). */
int gw__image_put_raw(struct gw__image_writer *w, const void *bytes, size_t n, struct gw__why *why);
/* 3. START of RAM with the block list; places every block. `blocks` is copied; ignored blocks have `ignored` set. */
int gw__image_put_blocks(struct gw__image_writer *w, uint32_t section_id, const struct gw__blocks *blocks, struct gw__why *why);
/* 4. Pages in any order, any number of times; offsets were checked by the caller against the block list. */
int gw__image_put_pages(struct gw__image_writer *w, uint32_t block, uint64_t off, const struct iovec *pages, int n,
	struct gw__why *why); /* n consecutive pages, one iovec each */
void gw__image_put_zeros(struct gw__image_writer *w, uint32_t block, uint64_t off, uint64_t pages);
/* What the image holds of a page now: 0, GW__SHORT if neither content nor zeros were ever put. */
int gw__image_peek_page(struct gw__image_writer *w, uint32_t block, uint64_t off, void *page, struct gw__why *why);
/* 5. END of RAM: bitmaps go to their places. */
int gw__image_put_ram_end(struct gw__image_writer *w, struct gw__why *why);
/* 6. EOF and the description (NULL: none) come as raw bytes; then make it safe and give it its name. */
int gw__image_commit(struct gw__image_writer *w, struct gw__why *why);

/* Pages with content so far and bytes written to page regions, for progress. */
struct gw__image_writer_stats {
	uint64_t pages_present, zero_pages, pages_written;
};
struct gw__image_writer_stats gw__image_writer_stats(const struct gw__image_writer *w);

#endif
