/* SPDX-License-Identifier: MIT */
/* A mapped-ram image as a sink: a guest is kept. Freed with gw__sink_free; the main thread's, but for page writers (sink.h). */
#ifndef GW_ENGINE_SINK_IMAGE_SINK_H
#define GW_ENGINE_SINK_IMAGE_SINK_H

#include "engine/sink/sink.h"
#include "image/write/writer.h"

/* Takes the writer over. Committing gives the image its name. */
int gw__sink_image_new(struct gw__image_writer **writer, struct gw__sink **sink, struct gw__error *error);

/*
 * The image another process left unfinished (image/journal/recv_state.h), as a sink that knows what came. `*user_data` is what its maker gave it, and lives
 * as long as the sink; `*fell_back` as of gw__image_resume.
 */
int gw__sink_image_resume(const char *path, struct gw__sink **sink, struct gw__view *user_data, bool *rolled_back, struct gw__error *error);
/*
 * The same for an image that is filled again and again (gw__image_reopen, whose writer is taken over also by a failure): `saved` says what came before its pages.
 */
int gw__sink_image_reopen(struct gw__image_writer **writer, const struct gw__recv_state_saved *saved, struct gw__sink **sink,
	struct gw__error *error);
/* The caller's own words, kept with an image that is left unfinished. Borrowed. */
void gw__sink_image_set_user_data(struct gw__sink *sink, struct gw__view user_data);

#endif
