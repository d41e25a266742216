/* SPDX-License-Identifier: MIT */
/* The layout of a written image, byte by byte against docs/spec/mapped-ram.md. */
#include "image_kit.h"

#include "base/math.h"
#include "image/read/image.h"

static const struct gw__image_writer_opts plain = {0};

/* Reads [off, off + n) of the image. */
static void read_at(uint64_t off, void *to, size_t n)
{
	int fd = open(image, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, to, n, (off_t)off), n);
	close(fd);
}

static uint64_t be64_at(uint64_t off)
{
	uint8_t b[8];
	read_at(off, b, 8);
	return gw__be_get(b, 8);
}

/* Section 2: the annotated header of a 16 MiB guest, with pages 0 and 6, and everything in front of it. */
static void the_annotated_header_of_the_spec(void **state)
{
	(void)state;
	struct gw__blocks blocks = {0};
	kit_add_block(&blocks, "pc.ram", 16 * KIT_MIB, false);
	struct gw__image_writer *w = kit_begin(image, &plain, &blocks, false);
	kit_put_page(w, 0, 0, 0);
	kit_put_page(w, 0, 6, 0);
	kit_finish(w);
	static const uint8_t want[] = {
		0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3, /* QEVM, version 3 */
		7, 0, 0, 0, 14,                     /* configuration */
		'p', 'c', '-', 'i', '4', '4', '0', 'f', 'x', '-', '1', '0', '.', '0', 5, 26, 'c', 'o', 'n', 'f', 'i', 'g', 'u', 'r', 'a',
		't', 'i', 'o', 'n', '/', 'c', 'a', 'p', 'a', 'b', 'i', 'l', 'i', 't', 'i', 'e', 's', 0, 0, 0, 1, 0, 0, 0, 1, 10, 'm', 'a',
		'p', 'p', 'e', 'd', '-', 'r', 'a', 'm', 1, 0, 0, 0, KIT_RAM_ID, 3, 'r', 'a', 'm', 0, 0, 0, 0, 0, 0, 0, 4, /* START */
		0, 0, 0, 0, 1, 0, 0, 4,          /* total 16 MiB, MEM_SIZE */
		6, 'p', 'c', '.', 'r', 'a', 'm', /* at 0x63 */
		0, 0, 0, 0, 1, 0, 0, 0,          /* used_length */
		0, 0, 0, 1,                      /* 0x72: version */
		0, 0, 0, 0, 0, 0, 0x10, 0,       /* 0x76: page_size */
		0, 0, 0, 0, 0, 0, 0, 0x8e,       /* 0x7e: bitmap_offset */
		0, 0, 0, 0, 0, 0x10, 0, 0,       /* 0x86: pages_offset */
		0x41, 0, 0, 0, 0, 0, 0, 0,       /* 0x8e: pages 0 and 6 */
	};
	uint8_t got[sizeof want];
	read_at(0, got, sizeof got);
	assert_memory_equal(got, want, sizeof want);
	gw__blocks_fini(&blocks);
}

/* Section 2: "Example offsets of a 128 MiB guest", and with S = 0x100123. */
static void the_example_offsets_of_the_spec(void **state)
{
	(void)state;
	struct gw__blocks blocks = {0};
	kit_add_block(&blocks, "m0", 128 * KIT_MIB, false);
	kit_add_block(&blocks, "/rom@etc/acpi/tables", 0x20000, false);
	kit_add_block(&blocks, "pc.bios", 0x40000, false);
	kit_add_block(&blocks, "pc.rom", 0x20000, false);
	kit_add_block(&blocks, "/rom@etc/table-loader", 0x1000, false);
	kit_add_block(&blocks, "/rom@etc/acpi/rsdp", 0x1000, false);
	kit_finish(kit_begin(image, &plain, &blocks, false));
	assert_int_equal(be64_at(110 + 12), 138);
	assert_int_equal(be64_at(110 + 20), 0x100000);
	assert_int_equal(be64_at(135266333 + 12), 135266333 + 28);
	assert_int_equal(be64_at(135266333 + 20), 0x8200000);
	static const uint8_t part_of_start[] = {0, 0, 0, 0, 0, 0, 0, 0x10, 0x7e, 0, 0, 0, KIT_RAM_ID, 2};
	uint8_t got[sizeof part_of_start];
	read_at(0x8601000, got, sizeof got);
	assert_memory_equal(got, part_of_start, sizeof got);

	const struct gw__image_writer_opts shifted = {.base_off = 0x100123};
	kit_finish(kit_begin(image, &shifted, &blocks, false));
	assert_int_equal(be64_at(0x100123 + 110 + 12), 0x100123 + 138);
	assert_int_equal(be64_at(0x100123 + 110 + 20), 0x200000);
	gw__blocks_fini(&blocks);
}

