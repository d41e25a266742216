/* SPDX-License-Identifier: MIT */
/* Head of a stream and configuration section; see header.h and docs/spec/stream.md 2, 3. */
#include "wire/header.h"

#include "base/math.h"

#include <errno.h>

#include "wire/framing.h"

const struct gw__other_format *gw__header_other(uint32_t first)
{
	static const struct gw__other_format known[] = {
		{0x1f8b0000, 0xffff0000, "compressed with gzip", "gzip", NULL},
		{0x425a6800, 0xffffff00, "compressed with bzip2", "bzip2", NULL},
		{0xfd377a58, 0xffffffff, "compressed with xz", "xz", NULL},
		{0x894c5a4f, 0xffffffff, "compressed with lzop", "lzop", NULL},
		{0x28b52ffd, 0xffffffff, "compressed with zstd", "zstd", NULL},
		{0x04224d18, 0xffffffff, "compressed with lz4", "lz4", NULL},
		{0x4c696276, 0xffffffff, "a save file of libvirt", NULL, NULL},
		{0x47575753, 0xffffffff, "a working set, which says what a guest asked for when it was restored lazily, and holds no guest",
			NULL, "give the image beside it (without .ws), and godwit inspect shows both"},
		{0x47575041, 0xffffffff, "the state of a partly received image, and holds no guest", NULL,
			"godwit receive --resume goes on with it"},
		{0x514649fb, 0xffffffff, "a disk image (qcow2), and no memory of a guest", NULL, NULL},
		{0x7f454c46, 0xffffffff, "an ELF file, as dump-guest-memory writes; a guest cannot be restored from one", NULL, NULL},
	};
	for (unsigned i = 0; i < GW__LEN(known); i++)
		if ((first & known[i].mask) == known[i].magic)
			return &known[i];
	return NULL;
}

int gw__header_decode(struct gw__rd *c, struct gw__error *error)
{
	uint32_t magic = gw__rd_be32(c);
	uint32_t version = gw__rd_be32(c);
	if (c->cut)
		return GW__SHORT;
	const struct gw__other_format *other = gw__header_other(magic);
	if (magic != GW__STREAM_MAGIC)
		return gw__error_set(error, -EPROTO,
			"not a migration stream: it begins with %08x, expected the magic 5145564d (\"QEVM\")%s%s", magic,
			other ? "; it is " : "", other ? other->what : "");
	if (version == 2)
		return gw__error_set(error, -EPROTO, "this stream has the obsolete format version 2, which no QEMU reads any more");
	if (version != GW__STREAM_VERSION)
		return gw__error_set(error, -EPROTO, "unsupported stream version %u, expected 3", version);
	return 0;
}

void gw__header_encode(struct gw__wr *c)
{
	gw__wr_be32(c, GW__STREAM_MAGIC);
	gw__wr_be32(c, GW__STREAM_VERSION);
}

static const char PAGE_BITS[] = "configuration/target-page-bits";
static const char CAPABILITIES[] = "configuration/capabilities";
static const char UUID[] = "configuration/uuid";

static void note_cap(struct gw__config *config)
{
	config->mapped_ram = config->ignore_shared = config->memory_only = false;
	for (uint32_t i = 0; i < config->caps_n; i++) {
		config->mapped_ram |= !strcmp(config->caps[i], "mapped-ram");
		config->ignore_shared |= !strcmp(config->caps[i], "x-ignore-shared");
		config->memory_only |= !strcmp(config->caps[i], GW__CAP_MEMORY_ONLY);
	}
}

int gw__config_add_cap(struct gw__config *config, const char *name)
{
	for (uint32_t i = 0; i < config->caps_n; i++)
		if (!strcmp(config->caps[i], name))
			return 0;
	if (config->caps_n == GW__CAPS_MAX || strlen(name) > GW__CAP_NAME_MAX)
		return -ENOSPC;
	strcpy(config->caps[config->caps_n++], name);
	config->has_caps = true;
	note_cap(config);
	return 0;
}

void gw__config_drop_cap(struct gw__config *config, const char *name)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < config->caps_n; i++)
		if (strcmp(config->caps[i], name)) {
			if (kept != i)
				memcpy(config->caps[kept], config->caps[i], sizeof config->caps[0]);
			kept++;
		}
	config->caps_n = kept;
	config->has_caps = kept > 0; /* QEMU leaves an empty list out */
	note_cap(config);
}

static int decode_page_bits(struct gw__rd *c, struct gw__config *config, struct gw__error *error)
{
	uint32_t bits = gw__rd_be32(c);
	if (c->cut)
		return GW__SHORT;
	if (config->has_page_bits)
		return gw__error_set(error, -EPROTO, "configuration: target-page-bits stands there twice");
	if (bits < GW__PAGE_BITS_MIN || bits > GW__PAGE_BITS_MAX)
		return gw__error_set(error, -EPROTO, "configuration: target-page-bits is %u, expected %d..%d", bits, GW__PAGE_BITS_MIN,
			GW__PAGE_BITS_MAX);
	config->has_page_bits = true;
	config->page_bits = bits;
	return 0;
}

