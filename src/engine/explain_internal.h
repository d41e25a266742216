/* SPDX-License-Identifier: MIT */
/* What the files of the explainer share. Nobody else includes it. */
#ifndef GW_ENGINE_EXPLAIN_INTERNAL_H
#define GW_ENGINE_EXPLAIN_INTERNAL_H

#include "engine/explain.h"
#include "wire/multifd.h"
#include "wire/retpath.h"

/* Pages that follow one another in a block and in the channel. */
struct gw__explain_run {
	uint64_t pages, zero_pages, xbzrle_pages; /* none: no run */
	uint32_t block;
	uint64_t start_off, end_off; /* in the block */
	uint64_t at, end;            /* in the channel */
};

struct gw__explain {
	struct gw__explain_opts o;
	uint64_t off;      /* bytes used */
	uint64_t said_off; /* the next message begins here */
	uint64_t skip;     /* bytes of payload to pass by */
	bool stopped;      /* `say` wants nothing more now */
	bool opaque;       /* said to be unreadable */
	bool ended;
	struct gw__why why;
	struct gw__message message; /* being made */
	struct gw__explain_run run;
	struct gw__explain_tally tally;
	uint32_t sights; /* bit i: enum gw__sight, to be confirmed */

	/* explain_stream.c */
	struct gw__stream stream;
	struct gw__explain_tally section; /* what the tally was when the RAM section began */

	/* explain_retpath.c */
	char asked_block[GW__NAME_MAX + 1]; /* of the previous request */
	struct gw__rp_msg bitmap;           /* whose bitmap is being read */
	enum { GW__BITMAP_NONE, GW__BITMAP_SIZE, GW__BITMAP_BITS, GW__BITMAP_MARK } bitmap_state;
	uint64_t bitmap_left, bitmap_pages, bitmap_at, bitmap_ones;

	/* explain_multifd.c */
	bool said_hello;
	struct gw__multifd_packet packet;
};

/*
 * One step over the bytes at hand: 1 and *used, 0 when more bytes are needed, negative with x->why. A message is made with the
 * functions below while x->off is still that of the first of these bytes.
 */
int gw__explain_stream(struct gw__explain *x, const uint8_t *bytes, size_t n, bool last, size_t *used);
int gw__explain_retpath(struct gw__explain *x, const uint8_t *bytes, size_t n, bool last, size_t *used);
int gw__explain_multifd(struct gw__explain *x, const uint8_t *bytes, size_t n, bool last, size_t *used);

int gw__explain_begin_stream(struct gw__explain *x); /* 0 or -ENOMEM */
void gw__explain_command(struct gw__explain *x, const struct gw__command *cmd);

/* explain_message.c */
struct gw__message *gw__explain_make(struct gw__explain *x, const char *name, const char *fmt, ...) GW__PRINTF(3, 4);
void gw__explain_number(struct gw__message *m, const char *name, uint64_t v);
void gw__explain_text(struct gw__message *m, const char *name, const char *text);
/* Behind what is in the text already. */
void gw__explain_more(struct gw__message *m, const char *fmt, ...) GW__PRINTF(2, 3);
/* It ends at this offset of the channel. A run that waits is said before. */
void gw__explain_say(struct gw__explain *x, uint64_t end_off);
/* The same where it stands, beside what else is said of these bytes. */
void gw__explain_say_at(struct gw__explain *x, uint64_t off, uint64_t end_off);

/* "4 MiB", "12 KiB", "77 bytes": exact. */
struct gw__explain_size {
	char text[32];
};
const char *gw__explain_size_text(uint64_t bytes, struct gw__explain_size *s);
#define GW__EXPLAIN_SIZE(bytes) gw__explain_size_text(bytes, &(struct gw__explain_size){""})

/* explain_pages.c */
void gw__explain_page(struct gw__explain *x, const char *name, const struct gw__ram_where *where, uint64_t end_off);

/* To be confirmed when it has really arrived. */
void gw__explain_sight(struct gw__explain *x, enum gw__sight sight);

#endif
