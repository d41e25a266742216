/* SPDX-License-Identifier: MIT */
/* Mapped-ram headers: the capture of mapped-ram.md 2 both ways, the layout of its examples, the header rows
 * of section 9. */
#include "error_text.h"

#include <errno.h>

#include "stream_builder.h"
#include "wire/mapped.h"

enum { MIB = 1 << 20 };

static void the_captured_header(void **state)
{
	(void)state;
	struct sb b = {0};
	sb_hex(&b, "0000 0001  0000 0000 0000 1000  0000 0000 0000 008e  0000 0000 0010 0000");
	assert_int_equal(b.n, GW__MAPPED_HEADER_BYTES);
	struct gw__mapped_header h;
	for (size_t n = 0; n < b.n; n++) {
		struct gw__rd cut = gw__rd_over(b.p, n);
		assert_int_equal(gw__mapped_header_decode(&cut, &h), GW__SHORT);
	}
	struct gw__rd c = gw__rd_over(b.p, b.n);
	assert_int_equal(gw__mapped_header_decode(&c, &h), 0);
	assert_int_equal(gw__rd_left(&c), 0);
	assert_int_equal(h.version, 1);
	assert_int_equal(h.page_bytes, 4096);
	assert_int_equal(h.bitmap_off, 0x8e);
	assert_int_equal(h.pages_off, MIB);

	uint8_t again[GW__MAPPED_HEADER_BYTES];
	struct gw__wr w = gw__wr_over(again, sizeof again);
	gw__mapped_header_encode(&w, &h);
	assert_int_equal(gw__wr_used(&w), b.n);
	assert_memory_equal(again, b.p, b.n);
	sb_fini(&b);

	/* it stood at 0x72 and is where a writer puts a block of 16 MiB */
	struct gw__block block = {.name = "pc.ram", .used_bytes = 16 * MIB};
	struct gw__mapped_header placed;
	assert_int_equal(gw__mapped_place(0x72 + 28, block.used_bytes, 4096, &placed), 0);
	assert_int_equal(placed.version, h.version);
	assert_int_equal(placed.page_bytes, h.page_bytes);
	assert_int_equal(placed.bitmap_off, h.bitmap_off);
	assert_int_equal(placed.pages_off, h.pages_off);
	bool ignored = true;
	const char *anomaly = NULL;
	assert_int_equal(gw__mapped_header_check(&h, 0x72, &block, 4096, false, &ignored, &anomaly, NULL), 0);
	assert_false(ignored);
	assert_null(anomaly);
}

/* The example offsets of mapped-ram.md 2. */
static void examples_of_the_layout(void **state)
{
	(void)state;
	static const struct {
		uint64_t header_off, used_bytes, bitmap_off, pages_off;
	} rows[] = {
		{110, 128 * MIB, 138, 0x100000},
		{135266333, 0x20000, 135266361, 0x8200000},
		{0x100123 + 110, 16 * MIB, 0x100123 + 138, 0x200000},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct gw__mapped_header h;
		assert_int_equal(gw__mapped_place(rows[i].header_off + 28, rows[i].used_bytes, 4096, &h), 0);
		assert_int_equal(h.version, 1);
		assert_int_equal(h.page_bytes, 4096);
		assert_int_equal(h.bitmap_off, rows[i].bitmap_off);
		assert_int_equal(h.pages_off, rows[i].pages_off);
	}
}

static void a_bitmap_may_end_exactly_at_the_pages(void **state)
{
	(void)state;
	struct gw__mapped_header h;
	assert_int_equal(gw__mapped_place(MIB - 8, 64 * 4096, 4096, &h), 0); /* 64 pages, 8 bytes */
	assert_int_equal(h.pages_off, MIB);
	assert_int_equal(gw__mapped_place(MIB - 8, 65 * 4096, 4096, &h), 0); /* 65 pages, 16 bytes */
	assert_int_equal(h.pages_off, 2 * MIB);
}

static void places_that_do_not_exist(void **state)
{
	(void)state;
	struct gw__mapped_header h;
	assert_int_equal(gw__mapped_place(UINT64_MAX - 100, 4096, 4096, &h), -EOVERFLOW);
	assert_int_equal(gw__mapped_place(UINT64_MAX - 4, 4096, 4096, &h), -EOVERFLOW);
	assert_int_equal(gw__mapped_place(138, UINT64_C(1) << 63, 4096, &h), -EOVERFLOW);
	assert_int_equal(gw__mapped_place(INT64_MAX - 2 * MIB, 8 * MIB, 4096, &h), -EOVERFLOW);
}

enum { AT = 0x72, USED = 16 * MIB };
static const struct gw__mapped_header GOOD = {1, 4096, AT + 28, MIB};

static int check(struct gw__mapped_header h, bool ignore_shared, bool *ignored, const char **anomaly, struct gw__error *error)
{
	const struct gw__block block = {.name = "pc.ram", .used_bytes = USED};
	*error = (struct gw__error){0};
	*anomaly = NULL;
	return gw__mapped_header_check(&h, AT, &block, 4096, ignore_shared, ignored, anomaly, error);
}

