/* SPDX-License-Identifier: MIT */
/* Writes streams for tests; see stream_builder.h. */
#include "stream_builder.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

void sb_fini(struct sb *b)
{
	free(b->p);
	free(b->devices);
	memset(b, 0, sizeof *b);
}

void sb_copy(struct sb *to, const struct sb *from)
{
	memset(to, 0, sizeof *to);
	sb_bytes(to, from->p, from->n);
}

static uint8_t *grow(struct sb *b, size_t n)
{
	if (b->n + n > b->room) {
		b->room = (b->n + n) * 2 + 64;
		b->p = must(realloc(b->p, b->room));
	}
	b->n += n;
	return b->p + b->n - n;
}

void sb_bytes(struct sb *b, const void *p, size_t n)
{
	if (n)
		memcpy(grow(b, n), p, n);
}

void sb_fill(struct sb *b, uint8_t v, size_t n)
{
	if (n)
		memset(grow(b, n), v, n);
}

void sb_pad_to(struct sb *b, size_t n, uint8_t v)
{
	if (n < b->n)
		abort();
	sb_fill(b, v, n - b->n);
}

void sb_be(struct sb *b, uint64_t v, unsigned bytes)
{
	uint8_t *p = grow(b, bytes);
	for (unsigned i = bytes; i-- > 0; v >>= 8)
		p[i] = (uint8_t)v;
}

void sb_u8(struct sb *b, uint8_t v) { sb_be(b, v, 1); }
void sb_be32(struct sb *b, uint32_t v) { sb_be(b, v, 4); }
void sb_be64(struct sb *b, uint64_t v) { sb_be(b, v, 8); }

void sb_str8(struct sb *b, const char *name)
{
	sb_u8(b, (uint8_t)strlen(name));
	sb_bytes(b, name, strlen(name));
}

static unsigned digit(char c)
{
	if (!isxdigit((unsigned char)c))
		abort();
	return isdigit((unsigned char)c) ? (unsigned)(c - '0') : (unsigned)(tolower((unsigned char)c) - 'a' + 10);
}

void sb_hex(struct sb *b, const char *text)
{
	while (*text) {
		if (*text == ' ') {
			text++;
		} else if (*text == '\'') {
			const char *end = must(strchr(text + 1, '\''));
			sb_bytes(b, text + 1, (size_t)(end - text - 1));
			text = end + 1;
		} else {
			sb_u8(b, (uint8_t)(digit(text[0]) << 4 | digit(text[1])));
			text += 2;
		}
	}
}

void sb_head(struct sb *b, const char *machine)
{
	sb_hex(b, "5145564d 00000003 07");
	sb_be32(b, (uint32_t)strlen(machine));
	sb_bytes(b, machine, strlen(machine));
}

void sb_subsection(struct sb *b, const char *name, uint32_t version)
{
	sb_u8(b, 0x05);
	sb_str8(b, name);
	sb_be32(b, version);
}

void sb_page_bits(struct sb *b, uint32_t bits)
{
	sb_subsection(b, "configuration/target-page-bits", 1);
	sb_be32(b, bits);
}

void sb_caps(struct sb *b, const char *one, const char *two_or_null)
{
	sb_subsection(b, "configuration/capabilities", 1);
	sb_be32(b, two_or_null ? 2 : 1);
	sb_str8(b, one);
	if (two_or_null)
		sb_str8(b, two_or_null);
}

void sb_named(struct sb *b, uint8_t type, uint32_t id, const char *idstr, uint32_t instance, uint32_t version)
{
	sb_u8(b, type);
	sb_be32(b, id);
	sb_str8(b, idstr);
	sb_be32(b, instance);
	sb_be32(b, version);
}

void sb_start_ram(struct sb *b) { sb_named(b, 0x01, 1, "ram", 0, 4); }

void sb_more(struct sb *b, uint8_t type, uint32_t id)
{
	sb_u8(b, type);
	sb_be32(b, id);
}

