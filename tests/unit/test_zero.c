/* SPDX-License-Identifier: MIT */
/* Every variant of the zero check against a byte-by-byte model: all alignments, every place of a single bit.
 */
#include "unit.h"

#include <stdio.h>

#include "image/file/zero.h"

enum { LONGEST = 1024, ROOM = LONGEST + 2 * 64 };

static bool model(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

static void bytes_around_the_range_do_not_count(gw__is_zero_fn *fn, uint8_t *room)
{
	for (size_t n = 0; n <= LONGEST; n += 64)
		for (size_t align = 0; align < 64; align++) {
			memset(room, 0xff, ROOM);
			memset(room + align, 0, n);
			assert_true(fn(room + align, n));
		}
}

static void a_single_bit_is_found_wherever_it_is(gw__is_zero_fn *fn, uint8_t *room)
{
	memset(room, 0, ROOM);
	for (size_t n = 0; n <= LONGEST; n += 64)
		for (size_t align = 0; align < 64; align++)
			for (size_t at = 0; at < n + 2 * 64; at += at < 64 || at > n ? 1 : 7) {
				if (at >= ROOM)
					break;
				room[at] = (uint8_t)(1 << (at + n) % 8);
				if (align + n <= ROOM)
					assert_int_equal(fn(room + align, n), model(room + align, n));
				room[at] = 0;
			}
}

static void every_variant_agrees_with_the_model(void **state)
{
	(void)state;
	uint8_t *room = malloc(ROOM); /* exactly as long as may be read, for the address sanitizer */
	assert_non_null(room);
	unsigned n = 0;
	const char *name;
	for (gw__is_zero_fn *fn; (fn = gw__is_zero_variant(n, &name)); n++) {
		print_message("variant %s\n", name);
		bytes_around_the_range_do_not_count(fn, room);
		a_single_bit_is_found_wherever_it_is(fn, room);
	}
	assert_true(n >= 1);
	assert_string_equal(name, "portable");
	free(room);
}

static void a_page_of_the_last_byte_only(void **state)
{
	(void)state;
	static uint8_t page[4096];
	assert_true(gw__is_zero(page, sizeof page));
	page[4095] = 0x80;
	assert_false(gw__is_zero(page, sizeof page));
	assert_true(gw__is_zero(page, 4096 - 64));
	assert_true(gw__is_zero(page, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_variant_agrees_with_the_model),
		cmocka_unit_test(a_page_of_the_last_byte_only),
	};
	return cmocka_run_group_tests_name("zero", tests, NULL, NULL);
}