#define REFUSED(h, ...)                                                                                                                    \
	do {                                                                                                                               \
		bool ignored_;                                                                                                             \
		const char *odd_;                                                                                                          \
		struct gw__error why_;                                                                                                     \
		assert_int_equal(check(h, false, &ignored_, &odd_, &why_), -EPROTO);                                                       \
		assert_says(&why_, -EPROTO, "\"pc.ram\"", __VA_ARGS__);                                                                    \
		assert_int_equal(check(h, true, &ignored_, &odd_, &why_), -EPROTO);                                                        \
	} while (0)

static void version_1_and_the_page_size_of_the_stream(void **state)
{
	(void)state;
	struct gw__mapped_header h = GOOD;
	h.version = 0;
	REFUSED(h, "version 0", "expected 1");
	h.version = 2;
	REFUSED(h, "version 2", "expected 1");
	static const uint64_t sizes[] = {0, 2048, 8192, UINT64_C(1) << 63};
	for (size_t i = 0; i < 4; i++) {
		char got[32];
		snprintf(got, sizeof got, "%llu", (unsigned long long)sizes[i]);
		h = GOOD;
		h.page_bytes = sizes[i];
		REFUSED(h, "page size", got, "expected 4096");
	}
}

static void header_bitmap_and_pages_come_in_that_order(void **state)
{
	(void)state;
	struct gw__mapped_header h = GOOD;
	h.bitmap_off = AT + 27;
	REFUSED(h, "bitmap", "141", "142");
	h.bitmap_off = 0;
	REFUSED(h, "bitmap", "offset 0", "142");
	h = GOOD;
	h.bitmap_off = MIB - 511; /* 512 bytes of bitmap: one too many */
	REFUSED(h, "pages", "1048576", "1048065", "512 bytes");
	h.bitmap_off = UINT64_MAX - 16;
	REFUSED(h, "pages", "18446744073709551599");
	h.bitmap_off = (UINT64_C(1) << 63) + AT;
	REFUSED(h, "pages");
	h = GOOD;
	h.pages_off = 0;
	REFUSED(h, "pages", "offset 0");
}

static void pages_are_aligned_and_end_within_a_file(void **state)
{
	(void)state;
	struct gw__mapped_header h = GOOD;
	h.pages_off = MIB + 512;
	REFUSED(h, "1049088", "multiple", "4096");
	h.pages_off = UINT64_MAX - 4095;
	REFUSED(h, "16777216 bytes", "18446744073709547520");
	h.pages_off = (UINT64_C(1) << 63) - USED; /* ends one byte behind the largest offset of a file */
	REFUSED(h, "16777216 bytes", "9223372036837998592");
}

static void what_is_legal_but_odd(void **state)
{
	(void)state;
	bool ignored;
	const char *anomaly;
	struct gw__error error;
	struct gw__mapped_header h = GOOD;
	h.bitmap_off += 8;
	assert_int_equal(check(h, false, &ignored, &anomaly, &error), 0);
	assert_non_null(anomaly);
	assert_non_null(strstr(anomaly, "bitmap"));
	h = GOOD;
	h.pages_off += 4096;
	assert_int_equal(check(h, false, &ignored, &anomaly, &error), 0);
	assert_non_null(anomaly);
	assert_non_null(strstr(anomaly, "1 MiB"));
	h = GOOD;
	h.bitmap_off = MIB - 512; /* ends where the pages begin */
	assert_int_equal(check(h, false, &ignored, &anomaly, &error), 0);
}

static void blocks_that_are_not_in_the_file(void **state)
{
	(void)state;
	bool ignored = false;
	const char *anomaly;
	struct gw__error error;
	struct gw__mapped_header h = GOOD;
	h.bitmap_off = h.pages_off = 0;
	assert_int_equal(check(h, true, &ignored, &anomaly, &error), 0);
	assert_true(ignored);
	assert_int_equal(check(h, false, &ignored, &anomaly, &error), -EPROTO);
	assert_says(&error, -EPROTO, "\"pc.ram\"", "x-ignore-shared");
	assert_false(ignored);
	h.version = 2; /* the rest of such a header is checked all the same */
	REFUSED(h, "version 2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_captured_header),
		cmocka_unit_test(examples_of_the_layout),
		cmocka_unit_test(a_bitmap_may_end_exactly_at_the_pages),
		cmocka_unit_test(places_that_do_not_exist),
		cmocka_unit_test(version_1_and_the_page_size_of_the_stream),
		cmocka_unit_test(header_bitmap_and_pages_come_in_that_order),
		cmocka_unit_test(pages_are_aligned_and_end_within_a_file),
		cmocka_unit_test(what_is_legal_but_odd),
		cmocka_unit_test(blocks_that_are_not_in_the_file),
	};
	return cmocka_run_group_tests_name("mapped", tests, NULL, NULL);
}
