/* SPDX-License-Identifier: MIT */
/*
 * Streams that must be refused: every row of the checks in stream.md 11 and mapped-ram.md 9 that bytes alone
 * decide. The sentence must name the place, what was expected and what came.
 */
#include "stream_check.h"

/* What is wrong with page records, tried inside a PART behind pages of both blocks. */
#define BAD_RECORD(put, ...)                                                                                                               \
	do {                                                                                                                               \
		struct sb b = {0};                                                                                                         \
		put_part(&b);                                                                                                              \
		struct place at = place_of(&b);                                                                                            \
		put;                                                                                                                       \
		sb_eos(&b);                                                                                                                \
		REFUSED(&b, at.text, __VA_ARGS__);                                                                                         \
	} while (0)

static void heads(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_hex(&b, "7f454c46 02010100 00000000");
	REFUSED(&b, "at stream offset 0", "not a migration stream", "7f454c46", "5145564d");
	sb_hex(&b, "5145564d 00000002 07");
	REFUSED(&b, "at stream offset 0", "version 2");
	sb_hex(&b, "5145564d 00000003 01 00000001");
	REFUSED(&b, "at stream offset 0", "configuration", "got byte 01");
	sb_head(&b, "pc");
	sb_page_bits(&b, 30);
	sb_start_ram(&b);
	REFUSED(&b, "at stream offset 0", "target-page-bits", "30", "8..20");
}

static void unknown_items(void **state)
{
	(void)state;
	static const uint8_t types[] = {0x05, 0x06, 0x07, 0x09, 0x10, 0x7e, 0xff};
	for (size_t i = 0; i < sizeof types; i++) {
		struct sb b = {0};
		char got[16];
		snprintf(got, sizeof got, "type %02x", types[i]);
		put_start(&b);
		sb_eos(&b);
		struct place at = place_of(&b);
		sb_u8(&b, types[i]);
		sb_be32(&b, 1);
		REFUSED(&b, at.text, "unknown", got, "expected 00");
	}
}

static void names_and_ids_of_sections(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_head(&b, "pc");
	struct place at = place_of(&b);
	sb_hex(&b, "01 00000001 00 00000000 00000004 00");
	REFUSED(&b, at.text, "section 1", "0 bytes");
	sb_head(&b, "pc");
	sb_hex(&b, "01 00000001 04 'ra' 00 'm' 00000000 00000004 00");
	REFUSED(&b, at.text, "section 1", "4 bytes");
	sb_head(&b, "pc");
	sb_hex(&b, "04 00000009 00 00000000 00000004 7e 00000009 00");
	REFUSED(&b, at.text, "section 9", "0 bytes");

	put_start(&b);
	sb_eos(&b);
	at = place_of(&b);
	sb_named(&b, 0x01, 1, "dirty-bitmap", 0, 1);
	sb_footer(&b, 1);
	REFUSED(&b, at.text, "section 1 (\"dirty-bitmap\")", "second time");
	put_start(&b);
	sb_eos(&b);
	sb_named(&b, 0x01, 2, "ram", 0, 4);
	REFUSED(&b, at.text, "RAM section", "second time", "section 2");
}

static void versions_of_the_ram_section(void **state)
{
	(void)state;
	static const uint32_t rows[][2] = {{0, 3}, {0, 5}, {0, 0x04000000}, {1, 4}};
	for (size_t i = 0; i < 4; i++) {
		struct sb b = {0};
		char got[64];
		snprintf(got, sizeof got, "version %u, instance %u", rows[i][1], rows[i][0]);
		sb_head(&b, "pc");
		struct place at = place_of(&b);
		sb_named(&b, 0x01, 1, "ram", rows[i][0], rows[i][1]);
		sb_be64(&b, 0x6000 | 0x004);
		REFUSED(&b, at.text, "RAM section", got, "expected version 4, instance 0");
	}
}

static void parts_of_sections_that_are_not_open(void **state)
{
	(void)state;
	for (uint8_t type = 2; type <= 3; type++) {
		struct sb b = {0};
		char got[16];
		snprintf(got, sizeof got, "type %02x", type);
		put_start(&b);
		sb_eos(&b);
		struct place at = place_of(&b);
		sb_more(&b, type, 2);
		sb_eos(&b);
		REFUSED(&b, at.text, "section 2", got, "open");

		sb_head(&b, "pc"); /* before any START */
		at = place_of(&b);
		sb_more(&b, type, 0);
		REFUSED(&b, at.text, "section 0", got, "open");

		put_ram(&b); /* after the END */
		at = place_of(&b);
		sb_more(&b, type, 1);
		sb_eos(&b);
		REFUSED(&b, at.text, "section 1", got, "open");
	}
}