/* Section 4: 0/0, no region, and the next name follows at once; x-ignore-shared stands before mapped-ram. */
static void ignored_blocks_take_no_room(void **state)
{
	(void)state;
	struct gw__blocks blocks = {0};
	kit_add_block(&blocks, "a", 3 * KIT_PAGE, false);
	kit_add_block(&blocks, "shared", 512 * KIT_PAGE, true);
	kit_add_block(&blocks, "b", KIT_PAGE, false);
	kit_add_block(&blocks, "last", KIT_PAGE, true);
	struct gw__image_writer *w = kit_begin(image, &plain, &blocks, true);
	gw__image_put_zeros(w, 0, 0, 3);
	gw__image_put_zeros(w, 2, 0, 1);
	kit_finish(w);
	static const uint8_t caps[] = "\0\0\0\2\17x-ignore-shared\12mapped-ram";
	uint8_t got[512];
	read_at(59, got, sizeof caps - 1);
	assert_memory_equal(got, caps, sizeof caps - 1);
	const uint64_t second = 0x100000 + 3 * KIT_PAGE; /* behind the pages of "a" */
	uint8_t want[512];
	struct gw__wr wr = gw__wr_over(want, sizeof want);
	gw__wr_str8(&wr, "shared");
	gw__wr_be64(&wr, 512 * KIT_PAGE);
	gw__wr_be64(&wr, 0x100003000);
	gw__wr_be32(&wr, 1);
	gw__wr_be64(&wr, KIT_PAGE);
	gw__wr_be64(&wr, 0);
	gw__wr_be64(&wr, 0);
	gw__wr_str8(&wr, "b");
	gw__wr_be64(&wr, KIT_PAGE);
	gw__wr_be64(&wr, 0x100203000);
	gw__wr_be32(&wr, 1);
	gw__wr_be64(&wr, KIT_PAGE);
	gw__wr_be64(&wr, second + gw__wr_used(&wr) + 16);
	gw__wr_be64(&wr, 0x200000);
	read_at(second, got, gw__wr_used(&wr));
	assert_memory_equal(got, want, gw__wr_used(&wr));
	read_at(0x200000 + KIT_PAGE, got, 5); /* "last" behind the pages of "b" */
	assert_memory_equal(got, "\4last", 5);
	read_at(0x200000 + KIT_PAGE + 49, got, 14); /* and the section's end behind its entry */
	assert_memory_equal(got, "\0\0\0\0\0\0\0\20\x7e\0\0\0\3\2", 14);
	gw__blocks_fini(&blocks);
}

