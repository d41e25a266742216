/* SPDX-License-Identifier: MIT */
/* The head of a stream: magic, version and the configuration section (docs/spec/stream.md 2 and 3). Pure codec. */
#ifndef GW_WIRE_HEADER_H
#define GW_WIRE_HEADER_H

#include "base/bytes.h"
#include "base/error.h"

#define GW__STREAM_MAGIC UINT32_C(0x5145564d) /* "QEVM" */
enum {
	GW__STREAM_VERSION = 3,
	GW__MACHINE_MAX = 1024,
	GW__CAPS_MAX = 64,
	GW__CAP_NAME_MAX = 63, /* the longest name of any release is 21 */
	GW__PAGE_BITS_MIN = 8,
	GW__PAGE_BITS_MAX = 20,
	GW__PAGE_BITS_LEGACY = 12, /* what an absent target-page-bits means on x86 and most others; sparc64 and alpha mean 13 */
	GW__PAGE_BITS_RAM = 10,    /* the fewest that hold the flags of a RAM record */
};

/* Ours, in an image that holds memory and no devices; a QEMU does not know it and refuses to load that as a guest. */
#define GW__CAP_MEMORY_ONLY "godwit-memory-only"

/* What begins with other bytes than a stream does. */
struct gw__other_format {
	uint32_t magic, mask; /* of the first four bytes */
	const char *what;
	const char *program; /* that undoes it, with -dc; NULL: none does */
	const char *advice;  /* may be NULL */
};
/* NULL: nothing that is known. */
const struct gw__other_format *gw__header_other(uint32_t first);

struct gw__config {
	char machine[GW__MACHINE_MAX + 1];
	uint32_t page_bits; /* log2 of the target page size */
	bool has_page_bits; /* the subsection is present */
	bool has_caps;
	bool mapped_ram, ignore_shared, memory_only; /* are in caps */
	uint32_t caps_n;
	char caps[GW__CAPS_MAX][GW__CAP_NAME_MAX + 1];
	bool has_uuid;
	uint8_t uuid[16];
};

static inline uint64_t gw__config_page_bytes(const struct gw__config *c) { return UINT64_C(1) << c->page_bits; }

/* Each decoder: 0, GW__SHORT (cursor then undefined: start over with more bytes), or a negative errno with `why`. */
int gw__header_decode(struct gw__rd *c, struct gw__error *error);
void gw__header_encode(struct gw__wr *c);

/* From the type byte 0x07 up to the first byte that is not one of its subsections; needs one byte beyond the section. */
int gw__config_decode(struct gw__rd *c, struct gw__config *config, struct gw__error *error);
void gw__config_encode(struct gw__wr *c, const struct gw__config *config);

/* Put a capability in or take it out; keeps the flags and has_caps true to the list. -ENOSPC when the list is full. */
int gw__config_add_cap(struct gw__config *config, const char *name);
void gw__config_drop_cap(struct gw__config *config, const char *name);

#endif
