/* SPDX-License-Identifier: MIT */
/*
 * Rows of docs/spec/mapped-ram.md 9, as a change of a good image: refused with the right code and a sentence
 * that names the place, or opened with a remark. And random damage, which must never do more than be refused.
 */
#include "image_good.h"

#include "base/math.h"

static void a_changed_field_is_refused_by_name(void **state)
{
	(void)state;
	static const struct {
		const char *what;
		size_t off;
		unsigned n;
		uint64_t value;
		const char *says, *says_too;
	} rows[] = {
		{"no capability mapped-ram", CAPABILITY + 9, 1, 'n', "plain migration stream", "godwit inspect"},
		{"version 0", VERSION, 4, 0, "\"pc.ram\"", "version 0, expected 1"},
		{"version 2", VERSION, 4, 2, "\"pc.ram\"", "version 2, expected 1"},
		{"page size 8192", PAGE_SIZE, 8, 8192, "block \"", "page size"},
		{"page size 2048", PAGE_SIZE, 8, 2048, "block \"", "page size of 4096, expected 2048"},
		{"page size 0", PAGE_SIZE, 8, 0, "\"pc.ram\"", "page size of 0, expected 4096"},
		{"bitmap inside the header", BITMAP_OFF, 8, BITMAP - 1, "\"pc.ram\"", "offset 141, inside or before its header"},
		{"bitmap at 0", BITMAP_OFF, 8, 0, "\"pc.ram\"", "offset 0, inside or before its header"},
		{"bitmap over its pages", BITMAP_OFF, 8, PAGES - 8, "\"pc.ram\"", "before the end of its bitmap (offset 1048568"},
		{"bitmap behind its pages", BITMAP_OFF, 8, PAGES_END, "\"pc.ram\"", "before the end of its bitmap"},
		{"bitmap past the end of the file", BITMAP_OFF, 8, UINT64_C(1) << 40, "\"pc.ram\"", "before the end of its bitmap"},
		{"bit 63 of the bitmap's offset", BITMAP_OFF, 8, UINT64_C(1) << 63 | BITMAP, "\"pc.ram\"", "bitmap"},
		{"bitmap at the end of all numbers", BITMAP_OFF, 8, ~UINT64_C(0) - 3, "\"pc.ram\"", "bitmap"},
		{"pages not aligned", PAGES_OFF, 8, PAGES + 1, "\"pc.ram\"", "offset 1048577, expected a multiple of the page size 4096"},
		{"pages half a page on", PAGES_OFF, 8, PAGES + 2048, "\"pc.ram\"", "expected a multiple of the page size 4096"},
		{"pages a page on", PAGES_OFF, 8, PAGES + KIT_PAGE, "stream offset 1589248", "block list"},
		{"pages at 0", PAGES_OFF, 8, 0, "\"pc.ram\"", "offset 0, before the end of its bitmap"},
		{"pages past the end of the file", PAGES_OFF, 8, UINT64_C(1) << 40, "\"pc.ram\"", "but the file ends at"},
		{"bit 63 of the pages' offset", PAGES_OFF, 8, UINT64_C(1) << 63 | PAGES, "\"pc.ram\"", "past the largest file"},
		{"pages at the end of all numbers", PAGES_OFF, 8, UINT64_C(0) - KIT_PAGE, "\"pc.ram\"", "past the largest file"},
		{"used_length doubled", USED, 8, 262 * KIT_PAGE, "\"pc.ram\"", "only"},
		{"used_length a page less", USED, 8, 130 * KIT_PAGE, "stream offset 1581056", "block list"},
		{"used_length 0", USED, 8, 0, "\"pc.ram\"", "length of 0 bytes"},
		{"used_length not aligned", USED, 8, 131 * KIT_PAGE - 1, "\"pc.ram\"", "multiple of the page size 1024"},
		{"used_length enormous", USED, 8, UINT64_C(0) - KIT_PAGE, "\"pc.ram\"", "are left for it"},
		{"total enormous, and used_length too", USED, 8, UINT64_C(1) << 50, "\"pc.ram\"", "are left for it"},
		{"total larger", TOTAL, 8, (262 * KIT_PAGE) | GW__RAM_MEM_SIZE, "block list", "stream offset"},
		{"total smaller", TOTAL, 8, (196 * KIT_PAGE) | GW__RAM_MEM_SIZE, "\"0000:00:02.0/vga.vram\"", "are left for it"},
		{"the second block's bitmap in the first one's pages", NEXT_BITMAP_OFF, 8, PAGES, "\"/rom@etc/acpi/tables\"",
			"inside or before its header"},
		{"the second block's pages over the first one's", NEXT_PAGES_OFF, 8, PAGES, "\"/rom@etc/acpi/tables\"",
			"before the end of its bitmap"},
		{"a bit behind the last page", BITMAP + 16, 1, 0x08 | 0x01, "\"pc.ram\"",
			"(at offset 142) has bits after its last page 130"},
		{"the bitmap's last bit", BITMAP + 23, 1, 0x80, "\"pc.ram\"", "big-endian host"},
		{"a block without a name", NAME - 1, 1, 0, "stream offset 99", "block"},
		{"a page record", LAST_END + 6, 2, 0x0008, "stream offset 4198400", "mapped-ram file"},
		{"no end of RAM: its type is PART", END, 1, GW__ITEM_PART, "at stream offset", "ends while the RAM section is open"},
		{"a wrong footer", DEVICES - 1, 1, 9, "footer", "stream offset"},
		{"a wrong footer of a device", DEVICES + 1 + 4 + 6 + 8 + 8 + 4, 1, 99, "\"timer\"", "section 0"},
		{"a device of another name", DEVICES + 6, 1, 'T', "\"Timer\"", "VM description"},
		{"an unknown section type", PART, 1, 9, "stream offset 4198413", "unknown section type 09"},
		{"RAM of another version", 0x4a + 16, 1, 3, "version 3", "stream offset 74"},
	};
	for (size_t i = 0; i < GW__LEN(rows); i++) {
		uint8_t *bad = malloc(good_n);
		assert_non_null(bad);
		memcpy(bad, good, good_n);
		gw__be_put(bad + rows[i].off, rows[i].value, rows[i].n);
		expect_refused(rows[i].what, bad, good_n, rows[i].says, rows[i].says_too);
		free(bad);
	}
}

