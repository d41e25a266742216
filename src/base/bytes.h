/* SPDX-License-Identifier: MIT */
/*
 * Cursors over bytes in memory: a reader and a writer of big-endian fields.
 *
 * A cursor remembers failure: after a read past the end every further read gives zeros, so a decoder is straight-line
 * code with one check at its end. A cursor borrows the bytes; it never owns or allocates.
 */
#ifndef GW_BASE_BYTES_H
#define GW_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A condition, not an error: the bytes end before the thing does. Feed more and try again from its start. */
enum { GW__SHORT = 1 };

/* Bytes that somebody else owns. */
struct gw__view {
	const uint8_t *p;
	size_t n;
};

struct gw__rd {
	const uint8_t *start, *p, *end;
	bool cut; /* a read went past the end */
};

static inline struct gw__rd gw__rd_over(const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	return (struct gw__rd){.start = p, .p = p, .end = p + n};
}

static inline size_t gw__rd_left(const struct gw__rd *c) { return (size_t)(c->end - c->p); }
static inline size_t gw__rd_used(const struct gw__rd *c) { return (size_t)(c->p - c->start); }

/* Lends `n` bytes and steps over them; NULL (and `cut`) when there are fewer. */
static inline const uint8_t *gw__rd_take(struct gw__rd *c, size_t n)
{
	if (c->cut || n > gw__rd_left(c)) {
		c->cut = true;
		c->p = c->end;
		return NULL;
	}
	const uint8_t *p = c->p;
	c->p += n;
	return p;
}

static inline uint64_t gw__be_get(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

static inline uint64_t gw__rd_be(struct gw__rd *c, unsigned n)
{
	const uint8_t *p = gw__rd_take(c, n);
	return p ? gw__be_get(p, n) : 0;
}

static inline uint8_t gw__rd_u8(struct gw__rd *c) { return (uint8_t)gw__rd_be(c, 1); }
static inline uint16_t gw__rd_be16(struct gw__rd *c) { return (uint16_t)gw__rd_be(c, 2); }
static inline uint32_t gw__rd_be32(struct gw__rd *c) { return (uint32_t)gw__rd_be(c, 4); }
static inline uint64_t gw__rd_be64(struct gw__rd *c) { return gw__rd_be(c, 8); }

static inline void gw__rd_bytes(struct gw__rd *c, void *to, size_t n)
{
	const uint8_t *p = gw__rd_take(c, n);
	if (p)
		memcpy(to, p, n);
	else
		memset(to, 0, n);
}

enum { GW__NAME_MAX = 255 }; /* longest str8 */

/* A str8 into a NUL-terminated buffer. Whether the name itself is acceptable is for gw__name_ok. */
static inline uint8_t gw__rd_str8(struct gw__rd *c, char name[GW__NAME_MAX + 1])
{
	uint8_t n = gw__rd_u8(c);
	gw__rd_bytes(c, name, n);
	name[n] = 0;
	return n;
}

/* A name from outside: 1..255 bytes, no NUL inside, no control characters. */
static inline bool gw__name_ok(const char *name, size_t n)
{
	if (n == 0 || n > GW__NAME_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)name[i] < 0x20 || (unsigned char)name[i] == 0x7f)
			return false;
	return true;
}

struct gw__wr {
	uint8_t *start, *p, *end;
	bool full; /* a write did not fit; nothing after it was written */
};

static inline struct gw__wr gw__wr_over(void *bytes, size_t n)
{
	uint8_t *p = bytes;
	return (struct gw__wr){.start = p, .p = p, .end = p + n};
}

static inline size_t gw__wr_used(const struct gw__wr *c) { return (size_t)(c->p - c->start); }

static inline void gw__wr_bytes(struct gw__wr *c, const void *from, size_t n)
{
	if (c->full || n > (size_t)(c->end - c->p)) {
		c->full = true;
		return;
	}
	if (n)
		memcpy(c->p, from, n);
	c->p += n;
}

static inline void gw__be_put(uint8_t *p, uint64_t v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
}

static inline void gw__wr_be(struct gw__wr *c, uint64_t v, unsigned n)
{
	uint8_t b[8];
	gw__be_put(b, v, n);
	gw__wr_bytes(c, b, n);
}

static inline void gw__wr_u8(struct gw__wr *c, uint8_t v) { gw__wr_be(c, v, 1); }
static inline void gw__wr_be16(struct gw__wr *c, uint16_t v) { gw__wr_be(c, v, 2); }
static inline void gw__wr_be32(struct gw__wr *c, uint32_t v) { gw__wr_be(c, v, 4); }
static inline void gw__wr_be64(struct gw__wr *c, uint64_t v) { gw__wr_be(c, v, 8); }

/* `name` is ours and at most 255 bytes long. */
static inline void gw__wr_str8(struct gw__wr *c, const char *name)
{
	size_t n = strlen(name);
	gw__wr_u8(c, (uint8_t)n);
	gw__wr_bytes(c, name, n);
}

#endif
