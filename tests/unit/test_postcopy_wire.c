/* SPDX-License-Identifier: MIT */
/* The commands of post-copy, byte for byte as they were captured (postcopy.md 2, 3, 6), and every rule of a discard and of a
 * received bitmap broken once. */
#include "error_text.h"

#include <errno.h>

#include "base/math.h"
#include "wire/framing.h"
#include "wire/postcopy.h"

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})
#define MEM0       0x04, 0x6d, 0x65, 0x6d, 0x30
#define BE64_16(v) 0, 0, 0, 0, 0, 0, (v) >> 8 & 0xff, (v)&0xff

static uint8_t out[512];

static struct gw__wr fresh(void)
{
	memset(out, 0xee, sizeof out);
	return gw__wr_over(out, sizeof out);
}

static void check(struct gw__wr *c, const uint8_t *want, size_t n)
{
	assert_false(c->full);
	assert_int_equal(gw__wr_used(c), n);
	assert_memory_equal(out, want, n);
}

static void the_start_of_a_postcopy_stream(void **state)
{
	(void)state;
	struct gw__wr c = fresh();
	gw__command_encode(&c, GW__CMD_OPEN_RETURN_PATH, NULL, 0);
	gw__ping_encode(&c, GW__PING_OPENED);
	gw__advise_encode(&c, 0x1000, 0x1000);
	check(&c, BYTES(8, 0, 1, 0, 0, 8, 0, 2, 0, 4, 0, 0, 0, 1, 8, 0, 3, 0, 0x10, BE64_16(0x1000), BE64_16(0x1000)));
}

static void the_advise_of_a_guest_with_larger_pages(void **state)
{
	(void)state;
	struct gw__wr c = fresh();
	gw__advise_encode(&c, 0x201000, 0x1000);
	check(&c, BYTES(8, 0, 3, 0, 0x10, 0, 0, 0, 0, 0, 0x20, 0x10, 0, BE64_16(0x1000)));
}

static void the_pings(void **state)
{
	(void)state;
	static const uint8_t tokens[] = {GW__PING_OPENED, GW__PING_DISCARDED, GW__PING_LOADED, GW__PING_SENT, GW__PING_RUNS};
	static const uint8_t values[] = {1, 2, 3, 4, 0x42};
	for (size_t i = 0; i < sizeof tokens; i++) {
		struct gw__wr c = fresh();
		gw__ping_encode(&c, tokens[i]);
		check(&c, BYTES(8, 0, 2, 0, 4, 0, 0, 0, values[i]));
	}
}

static void the_frame_of_the_package(void **state)
{
	(void)state;
	struct gw__wr c = fresh();
	gw__packaged_encode(&c, 13050);
	gw__command_encode(&c, GW__CMD_POSTCOPY_LISTEN, NULL, 0);
	check(&c, BYTES(8, 0, 7, 0, 4, 0, 0, 0x32, 0xfa, 8, 0, 4, 0, 0));
	c = fresh();
	gw__ping_encode(&c, GW__PING_LOADED);
	gw__ping_encode(&c, GW__PING_RUNS);
	gw__command_encode(&c, GW__CMD_POSTCOPY_RUN, NULL, 0);
	gw__ping_encode(&c, GW__PING_SENT);
	check(&c, BYTES(8, 0, 2, 0, 4, 0, 0, 0, 3, 8, 0, 2, 0, 4, 0, 0, 0, 0x42, 8, 0, 5, 0, 0, 8, 0, 2, 0, 4, 0, 0, 0, 4));
}

static void the_commands_of_a_recovery(void **state)
{
	(void)state;
	struct gw__wr c = fresh();
	gw__ask_bitmap_encode(&c, "mem0");
	gw__ask_bitmap_encode(&c, "/rom@etc/acpi/tables");
	gw__command_encode(&c, GW__CMD_POSTCOPY_RESUME, NULL, 0);
	check(&c, BYTES(8, 0, 0x0a, 0, 5, MEM0, 8, 0, 0x0a, 0, 0x15, 0x14, '/', 'r', 'o', 'm', '@', 'e', 't', 'c', '/', 'a', 'c', 'p', 'i',
			  '/', 't', 'a', 'b', 'l', 'e', 's', 8, 0, 9, 0, 0));
}

static void a_name_of_any_length_can_be_asked_for(void **state)
{
	(void)state;
	char name[GW__NAME_MAX + 1];
	memset(name, 'n', GW__NAME_MAX);
	name[GW__NAME_MAX] = 0;
	struct gw__wr c = fresh();
	gw__ask_bitmap_encode(&c, name);
	assert_false(c.full);
	assert_int_equal(gw__wr_used(&c), 5 + 1 + GW__NAME_MAX);
	assert_memory_equal(out, ((const uint8_t[]){8, 0, 0x0a, 1, 0, GW__NAME_MAX, 'n'}), 7);
	c = fresh();
	struct gw__range all[GW__DISCARD_RANGES_MAX] = {{0, 0x1000}};
	gw__discard_encode(&c, name, all, GW__DISCARD_RANGES_MAX);
	assert_false(c.full);
	assert_int_equal(gw__wr_used(&c), 5 + 3 + GW__NAME_MAX + 12 * 16);
}