static void footers(void **state)
{
	(void)state;
	struct sb b = {0};
	put_start(&b);
	sb_be64(&b, 0x010);
	struct place at = place_of(&b);
	sb_more(&b, 0x02, 1); /* none */
	REFUSED(&b, at.text, "footer", "section 1", "got byte 02");
	put_start(&b);
	sb_be64(&b, 0x010);
	sb_footer(&b, 0x100);
	REFUSED(&b, at.text, "footer", "section 256", "expected section 1");

	put_part(&b);
	sb_be64(&b, 0x010);
	at = place_of(&b);
	sb_footer(&b, 0);
	REFUSED(&b, at.text, "footer", "section 0", "expected section 1");

	put_part(&b);
	sb_eos(&b);
	sb_more(&b, 0x03, 1);
	sb_be64(&b, 0x010);
	at = place_of(&b);
	sb_be32(&b, 0x7f000000);
	REFUSED(&b, at.text, "footer", "section 1", "got byte 7f");

	sb_head(&b, "pc"); /* an early device */
	at = place_of(&b);
	sb_named(&b, 0x04, 9, "early", 0, 1);
	sb_footer(&b, 8);
	sb_start_ram(&b);
	REFUSED(&b, at.text, "section 9", "\"early\"", "footer");

	put_ram(&b); /* a device */
	at = place_of(&b);
	sb_device(&b, 3, "timer", 0, 2, "0123456789", 10);
	b.p[b.n - 1] ^= 1;
	sb_end(&b);
	REFUSED(&b, at.text, "\"timer\" instance 0", "footer", "section 3");
}

static void commands(void **state)
{
	(void)state;
	static const struct {
		const char *hex, *say[2];
		int code;
		bool twice; /* the first one is good */
	} rows[] = {
		{"08 0000 0000", {"command 0", "1..11"}, -EPROTO, false},
		{"08 000c 0000", {"command 12", "1..11"}, -EPROTO, false},
		{"08 000b 0001 00", {"SWITCHOVER_START", "expected 0"}, -EPROTO, false},
		{"08 0001 0004 00000001", {"OPEN_RETURN_PATH", "4 bytes"}, -EPROTO, false},
		{"08 0002 0004 00000001", {"PING", "return path"}, -EPROTO, false},
		{"08 0003 0010 0000000000001000 0000000000004001", {"POSTCOPY_ADVISE", "16385"}, -EPROTO, false},
		{"08 0003 0000", {"POSTCOPY_ADVISE", "second"}, -EPROTO, true},
		{"08 0004 0000", {"POSTCOPY_LISTEN", "post-copy"}, -EOPNOTSUPP, false},
		{"08 0005 0000", {"POSTCOPY_RUN", "post-copy"}, -EOPNOTSUPP, false},
		{"08 0006 0002 0000", {"POSTCOPY_RAM_DISCARD", "post-copy"}, -EOPNOTSUPP, false},
		{"08 0007 0004 00000010", {"PACKAGED", "post-copy"}, -EOPNOTSUPP, false},
		{"08 0008 0000", {"ENABLE_COLO", "COLO"}, -EOPNOTSUPP, false},
		{"08 0009 0000", {"POSTCOPY_RESUME", "post-copy"}, -EOPNOTSUPP, false},
		{"08 000a 0003 026d30", {"RECV_BITMAP", "post-copy"}, -EOPNOTSUPP, false},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct sb b = {0}, rest = {0};
		sb_head(&b, "pc");
		if (rows[i].twice)
			sb_hex(&b, rows[i].hex);
		struct place at = place_of(&b);
		sb_hex(&b, rows[i].hex);
		put_ram(&rest);
		put_rest(&rest);
		sb_bytes(&b, rest.p + 27, rest.n - 27); /* without its head: nothing else is wrong */
		sb_fini(&rest);
		REFUSED_WITH(&b, NO_LIMIT, rows[i].code, at.text, rows[i].say[0], rows[i].say[1]);
	}
}

