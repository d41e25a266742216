/* SPDX-License-Identifier: MIT */
/*
 * Writes migration streams for tests, field by field as docs/spec/stream.md draws them. It shares no code
 * with the codecs under test, and it writes what it is told: broken streams are as easy as good ones. A
 * builder owns its bytes; running out of memory ends the test.
 */
#ifndef GW_TESTS_STREAM_BUILDER_H
#define GW_TESTS_STREAM_BUILDER_H

#include <stddef.h>
#include <stdint.h>

struct sb {
	uint8_t *p;
	size_t n, room;
	char *devices; /* the entries of the VM description for what sb_device wrote */
	size_t devices_bytes;
};

void sb_fini(struct sb *b);
void sb_copy(struct sb *to, const struct sb *from);

void sb_be(struct sb *b, uint64_t v, unsigned bytes);
void sb_u8(struct sb *b, uint8_t v);
void sb_be32(struct sb *b, uint32_t v);
void sb_be64(struct sb *b, uint64_t v);
void sb_bytes(struct sb *b, const void *p, size_t n);
void sb_fill(struct sb *b, uint8_t v, size_t n);
void sb_pad_to(struct sb *b, size_t n, uint8_t v); /* fill up to a length of n, for the holes of mapped-ram */
void sb_str8(struct sb *b, const char *name);

/* Hex digits as in the annotated captures, blanks ignored, 'text' stands for its letters: "07 0000000e 'pc'".
 */
void sb_hex(struct sb *b, const char *text);

void sb_head(struct sb *b, const char *machine); /* magic, version, configuration without subsections */
void sb_subsection(struct sb *b, const char *name, uint32_t version);
void sb_page_bits(struct sb *b, uint32_t bits);
void sb_caps(struct sb *b, const char *one, const char *two_or_null);

void sb_named(struct sb *b, uint8_t type, uint32_t id, const char *idstr, uint32_t instance, uint32_t version);
void sb_start_ram(struct sb *b);                       /* section 1, version 4 */
void sb_more(struct sb *b, uint8_t type, uint32_t id); /* PART or END */
void sb_footer(struct sb *b, uint32_t id);
void sb_eos(struct sb *b); /* end of a body of section 1: record and footer */
void sb_command(struct sb *b, uint16_t number, const void *args, uint16_t n);
void sb_switchover(struct sb *b);

void sb_block(struct sb *b, const char *name, uint64_t used_bytes);
void sb_record(struct sb *b, uint64_t word, const char *name_or_null); /* a null name adds CONTINUE */
void sb_zero(struct sb *b, uint64_t off, const char *name_or_null);
void sb_xbzrle(struct sb *b, uint64_t off, const char *name_or_null, const void *delta, uint16_t n);
void sb_mapped_header(struct sb *b, uint64_t page_bytes, uint64_t bitmap_off, uint64_t pages_off);

/* A FULL section with footer, entered in the description as one field of n bytes. */
void sb_device(struct sb *b, uint32_t id, const char *idstr, uint32_t instance, uint32_t version, const void *body, size_t n);
/* The same section, but described as the caller says ("OBJECT" of stream.md 8.1 without its braces), or not
 * at all. */
void sb_device_as(struct sb *b, uint32_t id, const char *idstr, uint32_t instance, uint32_t version, const void *body, size_t n,
	const char *object_or_null);

void sb_eof(struct sb *b);
void sb_desc(struct sb *b, uint32_t page_bytes);
void sb_desc_text(struct sb *b, const char *json);
void sb_end(struct sb *b); /* EOF and the description for pages of 4096 bytes */

#endif
