/* SPDX-License-Identifier: MIT */
/* Bitmaps: every length around a word, the outside form, ranges against a bit-by-bit model. */
#include "unit.h"

#include "base/bitmap.h"

static void wire_form_is_little_endian_and_rounded_up_to_8_bytes(void **state)
{
	(void)state;
	struct gw__bitmap b;
	assert_int_equal(gw__bitmap_wire_bytes(0), 0);
	assert_int_equal(gw__bitmap_wire_bytes(1), 8);
	assert_int_equal(gw__bitmap_wire_bytes(64), 8);
	assert_int_equal(gw__bitmap_wire_bytes(65), 16);
	assert_int_equal(gw__bitmap_init(&b, 70), 0);
	gw__bitmap_set(&b, 0);
	gw__bitmap_set(&b, 6);
	gw__bitmap_set(&b, 69);
	uint8_t out[16];
	gw__bitmap_wire_put(&b, 0, out, 16);
	const uint8_t want[16] = {0x41, 0, 0, 0, 0, 0, 0, 0, 0x20};
	assert_memory_equal(out, want, 16);
	gw__bitmap_fini(&b);
	gw__bitmap_fini(&b);
}

static void bits_behind_the_last_page_are_reported_and_not_kept(void **state)
{
	(void)state;
	for (uint64_t bits = 1; bits <= 130; bits++) {
		struct gw__bitmap b;
		assert_int_equal(gw__bitmap_init(&b, bits), 0);
		uint8_t all[24];
		memset(all, 0xff, sizeof all);
		size_t n = gw__bitmap_wire_bytes(bits);
		assert_int_equal(gw__bitmap_wire_get(&b, 0, all, n), bits % 64 == 0);
		assert_int_equal(gw__bitmap_count(&b), bits);
		assert_int_equal(gw__bitmap_next_clear(&b, 0), bits);
		gw__bitmap_invert(&b);
		assert_int_equal(gw__bitmap_count(&b), 0);
		assert_int_equal(gw__bitmap_next_set(&b, 0), bits);
		gw__bitmap_fini(&b);
	}
}

static void ranges_agree_with_single_bits(void **state)
{
	(void)state;
	enum { BITS = 200 };
	for (uint64_t first = 0; first < BITS; first += 7)
		for (uint64_t n = 0; first + n <= BITS; n += 3) {
			struct gw__bitmap b;
			assert_int_equal(gw__bitmap_init(&b, BITS), 0);
			gw__bitmap_set_range(&b, first, n);
			for (uint64_t i = 0; i < BITS; i++)
				assert_int_equal(gw__bitmap_test(&b, i), i >= first && i < first + n);
			assert_int_equal(gw__bitmap_next_set(&b, 0), n ? first : BITS);
			assert_int_equal(gw__bitmap_count_range(&b, first, n), n);
			assert_int_equal(gw__bitmap_count_range(&b, 0, first), 0);
			assert_int_equal(gw__bitmap_count_range(&b, first / 2, BITS - first / 2), n);
			assert_int_equal(gw__bitmap_count_range(&b, first + n / 2, BITS - first - n / 2), n - n / 2);
			gw__bitmap_invert(&b);
			gw__bitmap_set_range(&b, 0, BITS);
			gw__bitmap_clear_range(&b, first, n);
			assert_int_equal(gw__bitmap_count(&b), BITS - n);
			assert_int_equal(gw__bitmap_next_clear(&b, 0), n ? first : BITS);
			gw__bitmap_fini(&b);
		}
}

/* Every range around words, against the unbounded answer. */
static void a_bounded_look_ends_where_it_is_told(void **state)
{
	(void)state;
	struct gw__bitmap b;
	assert_int_equal(gw__bitmap_init(&b, 200), 0);
	for (uint64_t i = 0; i < 200; i++)
		if (i % 71 == 3 || (i > 100 && i < 180))
			gw__bitmap_set(&b, i);
	for (uint64_t from = 0; from < 210; from++)
		for (uint64_t end = from; end < 270; end++) {
			uint64_t set = gw__bitmap_next_set(&b, from), clear = gw__bitmap_next_clear(&b, from), most = end < 200 ? end : 200;
			assert_int_equal(gw__bitmap_next_set_before(&b, from, end), set < most ? set : most);
			assert_int_equal(gw__bitmap_next_clear_before(&b, from, end), clear < most ? clear : most);
		}
	gw__bitmap_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wire_form_is_little_endian_and_rounded_up_to_8_bytes),
		cmocka_unit_test(bits_behind_the_last_page_are_reported_and_not_kept),
		cmocka_unit_test(ranges_agree_with_single_bits),
		cmocka_unit_test(a_bounded_look_ends_where_it_is_told),
	};
	return cmocka_run_group_tests_name("bitmap", tests, NULL, NULL);
}
