/* SPDX-License-Identifier: MIT */
/* Cursors: sticky failure, no write beyond the end; the first sentence wins. */
#include "unit.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/error.h"

static void a_read_past_the_end_sticks(void **state)
{
	(void)state;
	const uint8_t in[] = {1, 2, 3, 4, 5};
	struct gw__rd c = gw__rd_over(in, sizeof in);
	assert_int_equal(gw__rd_be32(&c), 0x01020304);
	assert_false(c.cut);
	assert_int_equal(gw__rd_be16(&c), 0);
	assert_true(c.cut);
	assert_int_equal(gw__rd_u8(&c), 0);
	assert_true(c.cut);
}

static void a_write_that_does_not_fit_writes_nothing(void **state)
{
	(void)state;
	uint8_t out[8] = {0};
	struct gw__wr c = gw__wr_over(out, 5);
	gw__wr_be32(&c, 0xa1b2c3d4);
	gw__wr_be16(&c, 0xffff);
	gw__wr_u8(&c, 0xee);
	assert_true(c.full);
	assert_int_equal(gw__wr_used(&c), 4);
	const uint8_t want[8] = {0xa1, 0xb2, 0xc3, 0xd4, 0, 0, 0, 0};
	assert_memory_equal(out, want, 8);
}

static void names_are_judged(void **state)
{
	(void)state;
	assert_true(gw__name_ok("/rom@etc/acpi/tables", 20));
	assert_false(gw__name_ok("", 0));
	assert_false(gw__name_ok("a\0b", 3));
	assert_false(gw__name_ok("a\nb", 3));
}

static void the_first_sentence_wins(void **state)
{
	(void)state;
	struct gw__error error = {0};
	assert_int_equal(gw__error_set(&error, -EPROTO, "page %d", 7), -EPROTO);
	assert_int_equal(gw__error_errno(&error, EIO, "later"), -EIO);
	assert_int_equal(error.code, -EPROTO);
	assert_string_equal(error.text, "page 7");
	gw__error_where(&error, "block %s", "m0");
	assert_string_equal(error.text, "block m0: page 7");
	assert_int_equal(gw__error_set(NULL, -EIO, "nobody listens"), -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_read_past_the_end_sticks),
		cmocka_unit_test(a_write_that_does_not_fit_writes_nothing),
		cmocka_unit_test(names_are_judged),
		cmocka_unit_test(the_first_sentence_wins),
	};
	return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}
