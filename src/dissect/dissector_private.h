/* SPDX-License-Identifier: MIT */
/* What the files of the dissector share. Nobody else includes it. */
#ifndef GW_DISSECT_DISSECTOR_PRIVATE_H
#define GW_DISSECT_DISSECTOR_PRIVATE_H

#include "dissect/dissector.h"
#include "wire/multifd.h"
#include "wire/return_path.h"

/* Pages that follow one another in a block and in the channel. */
struct gw__dissector_run {
	uint64_t pages, zero_pages, xbzrle_pages; /* none: no run */
	uint32_t block;
	uint64_t start_off, end_off; /* in the block */
	uint64_t at, end;            /* in the channel */
};

struct gw__dissector {
	struct gw__dissector_opts o;
	uint64_t off;      /* bytes used */
	uint64_t said_off; /* the next message begins here */
	uint64_t skip;     /* bytes of payload to pass by */
	bool stopped;      /* `say` wants nothing more now */
	bool opaque;       /* said to be unreadable */
	bool ended;
	struct gw__error error;
	struct gw__message message; /* being made */
	struct gw__dissector_run run;
	struct gw__dissector_stats stats;
	uint32_t sights; /* bit i: enum gw__observed_event, to be confirmed */

	/* colo.c: behind the end of a stream, and behind SHUT 0 on the return path */
	bool colo;            /* messages of COLO were seen in this direction */
	uint64_t device_left; /* bytes of the device state of a checkpoint */
	uint32_t device_index;

	/* stream.c */
	struct gw__stream stream;
	struct gw__dissector_stats section; /* what the tally was when the RAM section began */

	/* return_path.c */
	char asked_block[GW__NAME_MAX + 1]; /* of the previous request */
	struct gw__rp_msg bitmap;           /* whose bitmap is being read */
	enum { GW__BITMAP_NONE, GW__BITMAP_SIZE, GW__BITMAP_BITS, GW__BITMAP_MARK } bitmap_state;
	uint64_t bitmap_left, bitmap_pages, bitmap_at, bitmap_ones;

	/* multifd.c */
	bool said_hello;
	struct gw__multifd_packet packet;
};

/*
 * One step over the bytes at hand: 1 and *used, 0 when more bytes are needed, negative with x->why. A message is made with the
 * functions below while x->off is still that of the first of these bytes.
 */
int gw__dissector_stream(struct gw__dissector *x, const uint8_t *bytes, size_t n, bool last, size_t *used);

int gw__dissector_begin_stream(struct gw__dissector *x);
/* message.c */
struct gw__message *gw__dissector_make(struct gw__dissector *x, const char *name, const char *fmt, ...) GW__PRINTF(3, 4);
void gw__dissector_number(struct gw__message *m, const char *name, uint64_t v);
void gw__dissector_text(struct gw__message *m, const char *name, const char *text);
/* Behind what is in the text already. */
void gw__dissector_more(struct gw__message *m, const char *fmt, ...) GW__PRINTF(2, 3);
/* It ends at this offset of the channel. A run that waits is said before. */
void gw__dissector_emit(struct gw__dissector *x, uint64_t end_off);

/* "4 MiB", "12 KiB", "77 bytes": exact. */
struct gw__dissector_size {
	char text[32];
};
const char *gw__dissector_size_text(uint64_t bytes, struct gw__dissector_size *s);
#define GW__DISSECTOR_SIZE(bytes) gw__dissector_size_text(bytes, &(struct gw__dissector_size){""})

/* Behind the last byte of a guest, forwards: messages, and device states. What is none of COLO is refused as bytes behind the end. */
int gw__dissector_colo_forward(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used);
int gw__dissector_colo_back(struct gw__dissector *x, const uint8_t *bytes, size_t n, size_t *used);

/* pages.c */
void gw__dissector_page(struct gw__dissector *x, const char *name, const struct gw__ram_where *where, uint64_t end_off);

/* To be confirmed when it has really arrived. */
void gw__dissector_observed_event(struct gw__dissector *x, enum gw__observed_event observed);

#endif
