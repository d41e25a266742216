/* SPDX-License-Identifier: MIT */
/* Histograms: percentiles are right to an eighth wherever the values are, and the ends of the range are safe. */
#include "unit.h"

#include "base/histogram.h"

static void without_values_there_is_nothing(void **state)
{
	struct gw__histogram h = {0};
	assert_int_equal(gw__histogram_quantile(&h, 500), 0);
	assert_int_equal(gw__histogram_quantile(&h, 1000), 0);
}

static void small_values_are_exact(void **state)
{
	struct gw__histogram h = {0};
	for (unsigned i = 0; i < 8; i++)
		gw__histogram_add(&h, i);
	assert_int_equal(gw__histogram_quantile(&h, 0), 0);
	assert_int_equal(gw__histogram_quantile(&h, 125), 0);
	assert_int_equal(gw__histogram_quantile(&h, 126), 1);
	assert_int_equal(gw__histogram_quantile(&h, 500), 3);
	assert_int_equal(gw__histogram_quantile(&h, 1000), 7);
}

/* 1..n times a unit, for units of all sizes. */
static void percentiles_are_right_to_an_eighth(void **state)
{
	for (uint64_t unit = 1; unit < UINT64_C(1) << 28; unit = unit * 7 + 3) {
		struct gw__histogram h = {0};
		for (unsigned i = 1; i <= 4000; i++)
			gw__histogram_add(&h, i * unit);
		for (unsigned m = 1; m <= 1000; m += 37) {
			uint64_t right = 4 * m * unit, got = gw__histogram_quantile(&h, m);
			assert_true(got >= right);
			assert_true(got <= right + right / 8);
		}
		assert_int_equal(h.max, 4000 * unit);
		assert_int_equal(gw__histogram_quantile(&h, 1000), 4000 * unit);
	}
}

static void one_slow_one_shows_in_the_maximum_alone(void **state)
{
	struct gw__histogram h = {0};
	for (unsigned i = 0; i < 999; i++)
		gw__histogram_add(&h, 40);
	gw__histogram_add(&h, 5000000);
	assert_in_range(gw__histogram_quantile(&h, 990), 40, 45);
	assert_int_equal(gw__histogram_quantile(&h, 1000), 5000000);
}

static void what_is_too_large_counts_as_the_largest(void **state)
{
	struct gw__histogram h = {0};
	gw__histogram_add(&h, (UINT64_C(1) << 40) - 1);
	gw__histogram_add(&h, UINT64_C(1) << 40);
	gw__histogram_add(&h, UINT64_MAX);
	assert_int_equal(h.n, 3);
	assert_true(gw__histogram_quantile(&h, 1000) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_values_there_is_nothing),
		cmocka_unit_test(small_values_are_exact),
		cmocka_unit_test(percentiles_are_right_to_an_eighth),
		cmocka_unit_test(one_slow_one_shows_in_the_maximum_alone),
		cmocka_unit_test(what_is_too_large_counts_as_the_largest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
