/* SPDX-License-Identifier: MIT */
/* Messages of the return path (docs/spec/postcopy.md 1.2). Pure codec. */
#ifndef GW_WIRE_RETURN_PATH_H
#define GW_WIRE_RETURN_PATH_H

#include "base/bytes.h"
#include "base/error.h"

enum gw__rp_type {
	GW__RP_SHUT = 1,
	GW__RP_PONG = 2,
	GW__RP_REQ_PAGES_ID = 3,
	GW__RP_REQ_PAGES = 4,
	GW__RP_RECV_BITMAP = 5, /* the bitmap follows, uncounted */
	GW__RP_RESUME_ACK = 6,
	GW__RP_SWITCHOVER_ACK = 7,
};
enum { GW__RP_MAX_BYTES = 4 + 512 };

struct gw__rp_msg {
	uint16_t type;
	uint32_t value;     /* SHUT: status; PONG: token; RESUME_ACK: 1 */
	uint64_t start_off; /* REQ_PAGES*: bytes from the start of the block */
	uint32_t length_bytes;
	char block[GW__NAME_MAX + 1]; /* REQ_PAGES_ID, RECV_BITMAP */
};

/* Framing and lengths are judged here; whether a block exists or the moment is right is for the engine. */
int gw__rp_decode(struct gw__rd *c, struct gw__rp_msg *m, struct gw__error *error); /* 0, GW__SHORT, -EPROTO */
void gw__rp_encode(struct gw__wr *c, const struct gw__rp_msg *m);
const char *gw__rp_name(uint16_t type);

#endif
