/* SPDX-License-Identifier: MIT */
/* What sink_image.c and sink_image_partial.c share. Nobody else includes it. */
#ifndef GW_ENGINE_SINK_IMAGE_H
#define GW_ENGINE_SINK_IMAGE_H

#include "engine/sinks.h"
#include "wire/vmdesc_text.h"

struct gw__image_sink {
	struct gw__sink sink; /* first: ops find the rest through it */
	struct gw__image_writer *writer;
	struct gw__config config;      /* of the image: with mapped-ram */
	struct gw__vmdesc_plain plain; /* in case no description comes */

	uint32_t pieces_id, pieces_n; /* of the last piece of an iterable; entries that the reader makes of them all */
	uint64_t pieces_bytes;        /* in the last entry */

	/* For who has to go on in our place (post-copy). */
	uint32_t ram_id;
	bool ram_ended;
	bool any_ram_id;
	uint64_t page_bytes;
	uint8_t *early; /* device sections before the end of RAM, and an EOF mark behind their bytes */
	size_t early_bytes;
	uint8_t *package;
	size_t package_bytes;
	struct gw__view note; /* the caller's; borrowed */
};

extern const struct gw__sink_postcopy_ops gw__sink_image_postcopy;

/* An early device: kept beside what is written. 0 or -ENOMEM with a sentence. */
int gw__sink_image_keep_early(struct gw__image_sink *s, struct gw__view raw, struct gw__why *why);
/* The sink of a writer, taken over. NULL: no memory. */
struct gw__image_sink *gw__sink_image_around(struct gw__image_writer **writer);

#endif
