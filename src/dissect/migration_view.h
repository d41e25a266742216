/* SPDX-License-Identifier: MIT */
/*
 * What was seen of a migration by somebody who only looks on: the guest's pages and blocks, which channels without a head
 * cannot be read without, and how far the two ends came. All channels of a migration share one; any thread, under its lock.
 *
 * It is not a state of ours: nothing here decides anything, and the bytes of a channel are only ever read, never made.
 */
#ifndef GW_DISSECT_MIGRATION_VIEW_H
#define GW_DISSECT_MIGRATION_VIEW_H

#include <pthread.h>

#include "wire/stream.h"

/* What can be seen to happen. */
enum gw__observed_event {
	GW__OBSERVED_OPAQUE, /* a channel nobody can look into */
	GW__OBSERVED_BEGUN,  /* a main channel's head; gw__migration_view_begin notes it */
	GW__OBSERVED_RETURN_PATH,
	GW__OBSERVED_WHOLE,     /* the stream came to its end */
	GW__OBSERVED_RUN,       /* post-copy: the package went through, the guest is the destination's */
	GW__OBSERVED_PING_RUNS, /* the source wants to be told that it runs */
	GW__OBSERVED_PONG_RUNS, /* and was */
	GW__OBSERVED_SHUT,      /* SHUT 0: the destination has everything */
	GW__OBSERVED_SHUT_ERROR,
	GW__OBSERVED_RECOVERY, /* a main channel of a recovery */
	GW__OBSERVED_RESUMED,  /* RESUME_ACK */
	GW__OBSERVED_COLO,     /* a word of a COLO secondary: both have the guest */
	GW__SIGHTS
};

/* Where the guest is, as far as somebody who looked on can tell. */
enum gw__guest_location {
	GW__WHERE_NO_MIGRATION, /* nothing of one was seen */
	GW__WHERE_SOURCE,       /* it did not leave */
	GW__WHERE_DESTINATION,  /* it arrived, and the source was told */
	GW__WHERE_UNCONFIRMED,  /* everything went through, but there is no return path to say that it arrived */
	GW__WHERE_PAUSED,       /* it runs at the destination, which lacks pages: recovery is possible */
	GW__WHERE_UNKNOWN,
};

struct gw__migration_view {
	pthread_mutex_t lock;
	uint32_t sights;     /* bit i: enum gw__observed_event */
	uint64_t page_bytes; /* 0: not known; never where blocks are */
	uint32_t ram_id;
	struct gw__blocks blocks; /* empty: not known */
};

void gw__migration_view_init(struct gw__migration_view *s);
void gw__migration_view_fini(struct gw__migration_view *s);

/* A main channel's head: a new migration, and everything before is forgotten. */
void gw__migration_view_begin(struct gw__migration_view *s, uint64_t page_bytes);
void gw__migration_view_note(struct gw__migration_view *s, enum gw__observed_event observed);
/* Its blocks, with the size of the pages they are counted in. Copied; 0 or -ENOMEM. */
int gw__migration_view_blocks(struct gw__migration_view *s, uint64_t page_bytes, uint32_t ram_id, const struct gw__blocks *blocks);

uint64_t gw__migration_view_ask_page_bytes(struct gw__migration_view *s); /* 0: not known */
/* How many target pages a block has; 0: not known. */
uint64_t gw__migration_view_ask_pages(struct gw__migration_view *s, const char *block);
/* A decoder for a channel that begins without a head; `init` is one of those of wire/stream.h. */
int gw__migration_view_init_stream(struct gw__migration_view *s, struct gw__stream *stream, const struct gw__stream_opts *o,
	int (*init)(struct gw__stream *stream, const struct gw__stream_opts *o, const struct gw__stream_guest *g));

enum gw__guest_location gw__migration_view_where(struct gw__migration_view *s);

#endif
