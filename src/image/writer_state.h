/* SPDX-License-Identifier: MIT */
/* What the parts of the mapped-ram writer share; see writer.h for the interface. */
#ifndef GW_IMAGE_WRITER_STATE_H
#define GW_IMAGE_WRITER_STATE_H

#include "image/outfile.h"
#include "image/writer.h"

/* What is known of a block's pages. An ignored block has empty ones. */
struct gw__page_maps {
	struct gw__bitmap present; /* content is in the file */
	struct gw__bitmap seen;    /* content or zeros were put at some time */
};

enum gw__writer_phase {
	GW__WRITER_HEAD,    /* no configuration yet */
	GW__WRITER_EARLY,   /* before START of RAM */
	GW__WRITER_RAM,     /* pages may come */
	GW__WRITER_DEVICES, /* behind END of RAM */
	GW__WRITER_DONE,    /* committed */
};

struct gw__image_writer {
	/* The conductor's. */
	struct gw__outfile file;
	struct gw__image_writer_opts opts;
	enum gw__writer_phase phase;
	uint64_t cursor; /* absolute: where the next small record goes */
	uint32_t ram_id;
	uint64_t start_off; /* of START of RAM */
	uint8_t *between;   /* with x-ignore-shared: what was put between START and END of RAM, to be moved */
	size_t between_bytes;

	/* Fixed by put_blocks, read by all who put pages. */
	uint64_t page_bytes;
	bool ignore_shared;
	struct gw__blocks blocks;

	/* Changed by all who put pages: atomic, word by word. `maps` itself is fixed by put_blocks. */
	struct gw__page_maps *maps;
	int failed; /* the first failure; no image comes of it */
	uint64_t bytes_written;
	struct gw__image_writer_stats stats;
};

/* Remembers the first failure, so that a commit cannot overlook it. Returns r. */
int gw__writer_fail(struct gw__image_writer *w, int r);

/* START, the list with the places as they are decided by now, EOS and footer, at the cursor (writer_blocks.c). */
int gw__writer_put_list(struct gw__image_writer *w, struct gw__why *why);

/* x-ignore-shared: before END, find out which blocks were left out, and write the list again (writer_ignored.c). */
int gw__writer_settle_ignored(struct gw__image_writer *w, struct gw__why *why);
int gw__writer_keep_between(struct gw__image_writer *w, const void *bytes, size_t n, struct gw__why *why);

/* Puts an encoded record at the cursor. */
int gw__writer_put_record(struct gw__image_writer *w, const struct gw__wr *c, struct gw__why *why);

#endif
