/* SPDX-License-Identifier: MIT */
/*
 * The primary of COLO whose guest is kept in images of one VM (docs/spec/colo.md): the secondary gets the first of them whole, and each later one as a
 * checkpoint. For tests: no command replays a guest so. One thread.
 */
#ifndef IMAGE_PRIMARY_H
#define IMAGE_PRIMARY_H

#include "engine/outgoing/connect.h"
#include "engine/outgoing/multifd_send.h"
#include "image/read/image.h"
#include "plan/colo_primary.h"

struct image_primary;

struct image_primary_opts {
	bool old_dialect; /* of QEMU 10.0: ENABLE_COLO, no return path, no SHUT; one channel */
	int answer_ms;    /* for each word of the secondary; -1: for ever */
	uint32_t method;  /* of compression over multifd; 0: none */
	int level;
};

/* Borrows the connections, on which nothing was said but the hellos of multifd. */
int image_primary_new(struct gw__run *run, struct gw__outgoing *out, const struct image_primary_opts *o, struct image_primary **p);
void image_primary_free(struct image_primary *p); /* NULL is fine */

/* The guest, until the secondary is ready. The image is borrowed until the next checkpoint was taken. */
int image_primary_send_guest(struct image_primary *p, struct gw__image *image);
/*
 * A checkpoint: the pages in which `image` differs from the one before, and its devices. The same image again: no page, and its devices. 0: the
 * secondary has it and uses it.
 */
int image_primary_checkpoint(struct image_primary *p, const struct gw__image *image);
enum gw__colo_primary_state image_primary_state(const struct image_primary *p);

#endif