#define BAD_LIST(put, ...)                                                                                                                 \
	do {                                                                                                                               \
		struct sb b = {0};                                                                                                         \
		sb_head(&b, "pc");                                                                                                         \
		sb_start_ram(&b);                                                                                                          \
		put;                                                                                                                       \
		sb_eos(&b);                                                                                                                \
		sb_fill(&b, 0, 64);                                                                                                        \
		REFUSED(&b, "at stream offset ", __VA_ARGS__);                                                                             \
	} while (0)

static void block_lists(void **state)
{
	(void)state;
	BAD_LIST((sb_be64(&b, 0x004)), "without memory");
	BAD_LIST((sb_be64(&b, 0x4004), sb_block(&b, "m0", 0)), "\"m0\"", "0 bytes", "4096");
	BAD_LIST((sb_be64(&b, 0x4004), sb_block(&b, "m0", 0x1800)), "\"m0\"", "6144 bytes", "4096");
	BAD_LIST((sb_be64(&b, 0x4004), sb_block(&b, "m0", 0x5000)), "\"m0\"", "20480 bytes", "16384");
	BAD_LIST((sb_be64(&b, 0x4004), sb_block(&b, "m0", 0x3000), sb_block(&b, "m1", 0x2000)), "\"m1\"", "8192 bytes", "4096");
	BAD_LIST((sb_be64(&b, 0x4004), sb_block(&b, "m0", 0x3000), sb_block(&b, "m1", UINT64_MAX - 0xfff)), "\"m1\"",
		"18446744073709547520");
	BAD_LIST((sb_be64(&b, 0x4004), sb_block(&b, "m0", 0x2000), sb_block(&b, "m0", 0x2000)), "\"m0\"", "twice");
	BAD_LIST((sb_be64(&b, 0x4004), sb_block(&b, "", 0x2000)), "1..255");
	BAD_LIST((sb_be64(&b, 0x4024)), "024"); /* CONTINUE of a list */
	BAD_LIST((void)0, "at stream offset 32: ", "no block list");
	/* less than the total: the EOS is taken for the next name */
	BAD_LIST((sb_be64(&b, 0x4004), sb_block(&b, "m0", 0x3000)), "block");
}

static void more_blocks_than_any_guest_has(void **state)
{
	(void)state;
	struct sb b = {0};
	struct feed_end end;
	sb_head(&b, "pc");
	sb_start_ram(&b);
	sb_be64(&b, UINT64_C(0x1000000000000004));
	for (int i = 0; i <= GW__BLOCKS_MAX; i++) {
		char name[16];
		snprintf(name, sizeof name, "m%d", i);
		sb_block(&b, name, 0x1000);
	}
	struct feed f = {.bytes = b.p, .n = b.n, .opts = NO_LIMIT};
	feed_run(&f, &end);
	assert_says(&end.error, -E2BIG, "at stream offset ", "4096");
	feed_end_fini(&end);
	sb_fini(&b);
}

static void page_sizes_in_the_list(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_head(&b, "pc");
	sb_hex(&b, "08 0003 0010 0000000000201000 0000000000001000");
	sb_start_ram(&b);
	sb_be64(&b, 0x40000000 | 0x004);
	struct place at = place_of(&b);
	sb_block(&b, "m0", 0x40000000);
	sb_be64(&b, 0x40000000);
	sb_eos(&b);
	REFUSED(&b, at.text, "\"m0\"", "1073741824", "201000");

	sb_head(&b, "pc");
	sb_hex(&b, "08 0003 0010 0000000000201000 0000000000001000");
	sb_start_ram(&b);
	sb_be64(&b, 0x40000000 | 0x004);
	sb_block(&b, "m0", 0x40000000);
	sb_be64(&b, 0); /* neither a page size nor a record */
	sb_eos(&b);
	REFUSED(&b, at.text, "\"m0\"", "page size of 0 bytes");
}