static void a_captured_discard(void **state)
{
	(void)state;
	struct gw__range ranges[GW__DISCARD_RANGES_MAX], back[GW__DISCARD_RANGES_MAX];
	struct gw__error error = {0};
	char block[GW__NAME_MAX + 1];
	unsigned n = 0;
	for (unsigned i = 0; i < GW__DISCARD_RANGES_MAX; i++)
		ranges[i] = (struct gw__range){0x10000 + i * UINT64_C(0x3000), 0x1000 * (i + 1)};
	struct gw__wr c = fresh();
	gw__discard_encode(&c, "mem0", ranges, GW__DISCARD_RANGES_MAX);
	static const uint8_t captured[] = {8, 0, 6, 0, 0xc7, 0, MEM0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0,
		1, 0x30, 0, 0, 0, 0, 0, 0, 0, 0x20, 0};
	assert_int_equal(gw__wr_used(&c), 5 + 0xc7);
	assert_memory_equal(out, captured, sizeof captured);
	assert_int_equal(gw__discard_decode(out + 5, 0xc7, block, back, GW__DISCARD_RANGES_MAX, &n, &error), 0);
	assert_string_equal(block, "mem0");
	assert_int_equal(n, GW__DISCARD_RANGES_MAX);
	assert_memory_equal(back, ranges, sizeof ranges);
}

/* Payloads of a discard that break one rule each. */
static void a_broken_discard_is_refused(void **state)
{
	(void)state;
#define RANGE BE64_16(0x1000), BE64_16(0x2000)
	static const struct {
		const char *says[3];
		int code;
		uint8_t n, bytes[64];
	} rows[] = {
		{{"0 bytes", "whole ranges"}, -EPROTO, 0, {0}},
		{{"3 bytes", "whole ranges"}, -EPROTO, 3, {0, 1, 'm'}},
		{{"7 bytes", "whole ranges"}, -EPROTO, 7, {0, MEM0, 0}}, /* no range at all */
		{{"22 bytes", "16"}, -EPROTO, 22, {0, MEM0, 0, RANGE}},
		{{"24 bytes", "16"}, -EPROTO, 24, {0, MEM0, 0, RANGE, 7}},
		{{"23 bytes", "whole ranges"}, -EPROTO, 23, {0, 0xff, 'm', 'e', 'm', '0', 0, RANGE}}, /* the name is longer than all */
		{{"version 1"}, -EPROTO, 23, {1, MEM0, 0, RANGE}},
		{{"ended by 01"}, -EPROTO, 23, {0, MEM0, 1, RANGE}},
		{{"name of 0 bytes"}, -EPROTO, 19, {0, 0, 0, RANGE}},
		{{"name of 4 bytes"}, -EPROTO, 23, {0, 4, 'm', 0, 'm', '0', 0, RANGE}}, /* a name inside a name */
		{{"3 ranges", "at most 2"}, -E2BIG, 55, {0, MEM0, 0, RANGE, RANGE, RANGE}},
	};
	for (size_t i = 0; i < GW__LEN(rows); i++) {
		struct gw__range v[2];
		struct gw__error error = {0};
		char block[GW__NAME_MAX + 1];
		unsigned n = 0;
		uint8_t *exact = malloc(rows[i].n + 1u); /* one byte too far is seen by ASan */
		assert_non_null(exact);
		uint8_t *payload = exact + 1;
		if (rows[i].n)
			memcpy(payload, rows[i].bytes, rows[i].n);
		int r = gw__discard_decode(payload, rows[i].n, block, v, GW__LEN(v), &n, &error);
		free(exact);
		if (r != rows[i].code)
			fail_msg("row %zu: %d, expected %d", i, r, rows[i].code);
		check_says(&error, rows[i].code, rows[i].says, __FILE__, __LINE__);
	}
}

static void the_size_of_a_received_bitmap(void **state)
{
	(void)state;
	static const struct {
		uint64_t pages, bytes;
	} rows[] = {{1, 8}, {63, 8}, {64, 8}, {65, 16}, {65536, 8192}, {65537, 8200}};
	for (size_t i = 0; i < GW__LEN(rows); i++) {
		struct gw__error error = {0};
		assert_int_equal(gw__recv_bitmap_check_size(rows[i].bytes, "b", rows[i].pages, &error), 0);
		const uint64_t wrong[] = {0, 1, rows[i].bytes - 8, rows[i].bytes - 1, rows[i].bytes + 1, rows[i].bytes + 8, UINT64_MAX};
		for (size_t k = 0; k < GW__LEN(wrong); k++) {
			error = (struct gw__error){0};
			assert_int_equal(gw__recv_bitmap_check_size(wrong[k], "b", rows[i].pages, &error), -EPROTO);
			assert_says(&error, -EPROTO, "\"b\"", "expected");
		}
	}
}

static void the_end_mark_of_a_received_bitmap(void **state)
{
	(void)state;
	struct gw__error error = {0};
	assert_int_equal(
		gw__recv_bitmap_check_end(gw__be_get((const uint8_t[]){1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}, 8), "mem0", &error),
		0);
	assert_int_equal(gw__recv_bitmap_check_end(UINT64_C(0x0123456789abcdee), "mem0", &error), -EPROTO);
	assert_says(&error, -EPROTO, "mem0", "0123456789abcdee", "0123456789abcdef");
	error = (struct gw__error){0};
	assert_int_equal(gw__recv_bitmap_check_end(UINT64_C(0xefcdab8967452301), "mem0", &error), -EPROTO); /* the other byte order */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_start_of_a_postcopy_stream),
		cmocka_unit_test(the_advise_of_a_guest_with_larger_pages),
		cmocka_unit_test(the_pings),
		cmocka_unit_test(the_frame_of_the_package),
		cmocka_unit_test(the_commands_of_a_recovery),
		cmocka_unit_test(a_name_of_any_length_can_be_asked_for),
		cmocka_unit_test(a_captured_discard),
		cmocka_unit_test(a_broken_discard_is_refused),
		cmocka_unit_test(the_size_of_a_received_bitmap),
		cmocka_unit_test(the_end_mark_of_a_received_bitmap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
