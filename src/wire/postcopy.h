/* SPDX-License-Identifier: MIT */
/* Commands of post-copy and recovery, and the received bitmap (docs/spec/postcopy.md 2, 3, 6). Pure codec. */
#ifndef GW_WIRE_POSTCOPY_H
#define GW_WIRE_POSTCOPY_H

#include "base/bitmap.h"
#include "base/bytes.h"
#include "base/error.h"

/* Tokens of PINGs at the places where a QEMU source sends them. */
enum gw__ping_token {
	GW__PING_OPENED = 1,
	GW__PING_DISCARDED = 2,
	GW__PING_LOADED = 3,  /* in the package, after the device state */
	GW__PING_SENT = 4,    /* after the package */
	GW__PING_RUNS = 0x42, /* in the package: its PONG is the destination's word that the guest is its own */
};

enum {
	GW__DISCARD_RANGES_MAX = 12,    /* in one command, as QEMU does it */
	GW__RECV_BITMAP_HEAD_BYTES = 8, /* be64 size, after the message */
	GW__RECV_BITMAP_END_BYTES = 8,
};
#define GW__RECV_BITMAP_END UINT64_C(0x0123456789abcdef)

struct gw__range {
	uint64_t start_off, bytes; /* within a block */
};

void gw__advise_encode(struct gw__wr *c, uint64_t page_summary, uint64_t target_page_bytes);
void gw__ping_encode(struct gw__wr *c, uint32_t token);
/* n of 1..GW__DISCARD_RANGES_MAX. */
void gw__discard_encode(struct gw__wr *c, const char *block, const struct gw__range *v, unsigned n);
void gw__packaged_encode(struct gw__wr *c, uint32_t bytes);
void gw__ask_bitmap_encode(struct gw__wr *c, const char *block); /* RECV_BITMAP */

/* A DISCARD command's payload: the block's name, and where its ranges stand (16 bytes each, `*n` of them; gw__range_at). */
int gw__discard_split(const uint8_t *payload, size_t bytes, char block[GW__NAME_MAX + 1], const uint8_t **ranges, unsigned *n,
	struct gw__error *error);
struct gw__range gw__range_at(const uint8_t *ranges, unsigned i);
/* The same with the ranges in `v`, at most `room` (-E2BIG). The block's own limits are for who knows it. */
int gw__discard_decode(const uint8_t *payload, size_t bytes, char block[GW__NAME_MAX + 1], struct gw__range *v, unsigned room, unsigned *n,
	struct gw__error *error);

/* The payload of a RECV_BITMAP command. 0 or -EPROTO. */
int gw__ask_bitmap_decode(const uint8_t *payload, size_t bytes, char block[GW__NAME_MAX + 1], struct gw__error *error);

/*
 * What follows a RECV_BITMAP message: the size is judged before a byte of the bitmap is read, the mark after.
 * `pages` is that of the block's used_length. -EPROTO with what was expected.
 */
int gw__recv_bitmap_check_size(uint64_t size_bytes, const char *block, uint64_t pages, struct gw__error *error);
int gw__recv_bitmap_check_end(uint64_t mark, const char *block, struct gw__error *error);

#endif
