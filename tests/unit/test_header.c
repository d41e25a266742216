/* SPDX-License-Identifier: MIT */
/* Head and configuration: the captures of stream.md 12 both ways, and each rule of stream.md 2, 3 and 11
 * broken once. */
#include "error_text.h"

#include <errno.h>

#include "stream_builder.h"
#include "wire/header.h"

/* Magic, version and configuration, with one byte behind them: the next item's type. */
static int decode(const struct sb *b, struct gw__config *config, struct gw__error *error)
{
	struct gw__rd c = gw__rd_over(b->p, b->n);
	*error = (struct gw__error){0};
	int r = gw__header_decode(&c, error);
	if (!r)
		r = gw__config_decode(&c, config, error);
	if (!r)
		assert_int_equal(gw__rd_left(&c), 1); /* stands on the next item */
	return r;
}

static struct gw__config accept(struct sb *b)
{
	struct gw__config config;
	struct gw__error error;
	sb_u8(b, 0x01);
	if (decode(b, &config, &error))
		fail_msg("refused: %s", error.text);
	uint8_t again[8192];
	struct gw__wr w = gw__wr_over(again, sizeof again);
	gw__header_encode(&w);
	gw__config_encode(&w, &config);
	assert_false(w.full);
	assert_int_equal(gw__wr_used(&w), b->n - 1);
	assert_memory_equal(again, b->p, b->n - 1);
	sb_fini(b);
	return config;
}

#define REFUSED(b, ...)                                                                                                                    \
	do {                                                                                                                               \
		struct gw__config config_;                                                                                                 \
		struct gw__error why_;                                                                                                     \
		sb_u8(b, 0x01);                                                                                                            \
		assert_int_equal(decode(b, &config_, &why_), -EPROTO);                                                                     \
		assert_says(&why_, -EPROTO, __VA_ARGS__);                                                                                  \
		sb_fini(b);                                                                                                                \
	} while (0)

static void the_plain_capture(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_hex(&b, "5145564d 00000003  07 0000000e 70632d6934343066782d31302e30");
	struct gw__config config = accept(&b);
	assert_string_equal(config.machine, "pc-i440fx-10.0");
	assert_int_equal(config.page_bits, 12);
	assert_int_equal(gw__config_page_bytes(&config), 4096);
	assert_false(config.has_page_bits || config.has_caps || config.has_uuid);
	assert_false(config.mapped_ram || config.ignore_shared);
}

static void the_capture_with_capabilities(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_head(&b, "pc-i440fx-10.0");
	sb_hex(&b, "05 1a 636f6e66696775726174696f6e2f6361706162696c6974696573 00000001");
	sb_hex(&b, "00000002  0f 782d69676e6f72652d736861726564  0a 6d61707065642d72616d");
	struct gw__config config = accept(&b);
	assert_int_equal(config.caps_n, 2);
	assert_string_equal(config.caps[0], "x-ignore-shared");
	assert_string_equal(config.caps[1], "mapped-ram");
	assert_true(config.has_caps && config.mapped_ram && config.ignore_shared);
}

static void the_capture_with_a_uuid(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_head(&b, "pc-i440fx-10.0");
	sb_hex(&b, "05 12 'configuration/uuid' 00000001 123456789abcdef01122334455667788");
	struct gw__config config = accept(&b);
	static const uint8_t uuid[16] = {0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88};
	assert_true(config.has_uuid);
	assert_memory_equal(config.uuid, uuid, 16);
}

/* All three subsections in the order of the table of stream.md 3. */
static struct sb everything(void)
{
	struct sb b = {0};
	sb_head(&b, "virt-11.1");
	sb_page_bits(&b, 16);
	sb_caps(&b, "x-ignore-shared", "mapped-ram");
	sb_hex(&b, "05 12 'configuration/uuid' 00000001 00112233445566778899aabbccddeeff");
	return b;
}

static void all_subsections_at_once(void **state)
{
	(void)state;
	struct sb b = everything();
	struct gw__config config = accept(&b);
	assert_true(config.has_page_bits && config.has_caps && config.has_uuid);
	assert_int_equal(gw__config_page_bytes(&config), 65536);
}

static void a_prefix_is_short_and_nothing_else(void **state)
{
	(void)state;
	struct sb b = everything();
	struct gw__config config;
	struct gw__error error;
	for (size_t n = 0; n <= b.n; n++) { /* the whole too: another subsection might follow */
		struct sb cut = {.p = b.p, .n = n};
		assert_int_equal(decode(&cut, &config, &error), GW__SHORT);
		assert_int_equal(error.code, 0);
	}
	sb_fini(&b);
}