/* A stream with x-ignore-shared does not say which blocks are shared: it just sends nothing of them. */
static void with_ignore_shared_blocks_of_which_nothing_came_are_left_out(void **state)
{
	(void)state;
	struct gw__blocks blocks = {0};
	struct gw__error error = {0};
	struct gw__image *im;
	uint8_t page[KIT_PAGE], got[KIT_PAGE];
	memset(page, 0x5a, sizeof page);
	kit_add_block(&blocks, "shared", 512 * KIT_PAGE, false);
	kit_add_block(&blocks, "zeros", 2 * KIT_PAGE, false);
	kit_add_block(&blocks, "m", 300 * KIT_PAGE, false);
	kit_add_block(&blocks, "last", KIT_PAGE, false);
	struct gw__image_writer *w = kit_begin(image, &plain, &blocks, true);
	assert_ok(gw__image_put_pages(w, 2, 7 * KIT_PAGE, &(struct iovec){page, sizeof page}, 1, &error), error);
	gw__image_put_zeros(w, 1, 0, 1);
	kit_finish(w);
	assert_ok(gw__image_open(image, 0, &im, &error), error);
	assert_true(im->blocks.v[0].ignored && im->blocks.v[3].ignored);
	assert_false(im->blocks.v[1].ignored || im->blocks.v[2].ignored);
	assert_int_equal(gw__bitmap_count(&im->present[1]), 0);
	assert_int_equal(gw__bitmap_count(&im->present[2]), 1);
	assert_ok(gw__image_read_pages(im, 2, 7, 1, got, &error), error);
	assert_memory_equal(got, page, sizeof page);
	gw__image_close(im);
	gw__blocks_fini(&blocks);
}

static void the_file_ends_with_the_last_raw_byte(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	kit_write_image(image, 0, &blocks);
	size_t n;
	uint8_t *bytes = kit_read_file(image, &n);
	assert_memory_equal(bytes + n - 4, "]}]}", 4);
	assert_int_equal(gw__be_get(bytes + n - sizeof kit_description - 3, 4), sizeof kit_description - 1);
	free(bytes);
	gw__blocks_fini(&blocks);
}

static void what_was_in_front_stays(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	static uint8_t old[70000];
	memset(old, 0xab, sizeof old);
	for (size_t base = 0; base <= 140000; base += 35000) { /* none, within, exactly, beyond the old file */
		const struct gw__image_writer_opts o = {.base_off = base};
		kit_write_file(image, old, sizeof old, 0600);
		kit_finish(kit_begin(image, &o, &blocks, false));
		size_t n;
		uint8_t *bytes = kit_read_file(image, &n);
		for (size_t i = 0; i < base; i++)
			assert_int_equal(bytes[i], i < sizeof old ? 0xab : 0);
		assert_memory_equal(bytes + base, "QEVM", 4);
		free(bytes);
	}
	gw__blocks_fini(&blocks);
}

static void a_guest_too_large_for_any_file_is_refused_at_once(void **state)
{
	(void)state;
	static const uint64_t sizes[] = {UINT64_C(1) << 62, (UINT64_C(1) << 63) - KIT_PAGE, UINT64_C(0) - KIT_PAGE};
	struct gw__config config;
	kit_config(&config, false);
	for (size_t i = 0; i < GW__LEN(sizes); i++) {
		struct gw__image_writer *w;
		struct gw__error error = {0};
		struct gw__blocks blocks = {0};
		kit_add_block(&blocks, "m0", sizes[i], false);
		assert_ok(gw__image_create(image, &plain, &w, &error), error);
		assert_ok(gw__image_put_config(w, &config, &error), error);
		int r = gw__image_put_blocks(w, 1, &blocks, &error);
		assert_true(r == -EFBIG || r == -ENOMEM);
		assert_int_equal(error.code, r);
		gw__image_writer_close(w);
		gw__blocks_fini(&blocks);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each_in_a_folder(the_annotated_header_of_the_spec),
		each_in_a_folder(the_example_offsets_of_the_spec),
		each_in_a_folder(ignored_blocks_take_no_room),
		each_in_a_folder(with_ignore_shared_blocks_of_which_nothing_came_are_left_out),
		each_in_a_folder(the_file_ends_with_the_last_raw_byte),
		each_in_a_folder(what_was_in_front_stays),
		each_in_a_folder(a_guest_too_large_for_any_file_is_refused_at_once),
	};
	return cmocka_run_group_tests_name("image writer", tests, NULL, NULL);
}
