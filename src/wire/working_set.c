/* SPDX-License-Identifier: MIT */
/* Header and chunks of a working set; see working_set.h. */
#include "wire/working_set.h"

#include <assert.h>
#include <errno.h>
#include <xxhash.h>

#include "base/math.h"

enum { VERSION = 1, MARK = 0x57534348, PAGE_BYTES_MIN = 512, PAGE_BYTES_MAX = 1 << 20, ENTRY_BYTES = 8, SUM_BYTES = 8 };

static const uint8_t magic[8] = {'G', 'W', 'W', 'S', '\r', '\n', 0x1a, '\n'};

void gw__ws_head_encode(struct gw__wr *c, struct gw__ws_head *h)
{
	static const uint8_t zeros[16];
	const uint8_t *start = c->p;
	gw__wr_bytes(c, magic, sizeof magic);
	gw__wr_be32(c, VERSION);
	gw__wr_be32(c, h->page_bytes);
	gw__wr_bytes(c, h->fingerprint, sizeof h->fingerprint);
	gw__wr_be64(c, h->begun_s);
	gw__wr_bytes(c, zeros, sizeof zeros);
	h->seed = c->full ? 0 : XXH3_64bits(start, (size_t)(c->p - start));
	gw__wr_be64(c, h->seed);
}

int gw__ws_head_decode(struct gw__rd *c, struct gw__ws_head *h, struct gw__error *error)
{
	struct gw__rd in = gw__rd_over(c->p, gw__rd_left(c));
	const uint8_t *m = gw__rd_take(&in, sizeof magic);
	if (m && memcmp(m, magic, sizeof magic))
		return gw__error_set(error, -EPROTO, "no working set: it does not begin as one");
	uint32_t version = gw__rd_be32(&in);
	h->page_bytes = gw__rd_be32(&in);
	gw__rd_bytes(&in, h->fingerprint, sizeof h->fingerprint);
	h->begun_s = gw__rd_be64(&in);
	gw__rd_take(&in, 16);
	const uint8_t *end = in.p;
	h->seed = gw__rd_be64(&in);
	if (in.cut)
		return GW__SHORT;
	if (version > VERSION)
		return gw__error_set(error, -EOPNOTSUPP, "a working set of version %u; this Godwit knows version %d", version, VERSION);
	if (version != VERSION || h->seed != XXH3_64bits(in.start, (size_t)(end - in.start)))
		return gw__error_set(error, -EPROTO, "no working set: the checksum of its header is wrong");
	if (!gw__is_power_of_2(h->page_bytes) || h->page_bytes < PAGE_BYTES_MIN || h->page_bytes > PAGE_BYTES_MAX)
		return gw__error_set(error, -EPROTO, "no working set: pages of %u bytes", h->page_bytes);
	gw__rd_take(c, gw__rd_used(&in));
	return 0;
}

void gw__ws_chunk_encode(struct gw__wr *c, uint64_t seed, uint64_t when_s, const struct gw__ws_run *v, uint32_t n)
{
	const uint8_t *start = c->p;
	assert(n >= 1 && n <= GW__WS_ENTRIES_MAX);
	gw__wr_be32(c, MARK);
	gw__wr_be32(c, n);
	gw__wr_be64(c, when_s);
	for (uint32_t i = 0; i < n; i++) {
		gw__wr_be16(c, v[i].block);
		gw__wr_be16(c, v[i].pages);
		gw__wr_be32(c, v[i].first);
	}
	gw__wr_be64(c, c->full ? 0 : XXH3_64bits_withSeed(start, (size_t)(c->p - start), seed));
}

int gw__ws_chunk_decode(struct gw__rd *c, uint64_t seed, uint64_t *when_s, struct gw__ws_run *v, uint32_t *n, struct gw__error *error)
{
	struct gw__rd in = gw__rd_over(c->p, gw__rd_left(c));
	uint32_t mark = gw__rd_be32(&in);
	*n = gw__rd_be32(&in);
	*when_s = gw__rd_be64(&in);
	if (in.cut)
		return GW__SHORT;
	if (mark != MARK || *n < 1 || *n > GW__WS_ENTRIES_MAX)
		return gw__error_set(error, -EPROTO, "a chunk with mark %08x and %u entries; expected %08x and 1 to %d", mark, *n, MARK,
			GW__WS_ENTRIES_MAX);
	if (gw__rd_left(&in) < *n * ENTRY_BYTES + SUM_BYTES)
		return GW__SHORT;
	bool empty = false;
	for (uint32_t i = 0; i < *n; i++) {
		v[i].block = gw__rd_be16(&in);
		v[i].pages = gw__rd_be16(&in);
		v[i].first = gw__rd_be32(&in);
		empty |= !v[i].pages;
	}
	size_t summed = gw__rd_used(&in);
	if (gw__rd_be64(&in) != XXH3_64bits_withSeed(in.start, summed, seed) || empty)
		return gw__error_set(error, -EPROTO, "a chunk of %u entries %s", *n,
			empty ? "has one without pages" : "has a wrong checksum");
	gw__rd_take(c, gw__rd_used(&in));
	return 0;
}
