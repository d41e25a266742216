/* SPDX-License-Identifier: MIT */
/* What the files of an open state file share: partial.c, partial_open.c and partial_checkpoint.c alone include it. */
#ifndef GW_IMAGE_PARTIAL_PARTS_H
#define GW_IMAGE_PARTIAL_PARTS_H

#include <limits.h>

#include "image/partial_layout.h"

#define GW__PARTIAL_STATE ".partial.state"

struct gw__partial {
	int fd, dir_fd;                               /* of its folder; borrowed from the target */
	char name[NAME_MAX + 1], image[NAME_MAX + 1]; /* of the two files */
	char path[PATH_MAX + sizeof GW__PARTIAL_STATE];
	bool held;
	bool only_list;          /* the list is there, and nothing was held yet */
	bool switching;          /* the source has begun: the list is not taken away */
	bool fell_back;          /* at any time, to a checkpoint */
	bool distrusted;         /* a write or sync failed: see gw__partial_distrust */
	uint64_t finished_bytes; /* 0: it is not */
	uint64_t page_bytes, maps_bytes;
	uint64_t seq; /* of the last checkpoint; 0: none */
	uint8_t *live;
	uint8_t *meta; /* of one that was opened */
	struct gw__partial_saved saved;
	struct gw__blocks blocks; /* names left out: sizes for the maps */
};

/* --- partial.c --- */

/* Is the open file still the one that has this name? */
bool gw__partial_has_name(int dir_fd, const char *name, int fd);

/* Without a file yet. NULL: *why says it. */
struct gw__partial *gw__partial_new(const struct gw__target *t, struct gw__why *why);
/* What the size of the bitmaps follows from; page_bytes is known. */
int gw__partial_copy_sizes(struct gw__partial *p, const struct gw__blocks *blocks, struct gw__why *why);
/* The file gets its room, and its live bitmaps are mapped. */
int gw__partial_reserve(struct gw__partial *p, uint64_t meta_bytes, struct gw__why *why);
/* What gw__partial_finish has written, if it has. */
int gw__partial_load_finish(struct gw__partial *p, struct gw__why *why);

/* --- partial_open.c --- */

/* Of one that was held and looked at: its bitmaps, as of gw__partial_open. */
int gw__partial_load_maps(struct gw__partial *p, bool *fell_back, struct gw__why *why);

/* --- partial_checkpoint.c --- */

/* From now on the live bitmaps count, until the next boot. */
int gw__partial_trust_live(struct gw__partial *p, struct gw__why *why);
/* One that fails is the last: see gw__partial_distrust. */
int gw__partial_sync(struct gw__partial *p, struct gw__why *why);
/* Which bitmaps hold, behind a death: the live ones as they are, or made those of the last checkpoint, *fell_back if that was ever done. */
int gw__partial_settle_maps(struct gw__partial *p, bool *fell_back, struct gw__why *why);

#endif
