/* SPDX-License-Identifier: MIT */
/* XBZRLE: the example of the spec, every rule of stream.md 7.4 broken once, and deltas that cannot be said.
 */
#include "unit.h"

#include <errno.h>

#include "wire/xbzrle.h"

enum { PAGE = 4096, BIG_PAGE = 65536 };

static uint8_t page[PAGE];

/* Decodes onto a page of 0xaa. */
static int decode(const uint8_t *delta, size_t n, struct gw__error *error)
{
	memset(page, 0xaa, sizeof page);
	*error = (struct gw__error){0};
	return gw__xbzrle_decode(delta, n, page, sizeof page, error);
}

#define REFUSED(at, sentence, ...)                                                                                                         \
	do {                                                                                                                               \
		const uint8_t delta_[] = {__VA_ARGS__};                                                                                    \
		struct gw__error why_;                                                                                                     \
		assert_int_equal(decode(delta_, sizeof delta_, &why_), -EPROTO);                                                           \
		assert_int_equal(why_.code, -EPROTO);                                                                                      \
		assert_non_null(strstr(why_.text, "byte " #at " of "));                                                                    \
		assert_non_null(strstr(why_.text, sentence));                                                                              \
	} while (0)

static void the_example_of_the_spec_is_read(void **state)
{
	(void)state;
	const uint8_t delta[] = {0x00, 0x02, 0x48, 0x81, 0x96, 0x12, 0x01, 0x85};
	struct gw__error error;
	assert_int_equal(decode(delta, sizeof delta, &error), 0);
	uint8_t want[PAGE];
	memset(want, 0xaa, sizeof want);
	want[0] = 0x48;
	want[1] = 0x81;
	want[2328] = 0x85;
	assert_memory_equal(page, want, PAGE);
}

static void the_example_of_the_spec_is_written(void **state)
{
	(void)state;
	uint8_t old[PAGE] = {0}, new[PAGE] = {0}, delta[PAGE];
	new[0] = 0x48;
	new[1] = 0x81;
	new[2328] = 0x85;
	const uint8_t want[] = {0x00, 0x02, 0x48, 0x81, 0x96, 0x12, 0x01, 0x85};
	assert_int_equal(gw__xbzrle_encode(old, new, PAGE, delta, sizeof delta), sizeof want);
	assert_memory_equal(delta, want, sizeof want);
}

static void an_empty_delta_changes_nothing(void **state)
{
	(void)state;
	uint8_t none[1] = {0};
	struct gw__error error;
	assert_int_equal(decode(none, 0, &error), 0);
	for (size_t i = 0; i < PAGE; i++)
		assert_int_equal(page[i], 0xaa);
}

static void equal_pages_need_no_bytes(void **state)
{
	(void)state;
	uint8_t old[PAGE] = {1, 2, 3}, delta[1];
	assert_int_equal(gw__xbzrle_encode(old, old, PAGE, delta, sizeof delta), 0);
	assert_int_equal(gw__xbzrle_encode(old, old, PAGE, delta, 0), 0);
}

static void a_first_unchanged_run_may_be_empty_and_no_other(void **state)
{
	(void)state;
	const uint8_t first[] = {0, 1, 7};
	struct gw__error error;
	assert_int_equal(decode(first, sizeof first, &error), 0);
	assert_int_equal(page[0], 7);
	REFUSED(3, "an unchanged run of 0 bytes", 0, 1, 7, 0, 1, 8);
	REFUSED(3, "an unchanged run of 0 bytes", 0, 1, 7, 0x80, 0x00, 1, 8);
}

static void an_empty_changed_run_is_refused(void **state)
{
	(void)state;
	REFUSED(1, "a changed run of 0 bytes", 5, 0);
	REFUSED(1, "a changed run of 0 bytes", 5, 0, 1, 1, 1);
	REFUSED(1, "a changed run of 0 bytes", 5, 0x80, 0x00);
}

static void a_third_length_byte_is_refused(void **state)
{
	(void)state;
	REFUSED(0, "a third byte", 0x80, 0x80, 0x00, 1, 1);
	REFUSED(1, "a third byte", 0, 0xff, 0xff, 0x01);
}

static void a_length_cut_in_two_is_refused(void **state)
{
	(void)state;
	REFUSED(0, "ends inside a length", 0x80);
	REFUSED(1, "ends inside a length", 3, 0x81);
}

static void an_unchanged_run_past_the_page_is_refused(void **state)
{
	(void)state;
	/* 4096 = 0x80 0x20 is the page's end, where only an empty changed run could follow; 4097 is past it.
	 */
	REFUSED(2, "a changed run goes past the end of the page", 0x80, 0x20, 1, 9);
	REFUSED(0, "an unchanged run goes past the end of the page", 0x81, 0x20, 1, 9);
	REFUSED(3, "an unchanged run goes past the end of the page", 1, 1, 9, 0xff, 0x1f, 1, 9);
}

static void a_changed_run_past_the_page_is_refused(void **state)
{
	(void)state;
	const uint8_t last[] = {0xff, 0x1f, 1, 9}; /* 4095, then the last byte */
	struct gw__error error;
	assert_int_equal(decode(last, sizeof last, &error), 0);
	assert_int_equal(page[PAGE - 1], 9);
	REFUSED(2, "a changed run goes past the end of the page", 0xff, 0x1f, 2, 9, 9);
}

static void a_changed_run_past_the_delta_is_refused(void **state)
{
	(void)state;
	REFUSED(1, "a changed run goes past the end of the delta", 0, 3, 1, 2);
}

static void an_unchanged_run_with_nothing_behind_it_is_refused(void **state)
{
	(void)state;
	REFUSED(1, "nothing after it", 5);
	REFUSED(4, "nothing after it", 0, 1, 9, 5);
}

static void a_delta_longer_than_its_page_is_refused(void **state)
{
	(void)state;
	uint8_t delta[PAGE + 1] = {0};
	struct gw__error error;
	assert_int_equal(decode(delta, sizeof delta, &error), -EPROTO);
	assert_non_null(strstr(error.text, "4097"));
}

static void a_delta_that_does_not_fit_is_not_made(void **state)
{
	(void)state;
	uint8_t old[PAGE] = {0}, new[PAGE] = {0}, delta[8];
	memset(new + 10, 1, 4);
	memset(delta, 0xee, sizeof delta);
	assert_int_equal(gw__xbzrle_encode(old, new, PAGE, delta, 6), 6);
	for (size_t room = 0; room < 6; room++) {
		memset(delta, 0xee, sizeof delta);
		assert_int_equal(gw__xbzrle_encode(old, new, PAGE, delta, room), -1);
		for (size_t i = room; i < sizeof delta; i++)
			assert_int_equal(delta[i], 0xee);
	}
}

/* Each changed byte costs three: the delta would be longer than the page, which no record may say. */
static void a_delta_longer_than_its_page_is_not_made(void **state)
{
	(void)state;
	uint8_t old[PAGE] = {0}, new[PAGE] = {0}, delta[3 * PAGE];
	for (size_t i = 0; i < PAGE; i += 2)
		new[i] = 1;
	assert_int_equal(gw__xbzrle_encode(old, new, PAGE, delta, sizeof delta), -1);
}

static void runs_longer_than_two_length_bytes_are_not_made(void **state)
{
	(void)state;
	static uint8_t old[BIG_PAGE], new[BIG_PAGE], delta[BIG_PAGE], got[BIG_PAGE];
	new[GW__XBZRLE_RUN_MAX] = 1;
	int n = gw__xbzrle_encode(old, new, BIG_PAGE, delta, sizeof delta);
	assert_int_equal(n, 4);
	assert_int_equal(gw__xbzrle_decode(delta, 4, got, BIG_PAGE, NULL), 0);
	assert_memory_equal(got, new, BIG_PAGE);

	new[GW__XBZRLE_RUN_MAX] = 0;
	new[GW__XBZRLE_RUN_MAX + 1] = 1;
	assert_int_equal(gw__xbzrle_encode(old, new, BIG_PAGE, delta, sizeof delta), -1);

	memset(new, 1, GW__XBZRLE_RUN_MAX + 1);
	new[GW__XBZRLE_RUN_MAX + 1] = 0;
	assert_int_equal(gw__xbzrle_encode(old, new, BIG_PAGE, delta, sizeof delta), -1);
	new[GW__XBZRLE_RUN_MAX] = 0;
	assert_int_equal(gw__xbzrle_encode(old, new, BIG_PAGE, delta, sizeof delta), 3 + GW__XBZRLE_RUN_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_example_of_the_spec_is_read),
		cmocka_unit_test(the_example_of_the_spec_is_written),
		cmocka_unit_test(an_empty_delta_changes_nothing),
		cmocka_unit_test(equal_pages_need_no_bytes),
		cmocka_unit_test(a_first_unchanged_run_may_be_empty_and_no_other),
		cmocka_unit_test(an_empty_changed_run_is_refused),
		cmocka_unit_test(a_third_length_byte_is_refused),
		cmocka_unit_test(a_length_cut_in_two_is_refused),
		cmocka_unit_test(an_unchanged_run_past_the_page_is_refused),
		cmocka_unit_test(a_changed_run_past_the_page_is_refused),
		cmocka_unit_test(a_changed_run_past_the_delta_is_refused),
		cmocka_unit_test(an_unchanged_run_with_nothing_behind_it_is_refused),
		cmocka_unit_test(a_delta_longer_than_its_page_is_refused),
		cmocka_unit_test(a_delta_that_does_not_fit_is_not_made),
		cmocka_unit_test(a_delta_longer_than_its_page_is_not_made),
		cmocka_unit_test(runs_longer_than_two_length_bytes_are_not_made),
	};
	return cmocka_run_group_tests_name("xbzrle", tests, NULL, NULL);
}
