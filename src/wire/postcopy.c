/* SPDX-License-Identifier: MIT */
/* Commands of post-copy and recovery; see postcopy.h. */
#include "wire/postcopy.h"

#include <errno.h>

#include "wire/framing.h"

typedef unsigned long long ull;

enum { DISCARD_VERSION = 0, RANGE_BYTES = 16 };

static void put_command(struct gw__wr *c, uint16_t number, const uint8_t *payload, size_t n)
{
	gw__command_encode(c, number, payload, (uint16_t)n);
}

void gw__advise_encode(struct gw__wr *c, uint64_t page_summary, uint64_t target_page_bytes)
{
	uint8_t payload[16];
	gw__be_put(payload, page_summary, 8);
	gw__be_put(payload + 8, target_page_bytes, 8);
	put_command(c, GW__CMD_POSTCOPY_ADVISE, payload, sizeof payload);
}

void gw__ping_encode(struct gw__wr *c, uint32_t token)
{
	uint8_t payload[4];
	gw__be_put(payload, token, 4);
	put_command(c, GW__CMD_PING, payload, sizeof payload);
}

void gw__discard_encode(struct gw__wr *c, const char *block, const struct gw__range *v, unsigned n)
{
	uint8_t payload[3 + GW__NAME_MAX + GW__DISCARD_RANGES_MAX * RANGE_BYTES];
	struct gw__wr in = gw__wr_over(payload, sizeof payload);
	gw__wr_u8(&in, DISCARD_VERSION);
	gw__wr_str8(&in, block);
	gw__wr_u8(&in, 0);
	for (unsigned i = 0; i < n && i < GW__DISCARD_RANGES_MAX; i++) {
		gw__wr_be64(&in, v[i].start_off);
		gw__wr_be64(&in, v[i].bytes);
	}
	put_command(c, GW__CMD_POSTCOPY_RAM_DISCARD, payload, gw__wr_used(&in));
}

int gw__discard_split(const uint8_t *payload, size_t bytes, char block[GW__NAME_MAX + 1], const uint8_t **ranges, unsigned *n,
	struct gw__error *error)
{
	struct gw__rd c = gw__rd_over(payload, bytes);
	uint8_t version = gw__rd_u8(&c);
	uint8_t name_n = gw__rd_str8(&c, block);
	uint8_t nil = gw__rd_u8(&c);
	if (c.cut || gw__rd_left(&c) == 0 || gw__rd_left(&c) % RANGE_BYTES)
		return gw__error_set(error, -EPROTO, "RAM_DISCARD of %zu bytes, expected a name and whole ranges of 16 bytes", bytes);
	if (version != DISCARD_VERSION || nil != 0 || !gw__name_ok(block, name_n))
		return gw__error_set(error, -EPROTO,
			"RAM_DISCARD with version %u, a name of %u bytes ended by %02x; expected version 0, a name, 00", version, name_n,
			nil);
	*n = (unsigned)(gw__rd_left(&c) / RANGE_BYTES);
	*ranges = c.p;
	return 0;
}

struct gw__range gw__range_at(const uint8_t *ranges, unsigned i)
{
	const uint8_t *p = ranges + (size_t)i * RANGE_BYTES;
	return (struct gw__range){gw__be_get(p, 8), gw__be_get(p + 8, 8)};
}

int gw__discard_decode(const uint8_t *payload, size_t bytes, char block[GW__NAME_MAX + 1], struct gw__range *v, unsigned room, unsigned *n,
	struct gw__error *error)
{
	const uint8_t *ranges;
	int r = gw__discard_split(payload, bytes, block, &ranges, n, error);
	if (r)
		return r;
	if (*n > room)
		return gw__error_set(error, -E2BIG, "RAM_DISCARD with %u ranges, at most %u are taken", *n, room);
	for (unsigned i = 0; i < *n; i++)
		v[i] = gw__range_at(ranges, i);
	return 0;
}

void gw__packaged_encode(struct gw__wr *c, uint32_t bytes)
{
	uint8_t payload[4];
	gw__be_put(payload, bytes, 4);
	put_command(c, GW__CMD_PACKAGED, payload, sizeof payload);
}

void gw__ask_bitmap_encode(struct gw__wr *c, const char *block)
{
	uint8_t payload[1 + GW__NAME_MAX];
	struct gw__wr in = gw__wr_over(payload, sizeof payload);
	gw__wr_str8(&in, block);
	put_command(c, GW__CMD_RECV_BITMAP, payload, gw__wr_used(&in));
}

int gw__ask_bitmap_decode(const uint8_t *payload, size_t bytes, char block[GW__NAME_MAX + 1], struct gw__error *error)
{
	struct gw__rd c = gw__rd_over(payload, bytes);
	uint8_t n = gw__rd_str8(&c, block);
	if (c.cut || gw__rd_left(&c) || !gw__name_ok(block, n))
		return gw__error_set(error, -EPROTO, "RECV_BITMAP of %zu bytes with a name of %u, expected a block's name and nothing else",
			bytes, n);
	return 0;
}

int gw__recv_bitmap_check_size(uint64_t size_bytes, const char *block, uint64_t pages, struct gw__error *error)
{
	uint64_t want = gw__bitmap_wire_bytes(pages);
	if (size_bytes == want)
		return 0;
	return gw__error_set(error, -EPROTO, "the received bitmap of block \"%s\" is said to have %llu bytes, expected %llu for %llu pages",
		block, (ull)size_bytes, (ull)want, (ull)pages);
}

int gw__recv_bitmap_check_end(uint64_t mark, const char *block, struct gw__error *error)
{
	if (mark == GW__RECV_BITMAP_END)
		return 0;
	return gw__error_set(error, -EPROTO,
		"after the received bitmap of block \"%s\" stands %016llx, expected the end mark 0123456789abcdef", block, (ull)mark);
}
