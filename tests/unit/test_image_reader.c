/* SPDX-License-Identifier: MIT */
/* What a writer put comes back from a reader: pages, devices, description, from any place in the file. */
#include "image_kit.h"

#include "base/math.h"
#include "image/read/image.h"

static const struct gw__image_writer_opts plain = {0};

static struct gw__image *open_good(uint64_t base_off)
{
	struct gw__image *im;
	struct gw__error error = {0};
	assert_ok(gw__image_open(image, base_off, &im, &error), error);
	for (uint32_t i = 0; i < im->anomaly_n; i++)
		fail_msg("odd: %s", im->anomaly[i]);
	return im;
}

/* Reads the block in pieces of `step` pages and expects every third page, as kit_write_image leaves them. */
static void check_pages(const struct gw__image *im, uint32_t b, uint64_t step)
{
	uint64_t pages = im->blocks.v[b].used_bytes / KIT_PAGE;
	uint8_t *got = malloc(step * KIT_PAGE), want[KIT_PAGE];
	struct gw__error error = {0};
	assert_non_null(got);
	for (uint64_t first = 0; first < pages; first += step) {
		uint64_t n = gw__min(step, pages - first);
		memset(got, 0xee, step * KIT_PAGE);
		assert_ok(gw__image_read_pages(im, b, first, n, got, &error), error);
		for (uint64_t i = 0; i < n; i++) {
			memset(want, 0, sizeof want);
			if ((first + i) % 3 == 0)
				kit_fill(want, b, first + i, 0);
			assert_memory_equal(got + i * KIT_PAGE, want, KIT_PAGE);
		}
	}
	free(got);
}

static void check_device(const struct gw__image *im, uint32_t i, const char *idstr, uint32_t instance, uint64_t value)
{
	const struct gw__image_device *d = &im->devices[i];
	struct gw__error error = {0};
	uint8_t raw[64];
	assert_string_equal(d->section.idstr, idstr);
	assert_int_equal(d->section.instance, instance);
	assert_int_equal(d->section.type, GW__ITEM_FULL);
	assert_int_equal(d->body_bytes, 8);
	assert_ok(gw__image_read_at(im, d->body_off, raw, 8, &error), error);
	assert_int_equal(gw__be_get(raw, 8), value);
	assert_true(d->bytes <= sizeof raw);
	assert_ok(gw__image_read_at(im, d->off, raw, d->bytes, &error), error);
	assert_int_equal(raw[0], GW__ITEM_FULL);
	assert_int_equal(raw[d->bytes - 5], GW__ITEM_FOOTER);
}

static void check_devices(const struct gw__image *im)
{
	assert_int_equal(im->devices_n, 3);
	check_device(im, 0, "timer", 0, 0x1122334455667788);
	check_device(im, 1, "apic", 0, 0xfee00900);
	check_device(im, 2, "apic", 1, 0x7e00000008000600);
	for (uint32_t i = 0; i < 3; i++)
		assert_false(im->devices[i].early || im->devices[i].before_ram);
	char text[sizeof kit_description];
	struct gw__error error = {0};
	assert_int_equal(im->text_bytes, sizeof kit_description - 1);
	assert_ok(gw__image_read_at(im, im->text_off, text, im->text_bytes, &error), error);
	assert_memory_equal(text, kit_description, im->text_bytes);
	assert_int_equal(gw__vmdesc_count(im->desc), 3);
}

