/* SPDX-License-Identifier: MIT */
/* Section headers, footers and commands: the captures of stream.md 12 both ways, and the rules of stream.md
 * 4, 5. */
#include "error_text.h"

#include <errno.h>

#include "stream_builder.h"
#include "wire/framing.h"

#define REFUSED_SECTION(b, ...)                                                                                                            \
	do {                                                                                                                               \
		struct gw__error why_ = {0};                                                                                               \
		struct gw__section s_;                                                                                                     \
		struct gw__rd c_ = gw__rd_over((b)->p, (b)->n);                                                                            \
		assert_int_equal(gw__section_decode(&c_, &s_, &why_), -EPROTO);                                                            \
		assert_says(&why_, -EPROTO, __VA_ARGS__);                                                                                  \
		sb_fini(b);                                                                                                                \
	} while (0)

static struct gw__section section_both_ways(const char *hex)
{
	struct sb b = {0};
	sb_hex(&b, hex);
	struct gw__section s;
	for (size_t n = 0; n < b.n; n++) {
		struct gw__rd cut = gw__rd_over(b.p, n);
		assert_int_equal(gw__section_decode(&cut, &s, NULL), GW__SHORT);
	}
	struct gw__rd c = gw__rd_over(b.p, b.n);
	assert_int_equal(gw__section_decode(&c, &s, NULL), 0);
	assert_int_equal(gw__rd_left(&c), 0);
	uint8_t again[512];
	struct gw__wr w = gw__wr_over(again, sizeof again);
	gw__section_encode(&w, &s);
	assert_int_equal(gw__wr_used(&w), b.n);
	assert_memory_equal(again, b.p, b.n);
	sb_fini(&b);
	return s;
}

static void captured_section_headers(void **state)
{
	(void)state;
	struct gw__section s = section_both_ways("01 00000001 03 72616d 00000000 00000004");
	assert_int_equal(s.type, GW__ITEM_START);
	assert_int_equal(s.id, 1);
	assert_string_equal(s.idstr, "ram");
	assert_int_equal(s.instance, 0);
	assert_int_equal(s.version, 4);

	s = section_both_ways("02 00000001");
	assert_int_equal(s.type, GW__ITEM_PART);
	assert_int_equal(s.id, 1);
	assert_string_equal(s.idstr, "");
	s = section_both_ways("03 00000001");
	assert_int_equal(s.type, GW__ITEM_END);

	s = section_both_ways("04 00000006 04 61706963 00000000 00000003");
	assert_int_equal(s.type, GW__ITEM_FULL);
	assert_int_equal(s.id, 6);
	assert_string_equal(s.idstr, "apic");
	assert_int_equal(s.version, 3);
	s = section_both_ways("04 00000028 0b 676c6f62616c7374617465 00000000 00000001");
	assert_string_equal(s.idstr, "globalstate");
}

static void numbers_are_unsigned_32_bit(void **state)
{
	(void)state;
	struct gw__section s = section_both_ways("04 ffffffff 01 'x' fffffffe 80000000");
	assert_int_equal(s.id, UINT32_C(0xffffffff));
	assert_int_equal(s.instance, UINT32_C(0xfffffffe));
	assert_int_equal(s.version, UINT32_C(0x80000000));
}

static void names_of_sections(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_hex(&b, "04 00000007 ff");
	sb_fill(&b, 'x', 255);
	sb_hex(&b, "00000000 00000001");
	struct gw__section s;
	struct gw__rd c = gw__rd_over(b.p, b.n);
	assert_int_equal(gw__section_decode(&c, &s, NULL), 0);
	assert_int_equal(strlen(s.idstr), 255);
	sb_fini(&b);

	sb_hex(&b, "04 00000007 00 00000000 00000001");
	REFUSED_SECTION(&b, "section 7", "0 bytes", "1..255");
	sb_hex(&b, "01 00000008 03 'a' 00 'b' 00000000 00000001");
	REFUSED_SECTION(&b, "section 8", "3 bytes");
}

static void footers(void **state)
{
	(void)state;
	uint8_t bytes[8];
	struct gw__wr w = gw__wr_over(bytes, sizeof bytes);
	gw__footer_encode(&w, 0x28);
	static const uint8_t want[] = {0x7e, 0, 0, 0, 0x28};
	assert_int_equal(gw__wr_used(&w), sizeof want);
	assert_memory_equal(bytes, want, sizeof want);

	struct gw__error error = {0};
	for (size_t n = 0; n < sizeof want; n++) {
		struct gw__rd cut = gw__rd_over(bytes, n);
		assert_int_equal(gw__footer_decode(&cut, 0x28, &error), GW__SHORT);
	}
	struct gw__rd c = gw__rd_over(bytes, sizeof want);
	assert_int_equal(gw__footer_decode(&c, 0x28, &error), 0);
	assert_int_equal(gw__rd_left(&c), 0);

	c = gw__rd_over(bytes, sizeof want);
	assert_int_equal(gw__footer_decode(&c, 0x29, &error), -EPROTO);
	assert_says(&error, -EPROTO, "section 40", "expected section 41");
	error = (struct gw__error){0};
	bytes[0] = 0x7f;
	c = gw__rd_over(bytes, 1); /* a wrong byte is known at once */
	assert_int_equal(gw__footer_decode(&c, 0x28, &error), -EPROTO);
	assert_says(&error, -EPROTO, "footer", "7e", "section 40", "got byte 7f");
}

