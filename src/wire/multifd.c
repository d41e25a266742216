/* SPDX-License-Identifier: MIT */
/*
 * The hello of a multifd channel, and what its packets begin with, which decides what they are (docs/spec/multifd.md 2, 3, 7). What
 * a packet of RAM says is in multifd_ram.c; one of device state is refused here.
 *
 * Not the payload (compress.h, or pages as they are) and not what ties channels together: ids, agreed method,
 * blocks and SYNCs are the engine's. No state: any thread, on its own buffers.
 */
#include <errno.h>

#include "wire/multifd_private.h"

static const uint32_t MAIN_MAGIC = 0x5145564d; /* "QEVM": how the main channel begins */

static int check_magic(uint32_t magic, uint32_t version, const char *what, struct gw__error *error)
{
	if (magic == MAIN_MAGIC)
		return gw__error_set(error, -EPROTO, "%s: magic %08x is that of a main channel, expected %08x", what, magic,
			GW__MULTIFD_MAGIC);
	if (magic != GW__MULTIFD_MAGIC)
		return gw__error_set(error, -EPROTO, "%s: magic is %08x, expected %08x", what, magic, GW__MULTIFD_MAGIC);
	if (version != GW__MULTIFD_VERSION)
		return gw__error_set(error, -EPROTO, "%s: version is %u, expected %d", what, version, GW__MULTIFD_VERSION);
	return 0;
}

/* --- hello ---------------------------------------------------------------------------------------------- */

enum { HELLO_RESERVED_BYTES = 7 + 32 };

int gw__multifd_hello_decode(struct gw__rd *c, struct gw__multifd_hello *h, struct gw__error *error)
{
	*h = (struct gw__multifd_hello){0};
	uint32_t magic = gw__rd_be32(c);
	uint32_t version = gw__rd_be32(c);
	if (c->cut)
		return GW__SHORT;
	int err = check_magic(magic, version, "multifd hello", error);
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

static int check_flags(uint32_t flags, struct gw__error *error)
{
	const uint32_t known = GW__MULTIFD_SYNC | GW__MULTIFD_METHOD_MASK | GW__MULTIFD_DEVICE_STATE;
	const uint32_t method = flags & GW__MULTIFD_METHOD_MASK;
	if (flags & ~known)
		return gw__error_set(error, -EPROTO, "multifd packet: flags are %08x, expected none beside %02x", flags, known);
	if (!gw__multifd_method_name(flags))
		return gw__error_set(error, -EPROTO,
			"multifd packet: flags %02x name the compression method %02x, expected one of 00, "
			"02, 04, 08, 10, 20",
			flags, method);
	if (method & ~(uint32_t)(GW__MULTIFD_ZLIB | GW__MULTIFD_ZSTD))
		return gw__error_set(error, -EOPNOTSUPP,
			"multifd packet: it is compressed with %s, which is not supported; set "
			"multifd-compression to none, zlib or zstd",
			gw__multifd_method_name(flags));
	return 0;
}

/* --- device state --------------------------------------------------------------------------------------- */

/* After the kind. Never 0: what is right in itself is still nothing we can keep. */
static int refuse_device_state(struct gw__rd *c, uint32_t flags, struct gw__error *error)
{
	char idstr[256];
	if (flags != GW__MULTIFD_DEVICE_STATE)
		return gw__error_set(error, -EPROTO,
			"multifd packet of device state: flags are %02x, expected %02x alone (no SYNC, no "
			"compression)",
			flags, GW__MULTIFD_DEVICE_STATE);
	gw__rd_bytes(c, idstr, sizeof idstr);
	uint32_t instance = gw__rd_be32(c);
	uint32_t payload_bytes = gw__rd_be32(c);
	if (c->cut)
		return GW__SHORT;
	if (idstr[sizeof idstr - 1])
		return gw__error_set(error, -EPROTO, "multifd packet of device state: idstr does not end within its 256 bytes");
	if (!gw__name_ok(idstr, strlen(idstr)))
		return gw__error_set(error, -EPROTO,
			"multifd packet of device state: idstr has %zu unusable bytes, expected 1..255 "
			"printable ones",
			strlen(idstr));
	if (payload_bytes == 0)
		return gw__error_set(error, -EPROTO,
			"multifd packet of device state: \"%s\" instance %u has a payload of 0 bytes, "
			"expected more",
			idstr, instance);
	return gw__error_set(error, -EOPNOTSUPP,
		"multifd packet of device state: \"%s\" instance %u sends its state over multifd, which is "
		"not supported",
		idstr, instance);
}

/* --- a packet: its kind, then the rest ------------------------------------------------------------------- */

int gw__multifd_packet_decode(struct gw__rd *c, uint64_t page_bytes, struct gw__multifd_packet *p, struct gw__error *error)
{
	uint32_t magic = gw__rd_be32(c);
	uint32_t version = gw__rd_be32(c);
	p->flags = gw__rd_be32(c);
	if (c->cut)
		return GW__SHORT;
	int err = check_magic(magic, version, "multifd packet", error);
	if (!err)
		err = check_flags(p->flags, error);
	if (err)
		return err;
	if (p->flags & GW__MULTIFD_DEVICE_STATE)
		return refuse_device_state(c, p->flags, error);
	return gw__multifd_decode_ram(c, page_bytes, p, error);
}