static void repeated_lists_that_differ(void **state)
{
	(void)state;
	BAD_RECORD(sb_be64(&b, 0x7004), "repeated", "28672", "24576");
	BAD_RECORD((sb_be64(&b, 0x4004), sb_block(&b, "m0", 0x4000)), "repeated", "16384", "24576");
	static const struct {
		const char *name;
		uint64_t used_bytes;
		const char *say[3];
	} rows[] = {
		{"m1", 0x4000, {"entry 0", "\"m1\"", "16384"}},
		{"m0", 0x2000, {"entry 0", "\"m0\"", "8192"}},
		{"rom", 0x2000, {"entry 0", "\"rom\"", "8192"}}, /* another order */
		{"m0", 0x6000, {"entry 0", "\"m0\"", "24576"}},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct sb b = {0};
		put_part(&b);
		sb_be64(&b, 0x6004);
		struct place at = place_of(&b);
		sb_block(&b, rows[i].name, rows[i].used_bytes);
		sb_block(&b, "m0", 0x4000);
		sb_eos(&b);
		REFUSED(&b, at.text, "repeated", rows[i].say[0], rows[i].say[1], rows[i].say[2]);
	}
	/* addresses are a part of it */
	struct sb b = {0};
	sb_head(&b, "pc");
	sb_caps(&b, "x-ignore-shared", NULL);
	sb_start_ram(&b);
	for (int i = 0; i < 2; i++) {
		sb_be64(&b, 0x4004);
		sb_block(&b, "m0", 0x4000);
		sb_be64(&b, i ? 0x100000 : 0);
	}
	sb_eos(&b);
	REFUSED(&b, "at stream offset ", "repeated", "entry 0", "\"m0\"");
}

static void flags_of_records(void **state)
{
	(void)state;
	BAD_RECORD(sb_be64(&b, 0x1001), "0000000000001001", "001");
	BAD_RECORD(sb_be64(&b, 0x100a), "000000000000100a", "00a");
	BAD_RECORD(sb_be64(&b, 0), "0000000000000000", "000");
	BAD_RECORD(sb_be64(&b, 0x20), "0000000000000020", "020");
	BAD_RECORD(sb_be64(&b, 0x30), "0000000000000030", "030");
	BAD_RECORD(sb_be64(&b, 0x220), "0000000000000220", "220");
	BAD_RECORD(sb_be64(&b, 0x080), "HOOK");
	BAD_RECORD(sb_be64(&b, 0x100), "COMPRESS_PAGE");
	BAD_RECORD(sb_be64(&b, 0x1010), "0000000000001010", "expected 0");
	BAD_RECORD(sb_be64(&b, 0x1200), "0000000000001200", "expected 0");
	BAD_RECORD(sb_be64(&b, 0x408), "408");
}

static void pages_outside_their_block(void **state)
{
	(void)state;
	BAD_RECORD(sb_zero(&b, 0x4000, "m0"), "4000", "\"m0\"", "16384");
	BAD_RECORD(sb_zero(&b, 0x2000, NULL), "2000", "\"rom\"", "8192");
	BAD_RECORD(sb_zero(&b, UINT64_MAX - 0xfff, "m0"), "fffffffffffff000", "\"m0\"");
	BAD_RECORD((sb_record(&b, 0x4008, "m0"), sb_fill(&b, 0, 4096)), "4000", "\"m0\"");
	BAD_RECORD(sb_xbzrle(&b, 0x4000, "m0", "\0\1x", 3), "4000", "\"m0\"");
}

static void unknown_blocks(void **state)
{
	(void)state;
	BAD_RECORD(sb_zero(&b, 0, "m1"), "\"m1\"", "not in the block list");
	BAD_RECORD(sb_zero(&b, 0, "m"), "\"m\"", "not in the block list");
	BAD_RECORD(sb_zero(&b, 0, ""), "not in the block list");
	BAD_RECORD((sb_be64(&b, 0x002), sb_hex(&b, "03 'm0' 00 00")), "not in the block list"); /* "m0\0" is not "m0" */
	BAD_RECORD((sb_record(&b, 0x008, "nowhere"), sb_fill(&b, 0, 4096)), "\"nowhere\"", "not in the block list");
}

static void a_page_before_any_block_was_named(void **state)
{
	(void)state;
	struct sb b = {0};
	put_start(&b);
	struct place at = place_of(&b);
	sb_zero(&b, 0, NULL);
	REFUSED(&b, at.text, "same block", "none was named");
	sb_head(&b, "pc");
	sb_start_ram(&b);
	at = place_of(&b);
	sb_zero(&b, 0, NULL); /* not even a list */
	REFUSED(&b, at.text, "same block", "none was named");
	sb_head(&b, "pc");
	sb_start_ram(&b);
	sb_zero(&b, 0, "m0");
	REFUSED(&b, at.text, "\"m0\"", "not in the block list");
}