void sb_footer(struct sb *b, uint32_t id)
{
	sb_u8(b, 0x7e);
	sb_be32(b, id);
}

void sb_eos(struct sb *b)
{
	sb_be64(b, 0x010);
	sb_footer(b, 1);
}

void sb_command(struct sb *b, uint16_t number, const void *args, uint16_t n)
{
	sb_u8(b, 0x08);
	sb_be(b, number, 2);
	sb_be(b, n, 2);
	sb_bytes(b, args, n);
}

void sb_switchover(struct sb *b) { sb_command(b, 11, NULL, 0); }

void sb_block(struct sb *b, const char *name, uint64_t used_bytes)
{
	sb_str8(b, name);
	sb_be64(b, used_bytes);
}

void sb_record(struct sb *b, uint64_t word, const char *name_or_null)
{
	sb_be64(b, name_or_null ? word : word | 0x020);
	if (name_or_null)
		sb_str8(b, name_or_null);
}

void sb_zero(struct sb *b, uint64_t off, const char *name_or_null)
{
	sb_record(b, off | 0x002, name_or_null);
	sb_u8(b, 0);
}

void sb_xbzrle(struct sb *b, uint64_t off, const char *name_or_null, const void *delta, uint16_t n)
{
	sb_record(b, off | 0x040, name_or_null);
	sb_u8(b, 1);
	sb_be(b, n, 2);
	sb_bytes(b, delta, n);
}

void sb_mapped_header(struct sb *b, uint64_t page_bytes, uint64_t bitmap_off, uint64_t pages_off)
{
	sb_be32(b, 1);
	sb_be64(b, page_bytes);
	sb_be64(b, bitmap_off);
	sb_be64(b, pages_off);
}

/* Idstr values of tests need no JSON escapes. */
static void describe(struct sb *b, const char *idstr, uint32_t instance, const char *object)
{
	size_t room = strlen(idstr) + strlen(object) + 64;
	b->devices = must(realloc(b->devices, b->devices_bytes + room));
	int n = snprintf(b->devices + b->devices_bytes, room, "%s{\"name\": \"%s\", \"instance_id\": %u, %s}", b->devices_bytes ? ", " : "",
		idstr, instance, object);
	b->devices_bytes += (size_t)n;
}

void sb_device_as(struct sb *b, uint32_t id, const char *idstr, uint32_t instance, uint32_t version, const void *body, size_t n,
	const char *object_or_null)
{
	sb_named(b, 0x04, id, idstr, instance, version);
	sb_bytes(b, body, n);
	sb_footer(b, id);
	if (object_or_null)
		describe(b, idstr, instance, object_or_null);
}

void sb_device(struct sb *b, uint32_t id, const char *idstr, uint32_t instance, uint32_t version, const void *body, size_t n)
{
	char object[256];
	snprintf(object, sizeof object,
		"\"vmsd_name\": \"dev\", \"version\": %u, \"fields\": [{\"name\": \"data\", \"type\": "
		"\"buffer\", \"size\": %zu}]",
		version, n);
	sb_device_as(b, id, idstr, instance, version, body, n, object);
}

void sb_eof(struct sb *b) { sb_u8(b, 0x00); }

void sb_desc_text(struct sb *b, const char *json)
{
	sb_u8(b, 0x06);
	sb_be32(b, (uint32_t)strlen(json));
	sb_bytes(b, json, strlen(json));
}

void sb_desc(struct sb *b, uint32_t page_bytes)
{
	static const char form[] = "{\"configuration\": {\"vmsd_name\": \"configuration\", \"version\": 1, \"fields\": []}, "
				   "\"page_size\": %u, \"devices\": [%s]}";
	size_t room = sizeof form + b->devices_bytes + 16;
	char *text = must(malloc(room));
	snprintf(text, room, form, page_bytes, b->devices_bytes ? b->devices : "");
	sb_desc_text(b, text);
	free(text);
}

void sb_end(struct sb *b)
{
	sb_eof(b);
	sb_desc(b, 4096);
}
