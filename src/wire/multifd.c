/* SPDX-License-Identifier: MIT */
/*
 * The hello and the packet headers of a multifd channel (docs/spec/multifd.md 2, 3, 7).
 *
 * Not the payload (pack.h, or pages as they are) and not what ties channels together: ids, agreed method,
 * blocks and SYNCs are the engine's. No state: any thread, on its own buffers.
 */
#include "wire/multifd.h"

#include <assert.h>
#include <errno.h>

#include "base/math.h"

typedef unsigned long long ull;

static const uint32_t MAIN_MAGIC = 0x5145564d; /* "QEVM": how the main channel begins */

static bool page_size_ok(uint64_t page_bytes)
{
	return gw__is_power_of_2(page_bytes) && page_bytes <= GW__MULTIFD_PACKET_BYTES &&
	       gw__multifd_pages(page_bytes) <= GW__MULTIFD_PAGES_MAX;
}

static int check_magic(uint32_t magic, uint32_t version, const char *what, struct gw__why *why)
{
	if (magic == MAIN_MAGIC)
		return gw__why_set(why, -EPROTO, "%s: magic %08x is that of a main channel, expected %08x",
			what, magic, GW__MULTIFD_MAGIC);
	if (magic != GW__MULTIFD_MAGIC)
		return gw__why_set(
			why, -EPROTO, "%s: magic is %08x, expected %08x", what, magic, GW__MULTIFD_MAGIC);
	if (version != GW__MULTIFD_VERSION)
		return gw__why_set(
			why, -EPROTO, "%s: version is %u, expected %d", what, version, GW__MULTIFD_VERSION);
	return 0;
}

/* --- hello ---------------------------------------------------------------------------------------------- */

enum { HELLO_RESERVED_BYTES = 7 + 32 };

int gw__multifd_hello_decode(struct gw__rd *c, struct gw__multifd_hello *h, struct gw__why *why)
{
	*h = (struct gw__multifd_hello){0};
	uint32_t magic = gw__rd_be32(c);
	uint32_t version = gw__rd_be32(c);
	if (c->cut)
		return GW__SHORT;
	int err = check_magic(magic, version, "multifd hello", why);
	if (err)
		return err;
	gw__rd_bytes(c, h->uuid, sizeof h->uuid);
	h->id = gw__rd_u8(c);
	gw__rd_take(c, HELLO_RESERVED_BYTES);
	return c->cut ? GW__SHORT : 0;
}

void gw__multifd_hello_encode(struct gw__wr *c, const struct gw__multifd_hello *h)
{
	static const uint8_t reserved[HELLO_RESERVED_BYTES];
	gw__wr_be32(c, GW__MULTIFD_MAGIC);
	gw__wr_be32(c, GW__MULTIFD_VERSION);
	gw__wr_bytes(c, h->uuid, sizeof h->uuid);
	gw__wr_u8(c, h->id);
	gw__wr_bytes(c, reserved, sizeof reserved);
}

/* --- flags ---------------------------------------------------------------------------------------------- */

const char *gw__multifd_method_name(uint32_t flags)
{
	switch (flags & GW__MULTIFD_METHOD_MASK) {
	case 0:
		return "none";
	case GW__MULTIFD_ZLIB:
		return "zlib";
	case GW__MULTIFD_ZSTD:
		return "zstd";
	case GW__MULTIFD_QPL:
		return "qpl";
	case GW__MULTIFD_UADK:
		return "uadk";
	case GW__MULTIFD_QATZIP:
		return "qatzip";
	default:
		return NULL;
	}
}

static int check_flags(uint32_t flags, struct gw__why *why)
{
	const uint32_t known = GW__MULTIFD_SYNC | GW__MULTIFD_METHOD_MASK | GW__MULTIFD_DEVICE_STATE;
	const uint32_t method = flags & GW__MULTIFD_METHOD_MASK;
	if (flags & ~known)
		return gw__why_set(why, -EPROTO, "multifd packet: flags are %08x, expected none beside %02x",
			flags, known);
	if (!gw__multifd_method_name(flags))
		return gw__why_set(why, -EPROTO,
			"multifd packet: flags %02x name the compression method %02x, expected one of 00, "
			"02, 04, 08, 10, 20",
			flags, method);
	if (method & ~(uint32_t)(GW__MULTIFD_ZLIB | GW__MULTIFD_ZSTD))
		return gw__why_set(why, -EOPNOTSUPP,
			"multifd packet: it is compressed with %s, which is not supported; set "
			"multifd-compression to none, zlib or zstd",
			gw__multifd_method_name(flags));
	return 0;
}

/* --- device state --------------------------------------------------------------------------------------- */

/* Behind the kind. Never 0: what is right in itself is still nothing we can keep. */
static int refuse_device_state(struct gw__rd *c, uint32_t flags, struct gw__why *why)
{
	char idstr[256];
	if (flags != GW__MULTIFD_DEVICE_STATE)
		return gw__why_set(why, -EPROTO,
			"multifd packet of device state: flags are %02x, expected %02x alone (no SYNC, no "
			"compression)",
			flags, GW__MULTIFD_DEVICE_STATE);
	gw__rd_bytes(c, idstr, sizeof idstr);
	uint32_t instance = gw__rd_be32(c);
	uint32_t payload_bytes = gw__rd_be32(c);
	if (c->cut)
		return GW__SHORT;
	if (idstr[sizeof idstr - 1])
		return gw__why_set(why, -EPROTO,
			"multifd packet of device state: idstr does not end within its 256 bytes");
	if (!gw__name_ok(idstr, strlen(idstr)))
		return gw__why_set(why, -EPROTO,
			"multifd packet of device state: idstr has %zu unusable bytes, expected 1..255 "
			"printable ones",
			strlen(idstr));
	if (payload_bytes == 0)
		return gw__why_set(why, -EPROTO,
			"multifd packet of device state: \"%s\" instance %u has a payload of 0 bytes, "
			"expected more",
			idstr, instance);
	return gw__why_set(why, -EOPNOTSUPP,
		"multifd packet of device state: \"%s\" instance %u sends its state over multifd, which is "
		"not supported",
		idstr, instance);
}

