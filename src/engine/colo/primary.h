/* SPDX-License-Identifier: MIT */
/*
 * The primary of COLO whose guest is kept in images of one VM (docs/spec/colo.md): the secondary gets the first of them whole, and each later one as a
 * checkpoint. One thread.
 */
#ifndef GW_ENGINE_COLO_PRIMARY_H
#define GW_ENGINE_COLO_PRIMARY_H

#include "engine/outgoing/connect.h"
#include "engine/outgoing/multifd_send.h"
#include "image/read/image.h"
#include "plan/colo_primary.h"

struct gw__colo_primary;

struct gw__colo_primary_opts {
	bool old_dialect; /* of QEMU 10.0: ENABLE_COLO, no return path, no SHUT; one channel */
	int answer_ms;    /* for each word of the secondary; -1: for ever */
	uint32_t method;  /* of compression over multifd; 0: none */
	int level;
};

/* Borrows the connections, on which nothing was said but the hellos of multifd. */
int gw__colo_primary_new(struct gw__run *run, struct gw__outgoing *out, const struct gw__colo_primary_opts *o, struct gw__colo_primary **p);
void gw__colo_primary_free(struct gw__colo_primary *p); /* NULL is fine */

/* The guest, until the secondary is ready. The image is borrowed until the next checkpoint was taken. */
int gw__colo_primary_send_guest(struct gw__colo_primary *p, const struct gw__image *image);
/*
 * A checkpoint: the pages in which `image` differs from the one before, and its devices. The same image again: no page, and its devices. 0: the
 * secondary has it and uses it.
 */
int gw__colo_primary_checkpoint(struct gw__colo_primary *p, const struct gw__image *image);
enum gw__colo_primary_state gw__colo_primary_state(const struct gw__colo_primary *p);

#endif
