/* SPDX-License-Identifier: MIT */
/* The RAM section: record words and the block list (docs/spec/stream.md 7). Pure codec; no payload passes through. */
#ifndef GW_WIRE_RAM_H
#define GW_WIRE_RAM_H

#include "base/bytes.h"
#include "base/error.h"

enum gw__ram_flag {
	GW__RAM_ZERO = 0x002,
	GW__RAM_MEM_SIZE = 0x004,
	GW__RAM_PAGE = 0x008,
	GW__RAM_EOS = 0x010,
	GW__RAM_CONTINUE = 0x020, /* modifier of ZERO, PAGE and XBZRLE */
	GW__RAM_XBZRLE = 0x040,
	GW__RAM_FLUSH = 0x200, /* MULTIFD_FLUSH */
};

enum {
	GW__RAM_VERSION = 4,
	GW__BLOCKS_MAX = 4096, /* a guest has tens */
};

struct gw__block {
	char name[GW__NAME_MAX + 1];
	uint64_t used_bytes;
	uint64_t page_bytes; /* backing page size, when the list carries it, else 0 */
	uint64_t address;    /* guest-physical, with x-ignore-shared */
	uint64_t bitmap_off; /* mapped-ram: absolute file offsets */
	uint64_t pages_off;
	bool ignored; /* mapped-ram 0/0 header: shared, not in the file */
};

/* Owned by its decoder or builder; `v` grows as blocks really arrive, never by a count. Look blocks up with gw__blocks_find. */
struct gw__blocks {
	struct gw__block *v;
	uint16_t *by_name; /* indices into v, sorted by name: no choice of names makes a lookup slow */
	uint32_t n, room;
	uint64_t total_bytes; /* sum of used_bytes */
};

int gw__blocks_add(struct gw__blocks *b, const struct gw__block *block);     /* 0, -ENOMEM, -E2BIG, -EEXIST (name) */
int gw__blocks_add_all(struct gw__blocks *b, const struct gw__blocks *from); /* the same; on failure some of them are in it */
void gw__blocks_fini(struct gw__blocks *b);
int64_t gw__blocks_find(const struct gw__blocks *b, const char *name); /* index, or -1 */

struct gw__ram_word {
	uint64_t value; /* page-aligned: offset or total */
	uint32_t kind;  /* exactly one of the flags above */
	bool same_block;
};

/* Splits and checks a word. 0 or -EPROTO. */
int gw__ram_word_decode(uint64_t word, uint64_t page_bytes, struct gw__ram_word *w, struct gw__error *error);

/* What a page record says after its word. `block` is the index for CONTINUE, and is set otherwise. */
struct gw__ram_where {
	uint32_t block;
	uint64_t off;
};

/* One entry of the block list, and whether it carries its page size, which nothing announces (stream.md 7.2). */
struct gw__blocks_rule {
	uint64_t page_bytes;   /* target page */
	uint64_t page_summary; /* of POSTCOPY_ADVISE, 0 without */
	bool address, mapped_ram;
};
int gw__block_decode(struct gw__rd *c, const struct gw__blocks_rule *rule, uint64_t left_bytes, struct gw__block *block,
	struct gw__error *error);
void gw__block_encode(struct gw__wr *c, const struct gw__blocks_rule *rule, const struct gw__block *block);

/* The head of a page record: word, and the name unless `same_block`. */
void gw__ram_record_encode(struct gw__wr *c, uint32_t kind, uint64_t off, const char *name_or_null);

#endif
