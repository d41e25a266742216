/* SPDX-License-Identifier: MIT */
/*
 * A page writer: one worker's way into an image that many fill at the same time. It lends page-aligned buffers, so that a
 * payload is read from the socket right where it is written from, and puts their pages at their places.
 *
 * A page writer belongs to one thread at a time; different page writers of a writer run at the same time. Between two
 * flushes no page may be in two page writers (the engine's barriers see to that); within a page writer the last put of a
 * page wins. With direct I/O a buffer is written by io_uring while the worker reads the next one, past the
 * page cache; where io_uring is forbidden, and without direct I/O, by plain pwrite. A page writer comes after
 * gw__image_put_blocks, and goes before its writer.
 */
#ifndef GW_IMAGE_WRITE_PAGE_WRITER_H
#define GW_IMAGE_WRITE_PAGE_WRITER_H

#include "image/write/writer.h"

struct gw__page_writer;

enum { GW__PAGE_WRITER_BUFFER_BYTES = 512 << 10 };

/*
 * The writer's `direct` option decides how. 0; -ENOMEM; -E2BIG for a guest whose pages do not fit into a
 * buffer. That io_uring is forbidden here is no error.
 */
int gw__page_writer_new(struct gw__image_writer *w, struct gw__page_writer **page_writer, struct gw__error *error);
void gw__page_writer_free(struct gw__page_writer *page_writer); /* waits for what is under way; NULL is fine */
/* How it writes, and if by pwrite why so, in a few words for people. As long as the page writer. */
const char *gw__page_writer_how(const struct gw__page_writer *page_writer);

/*
 * A buffer of GW__PAGE_WRITER_BUFFER_BYTES, aligned for direct I/O; waits until one is free. The page writer owns it; the
 * worker fills it and gives it back with the next gw__page_writer_submit (or takes again without putting, which gives
 * the same one).
 */
int gw__page_writer_borrow_buffer(struct gw__page_writer *page_writer, void **buffer, struct gw__error *error);
/*
 * `n` pages that stand one after the other in the buffer taken last; page i goes to off[i] of the block.
 * Pages of zeros are left out as by gw__image_put_pages. The offsets were checked; the array is not kept. An
 * error may be that of an earlier put; after one the page writer does nothing more, and the image cannot be
 * committed.
 */
int gw__page_writer_submit(struct gw__page_writer *page_writer, uint32_t block, const uint64_t *off, uint32_t n, struct gw__error *error);
/* Everything put is in the file (not necessarily on the disk): what a barrier between rounds needs. */
int gw__page_writer_flush(struct gw__page_writer *page_writer, struct gw__error *error);

#endif