static int decode_caps(struct gw__rd *c, struct gw__config *config, struct gw__error *error)
{
	uint32_t n = gw__rd_be32(c);
	if (c->cut)
		return GW__SHORT;
	if (config->has_caps)
		return gw__error_set(error, -EPROTO, "configuration: the capabilities stand there twice");
	if (n == 0 || n > GW__CAPS_MAX)
		return gw__error_set(error, -EPROTO, "configuration: %u capabilities, expected 1..%d", n, GW__CAPS_MAX);
	for (uint32_t i = 0; i < n; i++) {
		char name[GW__NAME_MAX + 1];
		uint8_t len = gw__rd_str8(c, name);
		if (c->cut)
			return GW__SHORT;
		if (!gw__name_ok(name, len) || len > GW__CAP_NAME_MAX)
			return gw__error_set(error, -EPROTO,
				"configuration: the name of capability %u is unusable (%u bytes, expected 1..%d printable)", i, len,
				GW__CAP_NAME_MAX);
		if (!strcmp(name, "fixed-ram"))
			return gw__error_set(error, -EPROTO,
				"configuration: capability fixed-ram was a proposal of 2022 that no release of QEMU wrote; "
				"its successor is mapped-ram");
		strcpy(config->caps[i], name);
	}
	config->caps_n = n;
	config->has_caps = true;
	note_cap(config);
	return 0;
}

static int decode_uuid(struct gw__rd *c, struct gw__config *config, struct gw__error *error)
{
	uint8_t uuid[16];
	gw__rd_bytes(c, uuid, sizeof uuid);
	if (c->cut)
		return GW__SHORT;
	if (config->has_uuid)
		return gw__error_set(error, -EPROTO, "configuration: the UUID stands there twice");
	config->has_uuid = true;
	memcpy(config->uuid, uuid, sizeof uuid);
	return 0;
}

static int decode_subsection(struct gw__rd *c, struct gw__config *config, struct gw__error *error)
{
	static const struct {
		const char *name;
		int (*decode)(struct gw__rd *c, struct gw__config *config, struct gw__error *error);
	} known[] = {{PAGE_BITS, decode_page_bits}, {CAPABILITIES, decode_caps}, {UUID, decode_uuid}};
	char name[GW__NAME_MAX + 1];
	gw__rd_u8(c); /* GW__ITEM_SUBSECTION, seen by the caller */
	uint8_t len = gw__rd_str8(c, name);
	uint32_t version = gw__rd_be32(c);
	if (c->cut)
		return GW__SHORT;
	if (!gw__name_ok(name, len))
		return gw__error_set(error, -EPROTO, "configuration: a subsection has an unusable name of %u bytes", len);
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		if (strcmp(name, known[i].name))
			continue;
		if (version != 1)
			return gw__error_set(error, -EPROTO, "subsection %s has version %u, expected 1", name, version);
		return known[i].decode(c, config, error);
	}
	return gw__error_set(error, -EPROTO, "configuration: unknown subsection \"%s\" (known: target-page-bits, capabilities, uuid)",
		name);
}

int gw__config_decode(struct gw__rd *c, struct gw__config *config, struct gw__error *error)
{
	memset(config, 0, sizeof *config);
	config->page_bits = GW__PAGE_BITS_LEGACY;
	uint8_t type = gw__rd_u8(c);
	if (c->cut)
		return GW__SHORT;
	if (type != GW__ITEM_CONFIG)
		return gw__error_set(error, -EPROTO, "expected the configuration section (07) after the version, got byte %02x", type);
	uint32_t n = gw__rd_be32(c);
	if (c->cut)
		return GW__SHORT;
	if (n == 0 || n > GW__MACHINE_MAX)
		return gw__error_set(error, -EPROTO, "configuration: machine name of %u bytes, expected 1..%d", n, GW__MACHINE_MAX);
	const uint8_t *machine = gw__rd_take(c, n);
	if (!machine)
		return GW__SHORT;
	for (uint32_t i = 0; i < n; i++)
		if (machine[i] <= 0x20 || machine[i] >= 0x7f)
			return gw__error_set(error, -EPROTO,
				"configuration: byte %u of the machine name is %02x, expected a printable character", i, machine[i]);
	memcpy(config->machine, machine, n);

	for (;;) {
		if (gw__rd_left(c) == 0)
			return GW__SHORT; /* the next byte tells whether another subsection follows */
		if (*c->p != GW__ITEM_SUBSECTION)
			return 0;
		int r = decode_subsection(c, config, error);
		if (r)
			return r;
	}
}

static void encode_subsection(struct gw__wr *c, const char *name)
{
	gw__wr_u8(c, GW__ITEM_SUBSECTION);
	gw__wr_str8(c, name);
	gw__wr_be32(c, 1);
}

void gw__config_encode(struct gw__wr *c, const struct gw__config *config)
{
	size_t n = strlen(config->machine);
	gw__wr_u8(c, GW__ITEM_CONFIG);
	gw__wr_be32(c, (uint32_t)n);
	gw__wr_bytes(c, config->machine, n);
	if (config->has_page_bits) {
		encode_subsection(c, PAGE_BITS);
		gw__wr_be32(c, config->page_bits);
	}
	if (config->has_caps) {
		encode_subsection(c, CAPABILITIES);
		gw__wr_be32(c, config->caps_n);
		for (uint32_t i = 0; i < config->caps_n; i++)
			gw__wr_str8(c, config->caps[i]);
	}
	if (config->has_uuid) {
		encode_subsection(c, UUID);
		gw__wr_bytes(c, config->uuid, sizeof config->uuid);
	}
}
