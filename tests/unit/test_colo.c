/* SPDX-License-Identifier: MIT */
/* The messages of COLO, as captured from a real primary (docs/spec/colo.md 4), and every rule of their framing broken once. */
#include "error_text.h"

#include <errno.h>

#include "wire/colo.h"

static struct gw__colo_msg message(const uint8_t *bytes, size_t n)
{
	struct gw__colo_msg m;
	struct gw__error error = {0};
	for (size_t cut = 0; cut < n; cut++) {
		struct gw__rd c = gw__rd_over(bytes, cut);
		assert_int_equal(gw__colo_decode(&c, &m, &error), GW__SHORT);
	}
	struct gw__rd c = gw__rd_over(bytes, n);
	assert_int_equal(gw__colo_decode(&c, &m, &error), 0);
	assert_int_equal(gw__rd_used(&c), n);

	uint8_t out[GW__COLO_MESSAGE_MAX_BYTES];
	struct gw__wr w = gw__wr_over(out, sizeof out);
	gw__colo_encode(&w, &m);
	assert_false(w.full);
	assert_int_equal(gw__wr_used(&w), n);
	assert_memory_equal(out, bytes, n);
	return m;
}

static void each_message_is_its_number(void **state)
{
	(void)state;
	for (uint8_t i = 0; i < GW__COLO_MESSAGES; i++) {
		const uint8_t bytes[] = {0, 0, 0, i};
		if (i != GW__COLO_VMSTATE_SIZE)
			assert_int_equal(message(bytes, sizeof bytes).type, i);
		assert_string_not_equal(gw__colo_message_name(i), "?");
	}
	assert_string_equal(gw__colo_message_name(GW__COLO_MESSAGES), "?");
}

static void a_size_has_a_value(void **state)
{
	(void)state;
	const uint8_t captured[] = {0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0x32, 0xdf};
	struct gw__colo_msg m = message(captured, sizeof captured);
	assert_int_equal(m.type, GW__COLO_VMSTATE_SIZE);
	assert_int_equal(m.bytes, 13023);
	/* A lie is for whoever would have to store it. */
	const uint8_t absurd[] = {0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	assert_true(message(absurd, sizeof absurd).bytes == UINT64_MAX);
}

static void other_numbers_are_refused(void **state)
{
	(void)state;
	static const uint8_t wrong[][4] = {{0, 0, 0, 7}, {0, 0, 1, 0}, {0x08, 0, 0x08, 0}, {0xff, 0xff, 0xff, 0xff}, {1, 0, 0, 0}};
	for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct gw__colo_msg m;
		struct gw__error error = {0};
		struct gw__rd c = gw__rd_over(wrong[i], sizeof wrong[i]);
		assert_int_equal(gw__colo_decode(&c, &m, &error), -EPROTO);
		assert_says(&error, -EPROTO, "COLO message number", "CHECKPOINT_READY", "VMSTATE_LOADED");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_message_is_its_number),
		cmocka_unit_test(a_size_has_a_value),
		cmocka_unit_test(other_numbers_are_refused),
	};
	return cmocka_run_group_tests_name("colo", tests, NULL, NULL);
}