static struct gw__command command_both_ways(const char *hex)
{
	static uint8_t kept[64]; /* the payload is lent */
	struct sb b = {0};
	sb_hex(&b, hex);
	memcpy(kept, b.p, b.n);
	struct gw__command cmd;
	for (size_t n = 0; n < b.n; n++) {
		struct gw__rd cut = gw__rd_over(kept, n);
		assert_int_equal(gw__command_decode(&cut, &cmd, NULL), GW__SHORT);
	}
	struct gw__rd c = gw__rd_over(kept, b.n);
	assert_int_equal(gw__command_decode(&c, &cmd, NULL), 0);
	assert_int_equal(gw__rd_left(&c), 0);
	uint8_t again[64];
	struct gw__wr w = gw__wr_over(again, sizeof again);
	gw__command_encode(&w, cmd.number, cmd.payload, cmd.length);
	assert_int_equal(gw__wr_used(&w), b.n);
	assert_memory_equal(again, kept, b.n);
	sb_fini(&b);
	return cmd;
}

static void captured_commands(void **state)
{
	(void)state;
	struct gw__command cmd = command_both_ways("08 0001 0000");
	assert_int_equal(cmd.number, GW__CMD_OPEN_RETURN_PATH);
	cmd = command_both_ways("08 0002 0004 00000001");
	assert_int_equal(cmd.number, GW__CMD_PING);
	assert_int_equal(cmd.ping_token, 1);
	cmd = command_both_ways("08 0003 0010 0000000000201000 0000000000001000");
	assert_int_equal(cmd.number, GW__CMD_POSTCOPY_ADVISE);
	assert_int_equal(cmd.page_summary, 0x201000);
	assert_int_equal(cmd.target_page_bytes, 0x1000);
	cmd = command_both_ways("08 0003 0000");
	assert_int_equal(cmd.page_summary, 0);
	cmd = command_both_ways("08 000b 0000");
	assert_int_equal(cmd.number, GW__CMD_SWITCHOVER_START);
}

/* The table of stream.md 5. -1: any length. ADVISE may also be empty. */
static const struct {
	const char *name;
	int length;
} COMMANDS[] = {{"?", 0}, {"OPEN_RETURN_PATH", 0}, {"PING", 4}, {"POSTCOPY_ADVISE", 16}, {"POSTCOPY_LISTEN", 0}, {"POSTCOPY_RUN", 0},
	{"POSTCOPY_RAM_DISCARD", -1}, {"PACKAGED", 4}, {"ENABLE_COLO", 0}, {"POSTCOPY_RESUME", 0}, {"RECV_BITMAP", -1},
	{"SWITCHOVER_START", 0}};

static void every_command_has_its_length(void **state)
{
	(void)state;
	for (uint16_t number = 1; number <= 11; number++) {
		assert_string_equal(gw__command_name(number), COMMANDS[number].name);
		for (uint16_t length = 0; length <= 40; length++) {
			uint8_t bytes[64] = {0x08, 0, (uint8_t)number, 0, (uint8_t)length};
			struct gw__rd c = gw__rd_over(bytes, sizeof bytes);
			struct gw__command cmd;
			struct gw__error error = {0};
			int want = COMMANDS[number].length;
			bool good = want == -1 || length == want || (number == 3 && length == 0);
			assert_int_equal(gw__command_decode(&c, &cmd, &error), good ? 0 : -EPROTO);
			char got[16], expected[16];
			snprintf(got, sizeof got, "has %u bytes", length);
			snprintf(expected, sizeof expected, "expected %d", want);
			if (!good)
				assert_says(&error, -EPROTO, COMMANDS[number].name, got, expected);
			else
				assert_int_equal(gw__rd_used(&c), 5 + length);
		}
	}
}

static void other_numbers_are_refused(void **state)
{
	(void)state;
	static const uint16_t numbers[] = {0, 12, 255, 0x0100, 0xffff};
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		uint8_t bytes[] = {0x08, (uint8_t)(numbers[i] >> 8), (uint8_t)numbers[i], 0, 0};
		struct gw__rd c = gw__rd_over(bytes, sizeof bytes);
		struct gw__command cmd;
		struct gw__error error = {0};
		char got[16];
		snprintf(got, sizeof got, "command %u", numbers[i]);
		assert_int_equal(gw__command_decode(&c, &cmd, &error), -EPROTO);
		assert_says(&error, -EPROTO, got, "1..11");
		assert_string_equal(gw__command_name(numbers[i]), "?");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(captured_section_headers),
		cmocka_unit_test(numbers_are_unsigned_32_bit),
		cmocka_unit_test(names_of_sections),
		cmocka_unit_test(footers),
		cmocka_unit_test(captured_commands),
		cmocka_unit_test(every_command_has_its_length),
		cmocka_unit_test(other_numbers_are_refused),
	};
	return cmocka_run_group_tests_name("item", tests, NULL, NULL);
}
