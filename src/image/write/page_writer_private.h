/* SPDX-License-Identifier: MIT */
/* What a page writer is made of; see page_writer.h for what it promises. Everything here belongs to the page writer's thread. */
#ifndef GW_IMAGE_WRITE_PAGE_WRITER_PRIVATE_H
#define GW_IMAGE_WRITE_PAGE_WRITER_PRIVATE_H

#include "image/write/page_writer.h"
#include "image/write/writer_private.h"

enum { GW__PAGE_WRITER_BUFFERS = 8, GW__PAGE_WRITER_HOW_BYTES = 160 };

struct gw__page_writer {
	struct gw__image_writer *w;
	uint8_t *memory; /* the buffers, one after the other */
	size_t memory_bytes;
	uint8_t *taken;          /* lent to the worker; NULL: none */
	struct gw__uring *uring; /* NULL: a write is done when it returns */
	struct gw__error failed; /* from then on every call says so, and nothing is written */
	char how[GW__PAGE_WRITER_HOW_BYTES];
};

/*
 * The steps of a put, also for the writer's own staging (writer_direct.c): any number of runs of pages in the
 * buffer taken last, then the buffer goes back. A write marks no page as present.
 */
int gw__page_writer_write(struct gw__page_writer *page_writer, const uint8_t *from, uint64_t bytes, uint32_t block, uint64_t off,
	struct gw__error *error);
int gw__page_writer_return_buffer(struct gw__page_writer *page_writer, struct gw__error *error);

/*
 * Writes from buffers while others are filled (page_writer_uring.c). Positive from `new`: not possible here, `how`
 * says why. The sentence of a failure, also of a write that completes later, goes to page writer->failed, which the
 * caller looks at first.
 */
int gw__uring_new(struct gw__page_writer *page_writer, struct gw__uring **u);
void gw__uring_free(struct gw__uring *u); /* waits; NULL is fine */
int gw__uring_take(struct gw__uring *u, uint8_t **buffer);
/* `from` lies in the buffer taken last, and stays as it is until that is taken again. */
int gw__uring_write(struct gw__uring *u, const uint8_t *from, uint64_t bytes, uint64_t to);
int gw__uring_start(struct gw__uring *u); /* what was written so far is on its way */
int gw__uring_wait(struct gw__uring *u);  /* ... has arrived */

#endif