static void an_image_comes_back_from_any_offset(void **state)
{
	(void)state;
	static const uint64_t offsets[] = {0, 1, 4096, 0x100123, 5 * KIT_MIB};
	struct gw__blocks blocks = kit_small_pc();
	for (size_t i = 0; i < GW__LEN(offsets); i++) {
		kit_write_image(image, offsets[i], &blocks);
		struct gw__image *im = open_good(offsets[i]);
		assert_string_equal(im->config.machine, "pc-i440fx-10.0");
		assert_true(im->config.mapped_ram);
		assert_int_equal(im->ram_id, KIT_RAM_ID);
		assert_true(im->switchover);
		assert_int_equal(im->parts, 1);
		assert_int_equal(im->end_off, im->file_bytes);
		assert_int_equal(im->blocks.n, blocks.n);
		assert_int_equal(im->blocks.total_bytes, blocks.total_bytes);
		for (uint32_t b = 0; b < blocks.n; b++) {
			assert_string_equal(im->blocks.v[b].name, blocks.v[b].name);
			assert_int_equal(im->blocks.v[b].used_bytes, blocks.v[b].used_bytes);
			assert_true(im->blocks.v[b].bitmap_off > offsets[i]);
			assert_int_equal(gw__bitmap_count(&im->present[b]), (blocks.v[b].used_bytes / KIT_PAGE + 2) / 3);
			check_pages(im, b, 1);
			check_pages(im, b, 7);
			check_pages(im, b, 131);
		}
		check_devices(im);
		gw__image_close(im);
		unlink(image);
	}
	gw__blocks_fini(&blocks);
	gw__image_close(NULL);
}

static void ignored_blocks_have_no_pages(void **state)
{
	(void)state;
	struct gw__blocks blocks = {0};
	kit_add_block(&blocks, "shared", 512 * KIT_PAGE, true);
	kit_add_block(&blocks, "a", 3 * KIT_PAGE, false);
	kit_add_block(&blocks, "last", KIT_PAGE, true);
	struct gw__image_writer *w = kit_begin(image, &plain, &blocks, true);
	kit_put_page(w, 1, 0, 0);
	kit_finish(w);
	struct gw__image *im = open_good(0);
	assert_true(im->config.ignore_shared);
	assert_true(im->blocks.v[0].ignored && im->blocks.v[2].ignored && !im->blocks.v[1].ignored);
	assert_int_equal(im->present[0].bits, 0);
	assert_int_equal(im->blocks.v[1].address, 0x100200000);
	check_pages(im, 1, 3);
	check_devices(im);
	gw__image_close(im);
	gw__blocks_fini(&blocks);
}

/* Where each release puts virtio-mem: 11.1 before the block list, 10.0 behind it. */
static void early_devices_are_told_apart(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	struct gw__error error = {0};
	struct gw__config config;
	struct gw__image_writer *w;
	kit_config(&config, false);
	for (int after = 0; after < 2; after++) {
		uint8_t timer[64], rest[KIT_TAIL_ROOM];
		struct gw__wr wr = gw__wr_over(timer, sizeof timer), wr2 = gw__wr_over(rest, sizeof rest);
		kit_put_device(&wr, 0, "timer", 0, 0x1122334455667788);
		kit_put_device(&wr2, 7, "apic", 0, 0xfee00900);
		kit_put_device(&wr2, 8, "apic", 1, 0x7e00000008000600);
		gw__wr_u8(&wr2, GW__ITEM_EOF);
		kit_put_description(&wr2);
		assert_ok(gw__image_create(image, &plain, &w, &error), error);
		assert_ok(gw__image_put_config(w, &config, &error), error);
		if (!after)
			assert_ok(gw__image_put_raw(w, timer, gw__wr_used(&wr), &error), error);
		assert_ok(gw__image_put_blocks(w, KIT_RAM_ID, &blocks, &error), error);
		if (after)
			assert_ok(gw__image_put_raw(w, timer, gw__wr_used(&wr), &error), error);
		assert_ok(gw__image_put_ram_end(w, &error), error);
		assert_ok(gw__image_put_raw(w, rest, gw__wr_used(&wr2), &error), error);
		assert_ok(gw__image_commit(w, &error), error);
		gw__image_writer_close(w);
		struct gw__image *im = open_good(0);
		check_device(im, 0, "timer", 0, 0x1122334455667788);
		assert_true(im->devices[0].early);
		assert_int_equal(im->devices[0].before_ram, !after);
		assert_false(im->devices[1].early || im->devices[2].early);
		assert_false(im->switchover);
		assert_int_equal(im->parts, 0);
		gw__image_close(im);
	}
	gw__blocks_fini(&blocks);
}