static void fills_and_deltas(void **state)
{
	(void)state;
	BAD_RECORD((sb_be64(&b, 0x022), sb_u8(&b, 1)), "ZERO", "01", "expected 00");
	BAD_RECORD((sb_be64(&b, 0x060), sb_hex(&b, "02 0003 000178")), "XBZRLE", "type 2", "expected 1");
	BAD_RECORD((sb_be64(&b, 0x060), sb_hex(&b, "00 0003 000178")), "XBZRLE", "type 0", "expected 1");
	BAD_RECORD((sb_be64(&b, 0x060), sb_hex(&b, "01 1001"), sb_fill(&b, 0, 4097)), "XBZRLE", "4097 bytes", "4096");
	BAD_RECORD((sb_be64(&b, 0x060), sb_hex(&b, "01 ffff")), "XBZRLE", "65535 bytes", "4096");
}

static void an_end_that_comes_too_soon(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_head(&b, "pc");
	struct place at = place_of(&b);
	sb_end(&b);
	REFUSED(&b, at.text, "without a RAM section");

	put_start(&b); /* what QEMU itself loads, and runs */
	sb_eos(&b);
	at = place_of(&b);
	sb_eof(&b);
	REFUSED(&b, at.text, "RAM section is open");
	put_start(&b);
	sb_eos(&b);
	put_rest(&b); /* devices, but not one PART: no background snapshot */
	REFUSED(&b, "RAM section is open");
	put_part(&b);
	sb_eos(&b);
	at = place_of(&b);
	sb_end(&b); /* no devices: neither */
	REFUSED(&b, at.text, "RAM section is open");
	put_part(&b);
	sb_eos(&b);
	sb_switchover(&b); /* a background snapshot never says so */
	put_rest(&b);
	REFUSED(&b, "RAM section is open");
}

static void iterables_left_open(void **state)
{
	(void)state;
	struct sb b = {0};
	put_start(&b);
	sb_eos(&b);
	sb_named(&b, 0x01, 7, "dirty-bitmap", 0, 1);
	sb_footer(&b, 7);
	sb_more(&b, 0x02, 1);
	sb_eos(&b);
	put_ram_end(&b);
	put_devices(&b);
	struct place at = place_of(&b);
	sb_end(&b);
	REFUSED(&b, at.text, "is open", "section 7 (\"dirty-bitmap\")");
}

static void sections_without_end(void **state)
{
	(void)state;
	struct sb b = {0};
	struct feed_end end;
	put_start(&b);
	sb_eos(&b);
	for (uint32_t i = 0; i <= GW__OPEN_SECTIONS_MAX; i++) {
		sb_named(&b, 0x01, 100 + i, "dirty-bitmap", i, 1);
		sb_footer(&b, 100 + i);
	}
	struct feed f = {.bytes = b.p, .n = b.n, .opts = NO_LIMIT};
	feed_run(&f, &end);
	assert_says(&end.error, -E2BIG, "at stream offset ", "64 sections");
	feed_end_fini(&end);
	sb_fini(&b);

	put_start(&b);
	sb_eos(&b);
	for (uint32_t i = 0; i <= GW__EARLY_MAX; i++)
		sb_device(&b, 100 + i, "early", i, 1, "x", 1);
	sb_more(&b, 0x02, 1);
	f = (struct feed){.bytes = b.p, .n = b.n, .opts = NO_LIMIT};
	feed_run(&f, &end);
	assert_says(&end.error, -E2BIG, "at stream offset ", "256 devices");
	feed_end_fini(&end);
	sb_fini(&b);
}

static void devices_and_their_description(void **state)
{
	(void)state;
	struct sb b = {0};
	struct place at;
	put_ram(&b);
	at = place_of(&b);
	sb_device_as(&b, 9, "unlisted", 0, 1, "x", 1, NULL);
	put_rest(&b);
	REFUSED(&b, at.text, "VM description", "\"unlisted\" instance 0", "\"timer\" instance 0", "device 0");

	put_ram(&b);
	put_devices(&b);
	sb_device_as(&b, 9, "unlisted", 0, 1, "x", 1, NULL);
	sb_end(&b);
	REFUSED(&b, at.text, "VM description", "\"unlisted\" instance 0", "not in", "3 devices");

	put_ram(&b);
	put_devices(&b);
	size_t n = b.n;
	sb_device(&b, 9, "lost", 0, 1, "x", 1);
	b.n = n;
	sb_end(&b);
	REFUSED(&b, at.text, "3 devices", "lists 4");

	put_ram(&b); /* versions differ */
	sb_device_as(&b, 3, "timer", 0, 3, "x", 1,
		"\"vmsd_name\": \"t\", \"version\": 2, \"fields\": [{\"name\": \"x\", \"type\": \"y\", "
		"\"size\": 1}]");
	sb_end(&b);
	REFUSED(&b, at.text, "\"timer\"", "version 3", "2");

	put_ram(&b); /* something else among the devices */
	sb_device(&b, 3, "timer", 0, 2, "0123456789", 10);
	sb_more(&b, 0x02, 1);
	sb_eos(&b);
	sb_end(&b);
	REFUSED(&b, at.text, "section 1", "type 02", "expected type 04");
}

