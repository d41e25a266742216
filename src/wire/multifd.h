/* SPDX-License-Identifier: MIT */
/* Multifd: the hello and the packet headers (docs/spec/multifd.md 2, 3, 7). Pure codec; no payload. */
#ifndef GW_WIRE_MULTIFD_H
#define GW_WIRE_MULTIFD_H

#include "base/bytes.h"
#include "base/error.h"

#define GW__MULTIFD_MAGIC UINT32_C(0x11223344)
enum {
	GW__MULTIFD_VERSION = 1,
	GW__MULTIFD_HELLO_BYTES = 64,
	GW__MULTIFD_PACKET_BYTES = 512 << 10, /* of pages at most */
	GW__MULTIFD_KIND_BYTES = 12,          /* magic, version, flags: what decides the rest */
	GW__MULTIFD_RAM_HEAD_BYTES = 320,     /* before the offsets */
	GW__MULTIFD_STATE_HEAD_BYTES = 276,
	GW__MULTIFD_CHANNELS_MAX = 255,
	GW__MULTIFD_PAGES_MAX = 2048, /* in a packet, for the smallest page */
	/* Compressed; what a receiver needs room for. */
	GW__MULTIFD_PAYLOAD_MAX = 2 * GW__MULTIFD_PACKET_BYTES,
};

enum gw__multifd_flag {
	GW__MULTIFD_SYNC = 0x01,
	GW__MULTIFD_METHOD_MASK = 0x3e,
	GW__MULTIFD_ZLIB = 0x02,
	GW__MULTIFD_ZSTD = 0x04,
	GW__MULTIFD_QPL = 0x08, /* these three are refused by name */
	GW__MULTIFD_UADK = 0x10,
	GW__MULTIFD_QATZIP = 0x20,
	GW__MULTIFD_DEVICE_STATE = 0x40,
};

struct gw__multifd_hello {
	uint8_t uuid[16];
	uint8_t id;
};
/* 0, GW__SHORT, -EPROTO. The id is judged by who knows how many there are. */
int gw__multifd_hello_decode(struct gw__rd *c, struct gw__multifd_hello *h, struct gw__error *error);
void gw__multifd_hello_encode(struct gw__wr *c, const struct gw__multifd_hello *h);

/*
 * What a packet of RAM says; offsets of the normal pages first, then of the zero pages. A packet without
 * pages has no block: the name is empty whatever stands there. A SYNC may have pages (before 9.0): they come
 * first.
 */
struct gw__multifd_packet {
	uint32_t flags;
	uint32_t pages_alloc, normal, zero;
	uint32_t payload_bytes; /* that follow: 0 without normal pages, whatever next_packet_size says */
	uint64_t number;
	char block[256];
	uint64_t off[GW__MULTIFD_PAGES_MAX]; /* in the block; beyond normal + zero not set */
};

static inline uint32_t gw__multifd_pages(uint64_t page_bytes) { return (uint32_t)(GW__MULTIFD_PACKET_BYTES / page_bytes); }
static inline size_t gw__multifd_head_bytes(uint64_t page_bytes)
{
	return GW__MULTIFD_RAM_HEAD_BYTES + 8 * (size_t)gw__multifd_pages(page_bytes);
}

/* "none", "zlib" ... for exactly one known method (flags may have other bits set); NULL for anything else. */
const char *gw__multifd_method_name(uint32_t flags);

/*
 * From the magic on. Counts, payload length against the method, offsets' alignment and the name's end are
 * judged here; whether the block exists and is long enough, whether the method is the agreed one (of packets
 * with normal pages only: a SYNC has no method), by the engine. `page_bytes` is a power of two, 256 bytes to
 * 512 KiB. 0, GW__SHORT, -EPROTO; -EOPNOTSUPP for device state (not used by anything we can keep) and methods
 * we do not have.
 */
int gw__multifd_packet_decode(struct gw__rd *c, uint64_t page_bytes, struct gw__multifd_packet *p, struct gw__error *error);
/* `off` beyond normal + zero is written as 0. Always gw__multifd_head_bytes long. */
void gw__multifd_packet_encode(struct gw__wr *c, uint64_t page_bytes, const struct gw__multifd_packet *p);

#endif