static void content_under_a_cleared_bit_is_never_read(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	struct gw__image_writer *w = kit_begin(image, &plain, &blocks, false);
	for (uint64_t i = 0; i < 131; i++)
		kit_put_page(w, 0, i, 0);
	for (uint64_t i = 0; i < 131; i++)
		if (i % 3)
			gw__image_put_zeros(w, 0, i * KIT_PAGE, 1);
	kit_finish(w);
	kit_check_absent();
	struct gw__image *im = open_good(0);
	uint8_t stale[KIT_PAGE];
	uint64_t page = 0;
	struct gw__error error = {0};
	int fd = open(image, O_WRONLY);
	kit_fill(stale, 0, 100, 0); /* as QEMU leaves it */
	assert_int_equal(pwrite(fd, stale + 4095, 1, (off_t)im->blocks.v[0].pages_off + 100 * KIT_PAGE + 4095), 1);
	assert_int_equal(pwrite(fd, stale, KIT_PAGE, (off_t)im->blocks.v[0].pages_off + 128 * KIT_PAGE), KIT_PAGE);
	close(fd);
	check_pages(im, 0, 131); /* it is not seen */
	assert_ok(gw__image_find_stale(im, 0, (struct gw__cancel_check){0}, &page, &error), error);
	assert_int_equal(page, 100); /* but found */
	gw__image_close(im);
	gw__blocks_fini(&blocks);
}

static int end_the_search(void *ctx)
{
	unsigned *left = ctx;
	return (*left)-- ? 0 : -ECANCELED;
}

/* Zeros under cleared bits that the file says are data, as on file systems without holes: eight pieces are read, and it can be ended at each. */
static void a_search_for_old_content_can_be_cancelled(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	struct gw__image_writer *w = kit_begin(image, &plain, &blocks, false);
	kit_put_page(w, 0, 0, 0);
	for (uint64_t i = 1; i < 131; i++)
		gw__image_put_zeros(w, 0, i * KIT_PAGE, 1);
	kit_finish(w);
	struct gw__image *im = open_good(0);
	struct gw__error error = {0};
	uint64_t page = 0;
	static uint8_t zeros[8 * 65536];
	int fd = open(image, O_WRONLY);
	assert_true(im->blocks.v[0].used_bytes >= sizeof zeros + KIT_PAGE);
	assert_int_equal(pwrite(fd, zeros, sizeof zeros, (off_t)im->blocks.v[0].pages_off + KIT_PAGE), (ssize_t)sizeof zeros);
	close(fd);
	for (unsigned n = 0; n < 8; n++) {
		unsigned left = n;
		assert_int_equal(gw__image_find_stale(im, 0, (struct gw__cancel_check){end_the_search, &left}, &page, &error), -ECANCELED);
	}
	unsigned enough = 1000;
	assert_ok(gw__image_find_stale(im, 0, (struct gw__cancel_check){end_the_search, &enough}, &page, &error), error);
	assert_int_equal(page, im->present[0].bits);
	gw__image_close(im);
	gw__blocks_fini(&blocks);
}

static void bytes_behind_the_end_are_told(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	kit_write_image(image, 0, &blocks);
	int fd = open(image, O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, "behind the end", 14), 14);
	close(fd);
	struct gw__image *im = open_good(0);
	assert_int_equal(im->file_bytes - im->end_off, 14);
	check_devices(im);
	gw__image_close(im);
	gw__blocks_fini(&blocks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each_in_a_folder(an_image_comes_back_from_any_offset),
		each_in_a_folder(ignored_blocks_have_no_pages),
		each_in_a_folder(early_devices_are_told_apart),
		each_in_a_folder(content_under_a_cleared_bit_is_never_read),
		each_in_a_folder(a_search_for_old_content_can_be_cancelled),
		each_in_a_folder(bytes_behind_the_end_are_told),
	};
	return cmocka_run_group_tests_name("image reader", tests, NULL, NULL);
}