static void early_devices_are_compared_as_well(void **state)
{
	(void)state;
	struct sb b = {0};
	static const char *const listed[] = {"\"name\": \"other\", \"instance_id\": 0", "\"name\": \"early\", \"instance_id\": 1"};
	for (int i = 0; i < 2; i++) {
		put_start(&b);
		sb_eos(&b);
		sb_device_as(&b, 9, "early", 0, 1, "x", 1, NULL);
		sb_more(&b, 0x02, 1);
		sb_eos(&b);
		put_ram_end(&b);
		sb_eof(&b);
		char json[256];
		snprintf(json, sizeof json,
			"{\"page_size\": 4096, \"devices\": [{%s, \"vmsd_name\": \"e\", \"version\": 1, "
			"\"fields\": "
			"[{\"name\": \"x\", \"type\": \"y\", \"size\": 1}]}]}",
			listed[i]);
		sb_desc_text(&b, json);
		REFUSED(&b, "device 0", "\"early\" instance 0", i ? "\"early\" instance 1" : "\"other\" instance 0");
	}
}

static void descriptions(void **state)
{
	(void)state;
	static const char *const bad[] = {"{not json", "{}", "{\"page_size\": 4096, \"devices\": {}}"};
	for (int i = 0; i < 3; i++) {
		struct sb b = {0};
		put_ram(&b);
		struct place at = place_of(&b);
		put_devices(&b);
		sb_eof(&b);
		sb_desc_text(&b, bad[i]);
		REFUSED(&b, at.text, "VM description");
	}
	struct sb b = {0};
	put_ram(&b);
	put_devices(&b);
	sb_hex(&b, "00 06 00100000 '{'");
	REFUSED(&b, "cut short");
}

static void device_state_is_bounded(void **state)
{
	(void)state;
	enum { LIMIT = 10000 };
	const struct gw__stream_opts opts = {.tail_max_bytes = LIMIT};
	static const uint8_t zeros[LIMIT];
	struct sb b = {0}, tail = {0};
	struct place at;
	for (int over = 0; over < 2; over++) {
		/* devices, EOF and description of exactly the limit, and one more */
		sb_device(&tail, 3, "timer", 0, 2, zeros, 5000);
		sb_end(&tail);
		size_t rest = tail.n - 5000;
		sb_fini(&tail);
		put_ram(&b);
		at = place_of(&b);
		size_t from = b.n;
		sb_device(&b, 3, "timer", 0, 2, zeros, LIMIT - rest + (size_t)over);
		sb_end(&b);
		assert_int_equal(b.n - from, LIMIT + over);
		if (over)
			REFUSED_WITH(&b, opts, -E2BIG, at.text, "10000 bytes");
		else
			feed_end_fini((struct feed_end[]){accept_with(&b, opts, __FILE__, __LINE__)});
		sb_fini(&b);

		/* an early device of exactly the limit, and one more */
		put_start(&b);
		sb_eos(&b);
		at = place_of(&b);
		from = b.n;
		sb_device_as(&b, 9, "early", 0, 1, zeros, LIMIT - 24 + (size_t)over, NULL);
		assert_int_equal(b.n - from, LIMIT + over);
		sb_more(&b, 0x02, 1);
		sb_be64(&b, 0x001); /* so that it ends in another way when it is accepted */
		if (over)
			REFUSED_WITH(&b, opts, -E2BIG, at.text, "10000 bytes");
		else
			REFUSED_WITH(&b, opts, -EPROTO, "at stream offset ", "001");

		/* two early devices of exactly the limit together, and one byte more */
		put_start(&b);
		sb_eos(&b);
		sb_device_as(&b, 9, "early", 0, 1, zeros, LIMIT / 2 - 24, NULL);
		at = place_of(&b);
		sb_device_as(&b, 9, "early", 1, 1, zeros, LIMIT / 2 - 24 + (size_t)over, NULL);
		sb_more(&b, 0x02, 1);
		sb_be64(&b, 0x001);
		if (over)
			REFUSED_WITH(&b, opts, -E2BIG, at.text, "10000 bytes");
		else
			REFUSED_WITH(&b, opts, -EPROTO, "at stream offset ", "001");
	}
	/* what came early leaves less for the rest */
	put_start(&b);
	sb_eos(&b);
	sb_device_as(&b, 9, "early", 0, 1, zeros, LIMIT / 2, NULL);
	put_ram_end(&b);
	at = place_of(&b);
	sb_device(&b, 3, "timer", 0, 2, zeros, LIMIT / 2);
	sb_eof(&b);
	REFUSED_WITH(&b, opts, -E2BIG, at.text, "10000 bytes");
	/* a device without end, from a source that goes on and on */
	sb_named(&tail, 0x04, 3, "timer", 0, 2);
	sb_fill(&tail, 0x11, 2 * LIMIT);
	put_ram(&b);
	at = place_of(&b);
	sb_bytes(&b, tail.p, tail.n);
	struct feed_end end;
	struct feed f = {.bytes = b.p, .n = b.n, .opts = opts, .piece = one_byte, .open_end = true};
	feed_run(&f, &end);
	assert_says(&end.error, -E2BIG, at.text, "10000 bytes");
	feed_end_fini(&end);
	sb_fini(&tail);
	sb_fini(&b);
}