/* --- RAM ------------------------------------------------------------------------------------------------ */

/* Counts before sums: each bound is computed from what was judged before it. */
static int check_counts(const struct gw__multifd_packet *p, uint64_t page_bytes, struct gw__why *why)
{
	const uint32_t n = gw__multifd_pages(page_bytes);
	if (p->pages_alloc > n)
		return gw__why_set(why, -EPROTO,
			"multifd packet %llu: pages_alloc is %u, expected at most %u (pages of %llu bytes)",
			(ull)p->number, p->pages_alloc, n, (ull)page_bytes);
	if (p->normal > p->pages_alloc)
		return gw__why_set(why, -EPROTO,
			"multifd packet %llu: normal_pages is %u, expected at most the %u of pages_alloc",
			(ull)p->number, p->normal, p->pages_alloc);
	if (p->zero > p->pages_alloc - p->normal)
		return gw__why_set(why, -EPROTO,
			"multifd packet %llu: zero_pages is %u, expected at most %u (pages_alloc %u, "
			"normal_pages %u)",
			(ull)p->number, p->zero, p->pages_alloc - p->normal, p->pages_alloc, p->normal);
	return 0;
}

/* Without normal pages no payload follows; sources before 9.0 leave an earlier packet's number there. */
static int check_payload(struct gw__multifd_packet *p, uint64_t page_bytes, struct gw__why *why)
{
	const uint64_t plain_bytes = p->normal * page_bytes;
	if (p->payload_bytes > GW__MULTIFD_PAYLOAD_MAX)
		return gw__why_set(why, -EPROTO,
			"multifd packet %llu: next_packet_size is %u, expected at most %d", (ull)p->number,
			p->payload_bytes, GW__MULTIFD_PAYLOAD_MAX);
	if (p->normal == 0) {
		p->payload_bytes = 0;
		return 0;
	}
	if (p->flags & GW__MULTIFD_METHOD_MASK) {
		if (p->payload_bytes)
			return 0;
		return gw__why_set(why, -EPROTO,
			"multifd packet %llu: next_packet_size is 0, expected some bytes of %s for %u normal "
			"pages",
			(ull)p->number, gw__multifd_method_name(p->flags), p->normal);
	}
	if (p->payload_bytes == plain_bytes)
		return 0;
	return gw__why_set(why, -EPROTO,
		"multifd packet %llu: next_packet_size is %u, expected %llu (%u normal pages of %llu bytes)",
		(ull)p->number, p->payload_bytes, (ull)plain_bytes, p->normal, (ull)page_bytes);
}

static int check_name(const struct gw__multifd_packet *p, struct gw__why *why)
{
	if (p->block[sizeof p->block - 1])
		return gw__why_set(why, -EPROTO,
			"multifd packet %llu: the block name does not end within its %zu bytes",
			(ull)p->number, sizeof p->block);
	size_t n = strlen(p->block);
	if (!gw__name_ok(p->block, n))
		return gw__why_set(why, -EPROTO,
			"multifd packet %llu: the block name has %zu unusable bytes, expected 1..255 "
			"printable ones",
			(ull)p->number, n);
	return 0;
}

static int check_offsets(const struct gw__multifd_packet *p, uint64_t page_bytes, struct gw__why *why)
{
	for (uint32_t i = 0; i < p->normal + p->zero; i++)
		if (!gw__is_aligned(p->off[i], page_bytes))
			return gw__why_set(why, -EPROTO,
				"multifd packet %llu: offset %llx of %s page %u in block \"%s\", expected a "
				"multiple of the page size %llu",
				(ull)p->number, (ull)p->off[i], i < p->normal ? "normal" : "zero", i,
				p->block, (ull)page_bytes);
	return 0;
}

static int decode_ram(
	struct gw__rd *c, uint64_t page_bytes, struct gw__multifd_packet *p, struct gw__why *why)
{
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
	int err = check_counts(p, page_bytes, why);
	if (!err)
		err = check_payload(p, page_bytes, why);
	if (err)
		return err;
	if (p->normal + p->zero == 0) {
		memset(p->block, 0, sizeof p->block);
		return 0;
	}
	err = check_name(p, why);
	if (err)
		return err;
	for (uint32_t i = 0; i < p->normal + p->zero; i++)
		p->off[i] = gw__be_get(off + 8 * (size_t)i, 8);
	return check_offsets(p, page_bytes, why);
}

int gw__multifd_packet_decode(
	struct gw__rd *c, uint64_t page_bytes, struct gw__multifd_packet *p, struct gw__why *why)
{
	assert(page_size_ok(page_bytes));
	uint32_t magic = gw__rd_be32(c);
	uint32_t version = gw__rd_be32(c);
	p->flags = gw__rd_be32(c);
	if (c->cut)
		return GW__SHORT;
	int err = check_magic(magic, version, "multifd packet", why);
	if (!err)
		err = check_flags(p->flags, why);
	if (err)
		return err;
	if (p->flags & GW__MULTIFD_DEVICE_STATE)
		return refuse_device_state(c, p->flags, why);
	return decode_ram(c, page_bytes, p, why);
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
