/* SPDX-License-Identifier: MIT */
/* What inspect found, from the inside. Immutable once made, but for the fields, which are made when they are asked for. */
#ifndef GW_LIB_INFO_H
#define GW_LIB_INFO_H

#include <pthread.h>

#include "engine/sink/summary.h"
#include "engine/incoming/stream.h"
#include "godwit.h"
#include "image/read/working_set.h"

enum { GW__INFO_WARNINGS = 16 };

struct gw_info {
	enum gw_format format;
	struct gw__guest_summary guest;
	struct gw__block_stats *block; /* guest.blocks.n of them */
	struct gw__vmdesc *desc;       /* NULL without a description */
	struct gw_info_summary summary;
	struct {
		bool there;
		struct gw__error unused;
		struct gw_info_working_set sum;
		uint64_t *pages; /* by block; NULL without */
	} working_set;
	struct gw__info_pages *pages; /* NULL: nobody has asked */
	pthread_mutex_t lock;         /* for `fields` and what is in there */
	struct gw__info_fields {
		struct gw_info_field *v;
		uint32_t n, room;
		int end;          /* what is answered past the last one; 0: not made yet */
	} * fields;               /* guest.devices_n of them; NULL: nobody has asked */
	size_t fields_room_bytes; /* of memory that those that are not made yet may take */
	char run_state[33];
	char *path;
	char not_clonable[400];
	bool *block_clonable; /* guest.blocks.n of them; NULL: nobody has asked */
	char warning[GW__INFO_WARNINGS][200];
	uint32_t warnings_n;
};

/* --- info_pages.c: which pages are what, and how two guests differ --- */

enum { GW__INFO_DIFFERENCES = 256 };

struct gw__info_pages {
	uint32_t blocks;
	struct gw__bitmap *present, *known, *differing; /* by block; NULL: none */
	char *difference[GW__INFO_DIFFERENCES + 1];     /* the last one: how many more */
	uint32_t differences;
};
/* Takes what `image` has of them, which ends the use of its pages; `image` may be NULL, then the summary's. 0, or -ENOMEM with a sentence. */
int gw__info_take_pages(struct gw_info *info, struct gw__image *image, struct gw__error *error);
/* The same of what a working set knows. */
int gw__info_take_known(struct gw_info *info, struct gw__working_set *ws, struct gw__error *error);
/* Compares `image`, which still has its pages, with what is kept at `path`. */
int gw__info_compare(struct gw__run *run, struct gw_info *info, const struct gw__image *image, const char *path);
void gw__info_pages_free(struct gw__info_pages *pages); /* NULL is fine */

/* Body of device i inside guest.raw. */
struct gw__view gw__info_body(const struct gw_info *info, uint32_t i);

#endif