static void a_failure_stays(void **state)
{
	(void)state;
	struct sb b = {0};
	put_start(&b);
	sb_be64(&b, 0x001);
	struct gw__stream s;
	struct gw__event ev;
	struct gw__error error = {0};
	size_t at = 0, used;
	int r;
	gw__stream_init(&s, &NO_LIMIT);
	do {
		r = gw__stream_next(&s, b.p + at, b.n - at, false, &used, &ev, &error);
		at += used;
	} while (r == 1);
	assert_int_equal(r, -EPROTO);
	for (int i = 0; i < 2; i++) {
		struct gw__error again = {0};
		assert_int_equal(gw__stream_next(&s, b.p, b.n, true, &used, &ev, &again), -EPROTO);
		assert_string_equal(again.text, error.text);
		assert_int_equal(used, 0);
	}
	gw__stream_fini(&s);
	sb_fini(&b);
}

/* Blocks "rom" of one page, laid out by the caller, in a mapped-ram file. */
static void put_mapped(struct sb *b, bool ignore_shared)
{
	sb_head(b, "pc");
	sb_caps(b, "mapped-ram", ignore_shared ? "x-ignore-shared" : NULL);
	sb_start_ram(b);
	sb_be64(b, 0x1000 | 0x004);
	sb_block(b, "rom", 0x1000);
	if (ignore_shared)
		sb_be64(b, 0xfffff000);
}

static void put_mapped_well(struct sb *b)
{
	put_mapped(b, false);
	sb_mapped_header(b, 4096, b->n + 28, 4096);
	sb_pad_to(b, 8192, 0);
}

#define BAD_HEADER(header, ...)                                                                                                            \
	do {                                                                                                                               \
		struct sb b = {0};                                                                                                         \
		put_mapped(&b, false);                                                                                                     \
		header;                                                                                                                    \
		sb_pad_to(&b, 8192, 0);                                                                                                    \
		sb_eos(&b);                                                                                                                \
		REFUSED(&b, "at stream offset ", "\"rom\"", __VA_ARGS__);                                                                  \
	} while (0)

