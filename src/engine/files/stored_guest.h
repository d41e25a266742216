/* SPDX-License-Identifier: MIT */
/*
 * A guest that is kept somewhere: a mapped-ram image, or a stream in a file, a pipe or a command's output. Opens what
 * it finds and lets the caller treat both alike. One thread.
 */
#ifndef GW_ENGINE_FILES_STORED_GUEST_H
#define GW_ENGINE_FILES_STORED_GUEST_H

#include "engine/incoming/stream.h"
#include "image/read/image.h"

struct gw__stored_guest {
	struct gw__image *image; /* one of the two */
	struct gw__chan *stream;
	uint64_t base_off;
	bool *left_out; /* of an image, one per RAM block: no page of it is given to the sink. malloc'ed by who asks for it; NULL: none */
	char name[160]; /* for sentences */
};

/* `where`: a path, or file:, fd: or exec: as a URI; a file of that name goes first. */
int gw__stored_guest_open(struct gw__run *run, const char *where, uint64_t base_off, struct gw__stored_guest *stored);
void gw__stored_guest_close(struct gw__stored_guest *stored); /* also on a zeroed one, also twice */

/* Drive a sink from it, whatever it is. The tally is filled for a stream only, and may be NULL. */
int gw__stored_guest_run(struct gw__run *run, struct gw__stored_guest *stored, struct gw__sink *sink, struct gw__stream_stats *stats);

/* Of an image, everything but the pages, and no commit: what kind of guest is it? */
int gw__stored_guest_describe(struct gw__run *run, const struct gw__stored_guest *stored, struct gw__sink *sink);

/* Make sure it is an image: a stream is unpacked into an unnamed temporary one. */
int gw__stored_guest_as_image(struct gw__run *run, struct gw__stored_guest *stored);

#endif
