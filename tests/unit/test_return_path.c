/* SPDX-License-Identifier: MIT */
/* The return path: messages captured from a real destination, and every rule of postcopy.md 1.2 broken once.
 */
#include "unit.h"

#include <errno.h>

#include "wire/return_path.h"

static int decode(const uint8_t *bytes, size_t n, struct gw__rp_msg *m, struct gw__error *error)
{
	struct gw__rd c = gw__rd_over(bytes, n);
	*error = (struct gw__error){0};
	int r = gw__rp_decode(&c, m, error);
	if (r == 0)
		assert_int_equal(gw__rd_used(&c), n);
	return r;
}

/* Read, compared by the caller; written again it must be the same bytes; cut anywhere it must ask for more.
 */
static struct gw__rp_msg message(const uint8_t *bytes, size_t n)
{
	struct gw__rp_msg m, part;
	struct gw__error error;
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(decode(bytes, cut, &part, &error), GW__SHORT);
	assert_int_equal(decode(bytes, n, &m, &error), 0);

	uint8_t out[GW__RP_MAX_BYTES];
	struct gw__wr c = gw__wr_over(out, sizeof out);
	gw__rp_encode(&c, &m);
	assert_false(c.full);
	assert_int_equal(gw__wr_used(&c), n);
	assert_memory_equal(out, bytes, n);
	return m;
}

#define MESSAGE(...) message((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

#define REFUSED(sentence, ...)                                                                                                             \
	do {                                                                                                                               \
		const uint8_t bytes_[] = {__VA_ARGS__};                                                                                    \
		struct gw__rp_msg m_;                                                                                                      \
		struct gw__error why_;                                                                                                     \
		assert_int_equal(decode(bytes_, sizeof bytes_, &m_, &why_), -EPROTO);                                                      \
		assert_int_equal(why_.code, -EPROTO);                                                                                      \
		assert_non_null(strstr(why_.text, sentence));                                                                              \
	} while (0)

static void numbers_travel_in_shut_pong_and_resume_ack(void **state)
{
	(void)state;
	struct gw__rp_msg m = MESSAGE(0, 1, 0, 4, 0, 0, 0, 0);
	assert_int_equal(m.type, GW__RP_SHUT);
	assert_int_equal(m.value, 0);
	m = MESSAGE(0, 2, 0, 4, 0, 0, 0, 0x42);
	assert_int_equal(m.type, GW__RP_PONG);
	assert_int_equal(m.value, 0x42);
	m = MESSAGE(0, 6, 0, 4, 0, 0, 0, 1);
	assert_int_equal(m.type, GW__RP_RESUME_ACK);
	assert_int_equal(m.value, 1);
}

static void a_page_request_names_its_block(void **state)
{
	(void)state;
	struct gw__rp_msg m = MESSAGE(0, 3, 0, 0x11, 0, 0, 0, 0, 0, 0x0c, 0, 0, 0, 0, 0x10, 0, 4, 'm', 'e', 'm', '0');
	assert_int_equal(m.type, GW__RP_REQ_PAGES_ID);
	assert_int_equal(m.start_off, 0xc0000);
	assert_int_equal(m.length_bytes, 0x1000);
	assert_string_equal(m.block, "mem0");
}

static void a_page_request_in_the_same_block_is_shorter(void **state)
{
	(void)state;
	struct gw__rp_msg m = MESSAGE(0, 4, 0, 0x0c, 0, 0, 0, 0, 2, 0x94, 0xe0, 0, 0, 0, 0x10, 0);
	assert_int_equal(m.type, GW__RP_REQ_PAGES);
	assert_int_equal(m.start_off, 0x294e000);
	assert_int_equal(m.length_bytes, 0x1000);
	assert_string_equal(m.block, "");
}

static void the_bitmap_behind_recv_bitmap_is_not_part_of_it(void **state)
{
	(void)state;
	struct gw__rp_msg m = MESSAGE(0, 5, 0, 5, 4, 'm', 'e', 'm', '0');
	assert_int_equal(m.type, GW__RP_RECV_BITMAP);
	assert_string_equal(m.block, "mem0");

	const uint8_t more[] = {0, 5, 0, 2, 1, 'm', 0xde, 0xad};
	struct gw__rd c = gw__rd_over(more, sizeof more);
	assert_int_equal(gw__rp_decode(&c, &m, NULL), 0);
	assert_int_equal(gw__rd_used(&c), 6);
}

static void a_switchover_ack_is_empty(void **state)
{
	(void)state;
	struct gw__rp_msg m = MESSAGE(0, 7, 0, 0);
	assert_int_equal(m.type, GW__RP_SWITCHOVER_ACK);
}