static void mapped_headers(void **state)
{
	(void)state;
	BAD_HEADER((sb_be32(&b, 2), sb_be64(&b, 4096), sb_be64(&b, b.n + 16), sb_be64(&b, 4096)), "version 2", "expected 1");
	BAD_HEADER((sb_be32(&b, 0), sb_be64(&b, 4096), sb_be64(&b, b.n + 16), sb_be64(&b, 4096)), "version 0", "expected 1");
	BAD_HEADER(sb_mapped_header(&b, 8192, b.n + 28, 8192), "page size of 8192", "expected 4096"); /* the first said so */
	BAD_HEADER(sb_mapped_header(&b, 0, b.n + 28, 8192), "page size of 0", "expected 4096");
	BAD_HEADER(sb_mapped_header(&b, 4096, b.n + 27, 4096), "bitmap");
	BAD_HEADER(sb_mapped_header(&b, 4096, 4089, 4096), "pages", "4096", "4089");
	BAD_HEADER(sb_mapped_header(&b, 4096, b.n + 28, 4100), "4100", "multiple");
	BAD_HEADER(sb_mapped_header(&b, 4096, b.n + 28, INT64_MAX - 4095), "largest file");
	BAD_HEADER(sb_mapped_header(&b, 4096, UINT64_MAX - 4, 4096), "pages");
	BAD_HEADER(sb_mapped_header(&b, 4096, 0, 0), "x-ignore-shared");

	struct sb b = {0}; /* with the capability, only both may be 0 */
	put_mapped(&b, true);
	sb_mapped_header(&b, 4096, 0, 4096);
	REFUSED(&b, "\"rom\"", "bitmap");
	put_mapped(&b, true);
	sb_mapped_header(&b, 4096, b.n + 28, 0);
	REFUSED(&b, "\"rom\"", "pages");
}

static void mapped_blocks_that_overlap(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_head(&b, "pc");
	sb_caps(&b, "mapped-ram", NULL);
	sb_start_ram(&b);
	sb_be64(&b, 0x2000 | 0x004);
	sb_block(&b, "m0", 0x1000);
	sb_mapped_header(&b, 4096, b.n + 28, 4096);
	sb_pad_to(&b, 8192, 0);
	sb_block(&b, "m1", 0x1000);
	sb_mapped_header(&b, 4096, b.n + 28, 4096); /* the pages of m0 */
	REFUSED(&b, "at stream offset 8192", "\"m1\"", "pages", "4096");
}

static void records_in_mapped_ram(void **state)
{
	(void)state;
	static const uint64_t words[] = {0x002, 0x008, 0x022, 0x028, 0x040, 0x200};
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		struct sb b = {0};
		char got[24];
		snprintf(got, sizeof got, "%016llx", (unsigned long long)words[i]);
		put_mapped_well(&b);
		struct place at = place_of(&b);
		sb_be64(&b, words[i]);
		sb_fill(&b, 0, 16);
		REFUSED(&b, at.text, "mapped-ram", got);
	}
	struct sb b = {0};
	put_mapped_well(&b);
	struct place at = place_of(&b);
	sb_be64(&b, 0x1004);
	REFUSED(&b, at.text, "repeated", "mapped-ram");
}

static void images_that_are_cut(void **state)
{
	(void)state;
	struct sb b = {0};
	put_mapped_well(&b);
	sb_eos(&b);
	put_ram_end(&b);
	put_devices(&b);
	REFUSED(&b, "cut short");
	put_mapped_well(&b);
	b.n = 6000; /* inside the pages */
	struct feed_end end;
	read_with(&b, NO_LIMIT, false, &end);
	assert_int_not_equal(end.code, 0);
	feed_end_fini(&end);
	sb_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(heads),
		cmocka_unit_test(unknown_items),
		cmocka_unit_test(names_and_ids_of_sections),
		cmocka_unit_test(versions_of_the_ram_section),
		cmocka_unit_test(parts_of_sections_that_are_not_open),
		cmocka_unit_test(footers),
		cmocka_unit_test(commands),
		cmocka_unit_test(block_lists),
		cmocka_unit_test(more_blocks_than_any_guest_has),
		cmocka_unit_test(page_sizes_in_the_list),
		cmocka_unit_test(repeated_lists_that_differ),
		cmocka_unit_test(flags_of_records),
		cmocka_unit_test(pages_outside_their_block),
		cmocka_unit_test(unknown_blocks),
		cmocka_unit_test(a_page_before_any_block_was_named),
		cmocka_unit_test(fills_and_deltas),
		cmocka_unit_test(an_end_that_comes_too_soon),
		cmocka_unit_test(iterables_left_open),
		cmocka_unit_test(sections_without_end),
		cmocka_unit_test(devices_and_their_description),
		cmocka_unit_test(early_devices_are_compared_as_well),
		cmocka_unit_test(descriptions),
		cmocka_unit_test(device_state_is_bounded),
		cmocka_unit_test(a_failure_stays),
		cmocka_unit_test(mapped_headers),
		cmocka_unit_test(mapped_blocks_that_overlap),
		cmocka_unit_test(records_in_mapped_ram),
		cmocka_unit_test(images_that_are_cut),
	};
	return cmocka_run_group_tests_name("stream-refused", tests, NULL, NULL);
}