static void only_magic_and_version_3_begin_a_stream(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_hex(&b, "5145564c 00000003 07 00000001 'a'");
	REFUSED(&b, "not a migration stream", "5145564c", "5145564d");
	sb_hex(&b, "5145564d 00000002 07 00000001 'a'");
	REFUSED(&b, "version 2", "obsolete");
	sb_hex(&b, "51450000 00000002"); /* what is no stream has no version */
	REFUSED(&b, "not a migration stream");
	sb_hex(&b, "5145564d 00000004 07 00000001 'a'");
	REFUSED(&b, "version 4", "expected 3");
	sb_hex(&b, "5145564d 03000000 07 00000001 'a'");
	REFUSED(&b, "version 50331648", "expected 3");
}

static void the_configuration_is_not_optional(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_hex(&b, "5145564d 00000003 01 00000001 03 'ram'");
	REFUSED(&b, "configuration", "07", "got byte 01");
}

static void machine_names_are_1_to_1024_bytes(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_hex(&b, "5145564d 00000003 07 00000400");
	sb_fill(&b, 'm', 1024);
	struct gw__config config = accept(&b);
	assert_int_equal(strlen(config.machine), 1024);

	sb_hex(&b, "5145564d 00000003 07 00000000");
	REFUSED(&b, "machine name", "0 bytes", "1..1024");
	sb_hex(&b, "5145564d 00000003 07 00000401");
	sb_fill(&b, 'm', 1025);
	REFUSED(&b, "machine name", "1025 bytes", "1..1024");
	sb_hex(&b, "5145564d 00000003 07 ffffffff"); /* refused by its length, not by waiting for 4 GiB */
	REFUSED(&b, "machine name", "4294967295");
	sb_hex(&b, "5145564d 00000003 07 00000003 'p' 00 'c'");
	REFUSED(&b, "machine name", "byte 1", "00");
	sb_hex(&b, "5145564d 00000003 07 00000003 'p c'");
	REFUSED(&b, "machine name", "byte 1", "20");
	sb_hex(&b, "5145564d 00000003 07 00000003 'pc' 7f");
	REFUSED(&b, "machine name", "byte 2", "7f");
}

static void each_subsection_comes_once(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_head(&b, "pc");
	sb_page_bits(&b, 12);
	sb_page_bits(&b, 12);
	REFUSED(&b, "target-page-bits", "twice");
	sb_head(&b, "pc");
	sb_caps(&b, "mapped-ram", NULL);
	sb_caps(&b, "x-ignore-shared", NULL);
	REFUSED(&b, "capabilities", "twice");
	sb_head(&b, "pc");
	for (int i = 0; i < 2; i++)
		sb_hex(&b, "05 12 'configuration/uuid' 00000001 00112233445566778899aabbccddeeff");
	REFUSED(&b, "UUID", "twice");
}

static void other_subsections_are_refused(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_head(&b, "pc");
	sb_subsection(&b, "configuration/nonsense", 1);
	REFUSED(&b, "configuration/nonsense");
	sb_head(&b, "pc");
	sb_hex(&b, "05 00 00000001");
	REFUSED(&b, "configuration", "name", "0 bytes");
	sb_head(&b, "pc");
	sb_hex(&b, "05 12 'configuration' 00 'uuid' 00000001 00112233445566778899aabbccddeeff");
	REFUSED(&b, "configuration", "name");
	sb_head(&b, "pc");
	sb_hex(&b, "05 ff");
	sb_fill(&b, 's', 255);
	sb_be32(&b, 1);
	REFUSED(&b, "unknown", "sssss");
	static const char *const names[] = {"configuration/target-page-bits", "configuration/capabilities", "configuration/uuid"};
	for (int i = 0; i < 3; i++)
		for (uint32_t version = 0; version <= 2; version += 2) {
			char got[16];
			snprintf(got, sizeof got, "version %u", version);
			sb_head(&b, "pc");
			sb_subsection(&b, names[i], version);
			sb_be32(&b, 12);
			REFUSED(&b, names[i], got, "expected 1");
		}
}

static void page_bits_are_8_to_20(void **state)
{
	(void)state;
	static const uint32_t good[] = {8, 12, 20}, bad[] = {0, 7, 21, 64, 0xffffffff};
	struct sb b = {0};
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		sb_head(&b, "virt");
		sb_page_bits(&b, good[i]);
		struct gw__config config = accept(&b);
		assert_int_equal(gw__config_page_bytes(&config), 1ull << good[i]);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		char got[16];
		snprintf(got, sizeof got, "%u", bad[i]);
		sb_head(&b, "virt");
		sb_page_bits(&b, bad[i]);
		REFUSED(&b, "target-page-bits", got, "8..20");
	}
}

static void put_caps(struct sb *b, uint32_t n)
{
	sb_head(b, "pc");
	sb_subsection(b, "configuration/capabilities", 1);
	sb_be32(b, n);
	for (uint32_t i = 0; i < n && i < 70; i++) {
		char name[16];
		snprintf(name, sizeof name, "cap-%u", i);
		sb_str8(b, name);
	}
}

