/* SPDX-License-Identifier: MIT */
/* What the files of the page server share. Nobody else includes it. */
#ifndef GW_ENGINE_SERVE_INTERNAL_H
#define GW_ENGINE_SERVE_INTERNAL_H

#include "engine/feed.h"
#include "engine/serve.h"
#include "wire/retpath.h"

enum { GW__SERVE_BATCH_PAGES = 64 };

struct gw__serve {
	struct gw__run *run;
	const struct gw__image *image;
	struct gw__chan *chan;
	const struct gw__serve_opts *o;
	struct gw__serve_tally *tally;
	uint64_t page_bytes;	/* target page */
	uint64_t page_summary;	/* of POSTCOPY_ADVISE */

	/* serve_pages.c: what is still to be sent. Each page is sent once. */
	struct gw__bitmap *unsent;     /* by block; empty for ignored ones */
	uint64_t *host_page_bytes;     /* by block */
	uint64_t unsent_pages;
	uint32_t at_block;	       /* the background push */
	uint64_t at_page;
	int64_t last_block;	       /* for CONTINUE */
	bool in_part;
	uint64_t part_bytes;
	uint8_t *pages;

	/* serve_hear.c: what the destination said. */
	struct gw__feed ear;
	const char *due;       /* what has to come within the limit for an answer; NULL: nothing */
	uint64_t due_since_ns;
	int64_t asked_block;   /* of the previous request */
	bool resume_sent;      /* before, a RESUME_ACK has no sense */
	bool runs, resumed;    /* PONG 0x42, RESUME_ACK 1 came */
	bool shut;
	uint32_t shut_status;
	int64_t bitmap_due;    /* block whose bitmap comes next, in the order they were asked for; -1: all are there */
};

/* A change of state; an event without a row is an error. */
int gw__serve_step(struct gw__serve *s, enum gw__pc_event event);
int gw__serve_write(struct gw__serve *s, const void *bytes, size_t n);

int gw__serve_pages_init(struct gw__serve *s);
void gw__serve_pages_fini(struct gw__serve *s);
void gw__serve_count_unsent(struct gw__serve *s);
/* A request: the pages of it that are still unsent, at once. */
int gw__serve_request(struct gw__serve *s, uint32_t block, uint64_t start_off, uint64_t bytes);
/* The next batch of the background push. */
int gw__serve_push(struct gw__serve *s);
int gw__serve_end_part(struct gw__serve *s);

/* The first block at or behind `from` that migrates; -1: none. */
int64_t gw__serve_next_block(const struct gw__serve *s, uint32_t from);

/* `what` is due from now on. */
void gw__serve_due(struct gw__serve *s, const char *what);
int gw__serve_due_ms(const struct gw__serve *s); /* what is left of its limit; -1: no limit */
int gw__serve_overdue(struct gw__serve *s);	 /* -ETIMEDOUT, with the sentence */

/* Take in what has come, waiting at most `ms` for the first byte: 0, or GW__SHORT when nothing came. */
int gw__serve_hear(struct gw__serve *s, int ms);

#endif