static void two_offsets_of_zero_need_x_ignore_shared(void **state)
{
	(void)state;
	memset(good + BITMAP_OFF, 0, 16);
	expect_refused("0/0", good, good_n, "\"pc.ram\" is marked as not in the file", "x-ignore-shared");
}

static void what_is_only_odd_is_opened_with_a_remark(void **state)
{
	(void)state;
	struct gw__image *im;
	struct gw__error error = {0};
	uint8_t bitmap[BITMAP_END - BITMAP], got[KIT_PAGE], want[KIT_PAGE];
	memcpy(bitmap, good + BITMAP, sizeof bitmap);
	memset(good + BITMAP, 0, sizeof bitmap);
	memcpy(good + 0x8000, bitmap, sizeof bitmap);
	gw__be_put(good + BITMAP_OFF, 0x8000, 8);
	assert_ok(open_bytes(good, good_n, &im, &error), error);
	assert_int_equal(im->anomaly_n, 1);
	assert_non_null(strstr(im->anomaly[0], "block \"pc.ram\": its bitmap is at offset 32768, expected right after its header (142)"));
	assert_ok(gw__image_read_pages(im, 0, 3, 1, got, &error), error);
	kit_fill(want, 0, 3, 0);
	assert_memory_equal(got, want, sizeof got);
	gw__image_close(im);
}

/* All pages of a one-block guest moved down to 0x2000, and what follows with them. */
static void pages_need_not_begin_at_a_mebibyte(void **state)
{
	(void)state;
	struct gw__blocks blocks = {0};
	struct gw__image *im;
	struct gw__error error = {0};
	uint8_t got[KIT_PAGE], want[KIT_PAGE];
	size_t n;
	kit_add_block(&blocks, "pc.ram", 131 * KIT_PAGE, false);
	kit_write_image(image, 0, &blocks);
	uint8_t *bytes = kit_read_file(image, &n);
	memmove(bytes + 0x2000, bytes + PAGES, n - PAGES);
	gw__be_put(bytes + PAGES_OFF, 0x2000, 8);
	assert_ok(open_bytes(bytes, n - PAGES + 0x2000, &im, &error), error);
	assert_int_equal(im->anomaly_n, 1);
	assert_non_null(strstr(im->anomaly[0], "its pages begin at offset 8192, expected a multiple of 1 MiB"));
	assert_ok(gw__image_read_pages(im, 0, 129, 1, got, &error), error);
	kit_fill(want, 0, 129, 0);
	assert_memory_equal(got, want, sizeof got);
	gw__image_close(im);
	free(bytes);
	gw__blocks_fini(&blocks);
}

static uint64_t seed;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* The places that mean something: heads, bitmaps, tail. */
static size_t random_place(void)
{
	switch (next_random() % 4) {
	case 0:
		return next_random() % BITMAP_END;
	case 1:
		return PAGES_END + next_random() % 80;
	case 2:
		return LAST_END + next_random() % (DEVICES - LAST_END);
	default:
		return DEVICES + next_random() % (good_n - DEVICES);
	}
}

static void random_damage_is_refused_or_harmless(void **state)
{
	(void)state;
	const char *given = getenv("GODWIT_SEED");
	seed = given ? strtoull(given, NULL, 0) : 0x5eed1234abcd;
	int fd = open(image, O_RDWR);
	assert_true(fd >= 0);
	uint8_t *all = malloc(131 * KIT_PAGE);
	assert_non_null(all);
	for (int i = 0; i < 4000; i++) {
		const uint64_t was = seed;
		size_t at[3];
		unsigned n = 1 + (unsigned)(next_random() % 3);
		struct gw__image *im;
		struct gw__error error = {0};
		for (unsigned k = 0; k < n; k++) {
			uint8_t v = (uint8_t)next_random();
			at[k] = random_place();
			assert_int_equal(pwrite(fd, &v, 1, (off_t)at[k]), 1);
		}
		int r = gw__image_open(image, 0, &im, &error);
		for (uint32_t b = 0; !r && b < im->blocks.n; b++) {
			uint64_t pages = im->blocks.v[b].ignored ? 0 : im->present[b].bits;
			if (gw__image_read_pages(im, b, 0, pages, all, &error))
				fail_msg("seed %#llx: %s", (unsigned long long)was, error.text);
		}
		if ((r < 0) != (error.code < 0))
			fail_msg("seed %#llx: %d without a sentence", (unsigned long long)was, r);
		if (!r)
			gw__image_close(im);
		for (unsigned k = 0; k < n; k++)
			assert_int_equal(pwrite(fd, good + at[k], 1, (off_t)at[k]), 1);
	}
	free(all);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_a_good_image(a_changed_field_is_refused_by_name),
		on_a_good_image(two_offsets_of_zero_need_x_ignore_shared),
		on_a_good_image(what_is_only_odd_is_opened_with_a_remark),
		on_a_good_image(pages_need_not_begin_at_a_mebibyte),
		on_a_good_image(random_damage_is_refused_or_harmless),
	};
	return cmocka_run_group_tests_name("image damage", tests, NULL, NULL);
}
