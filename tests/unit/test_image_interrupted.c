/* SPDX-License-Identifier: MIT */
/*
 * Images that are not whole: saves that were interrupted, files that were cut at every byte that means
 * something, and the saves that QEMU calls completed although they hold no memory. Always an error with a
 * sentence, never a guest.
 */
#include "image_good.h"

/* The bytes [from, to) taken out. */
static uint8_t *without(size_t from, size_t to)
{
	uint8_t *bytes = malloc(good_n);
	assert_non_null(bytes);
	memcpy(bytes, good, from);
	memcpy(bytes + from, good + to, good_n - to);
	return bytes;
}

static void a_background_snapshot_is_named(void **state)
{
	(void)state;
	uint8_t *bytes = without(SWITCHOVER, DEVICES);
	expect_refused("background-snapshot", bytes, good_n - (DEVICES - SWITCHOVER), "background-snapshot", "holds no memory");
	free(bytes);
}

static void an_interrupted_save_is_named(void **state)
{
	(void)state;
	const size_t description = 5 + sizeof kit_description - 1, eof = good_n - description - 1;
	expect_refused("right behind EOF", good, eof + 1, "no VM description", "interrupted");
	expect_refused("before EOF", good, eof, "no VM description", "interrupted");
	expect_refused("half of the devices", good, DEVICES + 40, "no VM description", "interrupted");
	expect_refused("in the description", good, good_n - 1, "no VM description", "interrupted");
	expect_refused("before END of RAM", good, END, "RAM has no end", "interrupted");
	expect_refused("after the block list", good, PART, "RAM has no end", "interrupted");
	expect_refused("in the pages of the last block", good, LAST_END - 1, "\"/rom@etc/acpi/rsdp\" reach to offset 4198400",
		"file ends at 4198399");
	expect_refused("in the block list", good, PAGES_END + 10, "the list of RAM blocks", "interrupted");
	expect_refused("after the configuration", good, 0x4b, "before the guest was complete", "interrupted");
	/* Killed, but the file had its length already: a hole goes on where END of RAM should be. */
	uint8_t *bytes = calloc(1, good_n);
	assert_non_null(bytes);
	memcpy(bytes, good, SWITCHOVER);
	memset(bytes + BITMAP, 0, BITMAP_END - BITMAP);
	expect_refused("a hole behind the last PART", bytes, good_n, "while the RAM section is open; it is not a complete guest",
		"only zeros follow");
	free(bytes);
}

/* All devices, EOF, and no description: what suppress-vmdesc=on writes, and what a cut file may look like. */
static void an_image_without_description_is_refused(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	struct gw__error error = {0};
	struct gw__image *im;
	uint8_t tail[128];
	struct gw__wr wr = gw__wr_over(tail, sizeof tail);
	struct gw__image_writer *w = kit_begin(image, &(struct gw__image_writer_opts){0}, &blocks, false);
	kit_put_device(&wr, 0, "timer", 0, 1);
	kit_put_device(&wr, 7, "apic", 0, 2);
	gw__wr_u8(&wr, GW__ITEM_EOF);
	assert_ok(gw__image_put_ram_end(w, &error), error);
	assert_ok(gw__image_put_raw(w, tail, gw__wr_used(&wr), &error), error);
	assert_ok(gw__image_commit(w, &error), error);
	gw__image_writer_close(w);
	assert_int_equal(gw__image_open(image, 0, &im, &error), -EPROTO);
	assert_says(error, "without a VM description: the save was interrupted (or the machine has suppress-vmdesc=on");
	gw__blocks_fini(&blocks);
}

static void expect_cut(uint64_t base_off, uint64_t at)
{
	struct gw__image *im;
	struct gw__error error = {0};
	assert_int_equal(truncate(image, (off_t)at), 0);
	int r = gw__image_open(image, base_off, &im, &error);
	if (r != -EPROTO || !strstr(error.text, image))
		fail_msg("cut at %llu: %d (%s)", (unsigned long long)at, r, error.text);
}

/* Is the byte before this place one of pages (or of the hole in front of them)? */
static bool in_pages(const struct gw__image *im, uint64_t at)
{
	for (uint32_t b = 0; b < im->blocks.n; b++) {
		uint64_t bitmap_end = im->blocks.v[b].bitmap_off + gw__bitmap_wire_bytes(im->present[b].bits);
		if (at > bitmap_end && at < im->blocks.v[b].pages_off + im->blocks.v[b].used_bytes)
			return true;
	}
	return false;
}

static void cut_everywhere(uint64_t base_off)
{
	struct gw__blocks blocks = kit_small_pc();
	struct gw__image *im;
	struct gw__error error = {0};
	kit_write_image(image, base_off, &blocks);
	assert_ok(gw__image_open(image, base_off, &im, &error), error);
	uint64_t bytes = 0, pages = 0;
	for (uint64_t at = im->end_off - 1;; at--) { /* shorter and shorter */
		bool coarse = in_pages(im, at);
		if (!coarse || at % KIT_PAGE == 0) {
			expect_cut(base_off, at);
			*(coarse ? &pages : &bytes) += 1;
		}
		if (at == 0)
			break;
	}
	print_message("cut at %llu bytes of headers and tail, %llu places of pages\n", (unsigned long long)bytes,
		(unsigned long long)pages);
	assert_true(bytes > 1000 && pages > 900);
	gw__image_close(im);
	gw__blocks_fini(&blocks);
}

static void a_cut_image_is_refused(void **state)
{
	(void)state;
	cut_everywhere(0);
}

static void a_cut_image_behind_something_else_is_refused(void **state)
{
	(void)state;
	cut_everywhere(300);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_a_good_image(a_background_snapshot_is_named),
		on_a_good_image(an_interrupted_save_is_named),
		on_a_good_image(an_image_without_description_is_refused),
		each_in_a_folder(a_cut_image_is_refused),
		each_in_a_folder(a_cut_image_behind_something_else_is_refused),
	};
	return cmocka_run_group_tests_name("image interrupted", tests, NULL, NULL);
}