static void the_longest_name_fits(void **state)
{
	(void)state;
	uint8_t bytes[4 + 13 + 255] = {0, 3, 1, 13 + 255 - 256};
	bytes[16] = 255;
	memset(bytes + 17, 'x', 255);
	struct gw__rp_msg m = message(bytes, sizeof bytes);
	assert_int_equal(strlen(m.block), 255);
}

static void types_outside_1_to_7_are_refused(void **state)
{
	(void)state;
	REFUSED("got 0", 0, 0, 0, 4, 0, 0, 0, 0);
	REFUSED("got 8", 0, 8, 0, 0);
	REFUSED("got 65535", 0xff, 0xff, 0, 0);
	REFUSED("got 257", 1, 1, 0, 4, 0, 0, 0, 0);
}

static void fixed_lengths_are_exact(void **state)
{
	(void)state;
	static const struct {
		uint8_t type, length;
		const char *name;
	} fixed[] = {
		{GW__RP_SHUT, 4, "SHUT"},
		{GW__RP_PONG, 4, "PONG"},
		{GW__RP_REQ_PAGES, 12, "REQ_PAGES"},
		{GW__RP_RESUME_ACK, 4, "RESUME_ACK"},
		{GW__RP_SWITCHOVER_ACK, 0, "SWITCHOVER_ACK"},
	};
	for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
		for (unsigned length = 0; length < 40; length++) {
			uint8_t bytes[4 + 40] = {0, fixed[i].type, 0, (uint8_t)length};
			struct gw__rp_msg m;
			struct gw__error error;
			int want = length == fixed[i].length ? 0 : -EPROTO;
			assert_int_equal(decode(bytes, 4 + length, &m, &error), want);
			if (want)
				assert_non_null(strstr(error.text, fixed[i].name));
		}
		assert_string_equal(gw__rp_name(fixed[i].type), fixed[i].name);
	}
	assert_string_equal(gw__rp_name(0), "?");
	assert_string_equal(gw__rp_name(8), "?");
}

/* A wrong length is known from the first four bytes: nobody should wait for 65535 bytes that may never come.
 */
static void a_wrong_length_is_refused_before_its_payload(void **state)
{
	(void)state;
	REFUSED("65535", 0, 1, 0xff, 0xff);
	REFUSED("513", 0, 3, 0x02, 0x01);
	REFUSED("269", 0, 3, 0x01, 0x0d);
	REFUSED("257", 0, 5, 0x01, 0x01);
}

static void a_name_fills_its_message_exactly(void **state)
{
	(void)state;
	REFUSED("a block name of 3 bytes in a space of 4", 0, 5, 0, 5, 3, 'm', 'e', 'm', '0');
	REFUSED("a block name of 5 bytes in a space of 4", 0, 5, 0, 5, 5, 'm', 'e', 'm', '0');
	REFUSED("a block name of 1 bytes in a space of 2", 0, 3, 0, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 1, 'm', '0');
	REFUSED("a block name of 255 bytes in a space of 1", 0, 3, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 255, 'm');
}

static void an_empty_name_is_refused(void **state)
{
	(void)state;
	REFUSED("expected a length of 2 to 256 bytes, got 1", 0, 5, 0, 1, 0);
	REFUSED("expected a length of 14 to 268 bytes, got 13", 0, 3, 0, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0);
}

static void a_name_with_a_control_character_is_refused(void **state)
{
	(void)state;
	REFUSED("control character", 0, 5, 0, 3, 2, 'm', 0);
	REFUSED("control character", 0, 5, 0, 3, 2, '\n', 'm');
	REFUSED("control character", 0, 3, 0, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 1, 0x1b);
}

static void a_message_without_room_is_not_written(void **state)
{
	(void)state;
	uint8_t out[7];
	struct gw__wr c = gw__wr_over(out, sizeof out);
	gw__rp_encode(&c, &(struct gw__rp_msg){.type = GW__RP_PONG, .value = 1});
	assert_true(c.full);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_travel_in_shut_pong_and_resume_ack),
		cmocka_unit_test(a_page_request_names_its_block),
		cmocka_unit_test(a_page_request_in_the_same_block_is_shorter),
		cmocka_unit_test(the_bitmap_behind_recv_bitmap_is_not_part_of_it),
		cmocka_unit_test(a_switchover_ack_is_empty),
		cmocka_unit_test(the_longest_name_fits),
		cmocka_unit_test(types_outside_1_to_7_are_refused),
		cmocka_unit_test(fixed_lengths_are_exact),
		cmocka_unit_test(a_wrong_length_is_refused_before_its_payload),
		cmocka_unit_test(a_name_fills_its_message_exactly),
		cmocka_unit_test(an_empty_name_is_refused),
		cmocka_unit_test(a_name_with_a_control_character_is_refused),
		cmocka_unit_test(a_message_without_room_is_not_written),
	};
	return cmocka_run_group_tests_name("retpath", tests, NULL, NULL);
}