static void at_most_64_capabilities(void **state)
{
	(void)state;
	struct sb b = {0};
	put_caps(&b, 64);
	struct gw__config config = accept(&b);
	assert_int_equal(config.caps_n, 64);
	put_caps(&b, 65);
	REFUSED(&b, "65 capabilities", "64");
	put_caps(&b, 0xffffffff);
	REFUSED(&b, "4294967295 capabilities", "64");
}

static void names_of_capabilities_are_checked(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_head(&b, "pc");
	sb_caps(&b, "xbzrle", "multifd"); /* not validated ones are read and ignored */
	struct gw__config config = accept(&b);
	assert_false(config.mapped_ram || config.ignore_shared);
	char longest[GW__CAP_NAME_MAX + 2] = "";
	memset(longest, 'n', GW__CAP_NAME_MAX);
	sb_head(&b, "pc");
	sb_caps(&b, longest, NULL);
	accept(&b);
	longest[GW__CAP_NAME_MAX] = 'n';
	sb_head(&b, "pc");
	sb_caps(&b, longest, NULL);
	REFUSED(&b, "capability 0", "64 bytes");
	sb_head(&b, "pc");
	sb_caps(&b, "mapped-ram", "");
	REFUSED(&b, "capability 1", "0 bytes");
	sb_head(&b, "pc");
	sb_hex(&b, "05 1a 'configuration/capabilities' 00000001 00000001 05 'xb' 00 'zr'");
	REFUSED(&b, "capability 0");
	sb_head(&b, "pc");
	sb_hex(&b, "05 1a 'configuration/capabilities' 00000001 00000001 ff");
	sb_fill(&b, 'c', 255);
	REFUSED(&b, "capability 0", "255 bytes");
	sb_head(&b, "pc");
	sb_caps(&b, "fixed-ram", NULL);
	REFUSED(&b, "fixed-ram", "mapped-ram");
}

static void capabilities_can_be_put_in_and_taken_out(void **state)
{
	(void)state;
	struct gw__config config = {.page_bits = 12};
	assert_int_equal(gw__config_add_cap(&config, "xbzrle"), 0);
	assert_int_equal(gw__config_add_cap(&config, "mapped-ram"), 0);
	assert_int_equal(gw__config_add_cap(&config, "x-ignore-shared"), 0);
	assert_int_equal(gw__config_add_cap(&config, "mapped-ram"), 0);
	assert_int_equal(config.caps_n, 3);
	assert_true(config.has_caps && config.mapped_ram && config.ignore_shared);
	gw__config_drop_cap(&config, "xbzrle");
	gw__config_drop_cap(&config, "mapped-ram");
	assert_int_equal(config.caps_n, 1);
	assert_string_equal(config.caps[0], "x-ignore-shared");
	assert_true(config.has_caps && !config.mapped_ram && config.ignore_shared);
	gw__config_drop_cap(&config, "x-ignore-shared");
	assert_false(config.has_caps || config.ignore_shared);

	char name[GW__CAP_NAME_MAX + 2];
	memset(name, 'n', sizeof name - 1);
	name[sizeof name - 1] = 0;
	assert_int_equal(gw__config_add_cap(&config, name), -ENOSPC);
	assert_int_equal(gw__config_add_cap(&config, name + 1), 0);
	for (int i = 1; i < GW__CAPS_MAX; i++) {
		snprintf(name, sizeof name, "cap-%d", i);
		assert_int_equal(gw__config_add_cap(&config, name), 0);
	}
	assert_int_equal(gw__config_add_cap(&config, "one-more"), -ENOSPC);
	assert_int_equal(config.caps_n, GW__CAPS_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_plain_capture),
		cmocka_unit_test(the_capture_with_capabilities),
		cmocka_unit_test(the_capture_with_a_uuid),
		cmocka_unit_test(all_subsections_at_once),
		cmocka_unit_test(a_prefix_is_short_and_nothing_else),
		cmocka_unit_test(only_magic_and_version_3_begin_a_stream),
		cmocka_unit_test(the_configuration_is_not_optional),
		cmocka_unit_test(machine_names_are_1_to_1024_bytes),
		cmocka_unit_test(each_subsection_comes_once),
		cmocka_unit_test(other_subsections_are_refused),
		cmocka_unit_test(page_bits_are_8_to_20),
		cmocka_unit_test(at_most_64_capabilities),
		cmocka_unit_test(names_of_capabilities_are_checked),
		cmocka_unit_test(capabilities_can_be_put_in_and_taken_out),
	};
	return cmocka_run_group_tests_name("header", tests, NULL, NULL);
}
