/* SPDX-License-Identifier: MIT */
/*
 * The header of a multifd packet of RAM, both ways (docs/spec/multifd.md 3): counts, offsets, and whether they fit each other. Not
 * whether they fit the guest, nor the payload; see multifd.h. No state: any thread, on its own buffers.
 */
#include <assert.h>
#include <errno.h>

#include "base/math.h"
#include "wire/multifd_private.h"

typedef unsigned long long ull;

static bool page_size_ok(uint64_t page_bytes)
{
	return gw__is_power_of_2(page_bytes) && page_bytes <= GW__MULTIFD_PACKET_BYTES &&
	       gw__multifd_pages(page_bytes) <= GW__MULTIFD_PAGES_MAX;
}

/* Counts before sums: each bound is computed from what was judged before it. */
static int check_counts(const struct gw__multifd_packet *p, uint64_t page_bytes, struct gw__error *error)
{
	const uint32_t n = gw__multifd_pages(page_bytes);
	if (p->pages_alloc > n)
		return gw__error_set(error, -EPROTO, "multifd packet %llu: pages_alloc is %u, expected at most %u (pages of %llu bytes)",
			(ull)p->number, p->pages_alloc, n, (ull)page_bytes);
	if (p->normal > p->pages_alloc)
		return gw__error_set(error, -EPROTO, "multifd packet %llu: normal_pages is %u, expected at most the %u of pages_alloc",
			(ull)p->number, p->normal, p->pages_alloc);
	if (p->zero > p->pages_alloc - p->normal)
		return gw__error_set(error, -EPROTO,
			"multifd packet %llu: zero_pages is %u, expected at most %u (pages_alloc %u, "
			"normal_pages %u)",
			(ull)p->number, p->zero, p->pages_alloc - p->normal, p->pages_alloc, p->normal);
	return 0;
}

/* Without normal pages no payload follows; sources before 9.0 leave an earlier packet's number there. */
static int check_payload(struct gw__multifd_packet *p, uint64_t page_bytes, struct gw__error *error)
{
	const uint64_t plain_bytes = p->normal * page_bytes;
	if (p->payload_bytes > GW__MULTIFD_PAYLOAD_MAX)
		return gw__error_set(error, -EPROTO, "multifd packet %llu: next_packet_size is %u, expected at most %d", (ull)p->number,
			p->payload_bytes, GW__MULTIFD_PAYLOAD_MAX);
	if (p->normal == 0) {
		p->payload_bytes = 0;
		return 0;
	}
	if (p->flags & GW__MULTIFD_METHOD_MASK) {
		if (p->payload_bytes)
			return 0;
		return gw__error_set(error, -EPROTO,
			"multifd packet %llu: next_packet_size is 0, expected some bytes of %s for %u normal "
			"pages",
			(ull)p->number, gw__multifd_method_name(p->flags), p->normal);
	}
	if (p->payload_bytes == plain_bytes)
		return 0;
	return gw__error_set(error, -EPROTO, "multifd packet %llu: next_packet_size is %u, expected %llu (%u normal pages of %llu bytes)",
		(ull)p->number, p->payload_bytes, (ull)plain_bytes, p->normal, (ull)page_bytes);
}

static int check_name(const struct gw__multifd_packet *p, struct gw__error *error)
{
	if (p->block[sizeof p->block - 1])
		return gw__error_set(error, -EPROTO, "multifd packet %llu: the block name does not end within its %zu bytes",
			(ull)p->number, sizeof p->block);
	size_t n = strlen(p->block);
	if (!gw__name_ok(p->block, n))
		return gw__error_set(error, -EPROTO,
			"multifd packet %llu: the block name has %zu unusable bytes, expected 1..255 "
			"printable ones",
			(ull)p->number, n);
	return 0;
}

static int check_offsets(const struct gw__multifd_packet *p, uint64_t page_bytes, struct gw__error *error)
{
	for (uint32_t i = 0; i < p->normal + p->zero; i++)
		if (!gw__is_aligned(p->off[i], page_bytes))
			return gw__error_set(error, -EPROTO,
				"multifd packet %llu: offset %llx of %s page %u in block \"%s\", expected a "
				"multiple of the page size %llu",
				(ull)p->number, (ull)p->off[i], i < p->normal ? "normal" : "zero", i, p->block, (ull)page_bytes);
	return 0;
}

int gw__multifd_decode_ram(struct gw__rd *c, uint64_t page_bytes, struct gw__multifd_packet *p, struct gw__error *error)
{
	assert(page_size_ok(page_bytes));
	p->pages_alloc = gw__rd_be32(c);
	p->normal = gw__rd_be32(c);
	p->payload_bytes = gw__rd_be32(c);
	p->number = gw__rd_be64(c);
	p->zero = gw__rd_be32(c);
	gw__rd_take(c, 4 + 24); /* reserved */
	gw__rd_bytes(c, p->block, sizeof p->block);
	const uint8_t *off = gw__rd_take(c, 8 * (size_t)gw__multifd_pages(page_bytes));
	if (c->cut)
		return GW__SHORT;
	int err = check_counts(p, page_bytes, error);
	if (!err)
		err = check_payload(p, page_bytes, error);
	if (err)
		return err;
	if (p->normal + p->zero == 0) {
		memset(p->block, 0, sizeof p->block);
		return 0;
	}
	err = check_name(p, error);
	if (err)
		return err;
	for (uint32_t i = 0; i < p->normal + p->zero; i++)
		p->off[i] = gw__be_get(off + 8 * (size_t)i, 8);
	return check_offsets(p, page_bytes, error);
}

void gw__multifd_packet_encode(struct gw__wr *c, uint64_t page_bytes, const struct gw__multifd_packet *p)
{
	static const uint8_t none[4 + 24];
	char block[sizeof p->block] = "";
	const uint32_t n = gw__multifd_pages(page_bytes);
	assert(page_size_ok(page_bytes));
	assert(p->pages_alloc <= n && p->normal <= p->pages_alloc && p->zero <= p->pages_alloc - p->normal);
	memcpy(block, p->block, strnlen(p->block, sizeof block - 1));

	gw__wr_be32(c, GW__MULTIFD_MAGIC);
	gw__wr_be32(c, GW__MULTIFD_VERSION);
	gw__wr_be32(c, p->flags);
	gw__wr_be32(c, p->pages_alloc);
	gw__wr_be32(c, p->normal);
	gw__wr_be32(c, p->payload_bytes);
	gw__wr_be64(c, p->number);
	gw__wr_be32(c, p->zero);
	gw__wr_bytes(c, none, sizeof none);
	gw__wr_bytes(c, block, sizeof block);
	for (uint32_t i = 0; i < n; i++)
		gw__wr_be64(c, i < p->normal + p->zero ? p->off[i] : 0);
}
