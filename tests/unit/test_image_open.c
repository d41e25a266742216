/* SPDX-License-Identifier: MIT */
/* What happens on the way in and while an image is open: other files, descriptors, files that shrink, claims
 * of size. */
#include "image_kit.h"

#include <sys/resource.h>

#include "image/read/image.h"

static void expect_refused(uint64_t base_off, int code, const char *says)
{
	struct gw__image *im = (void *)1;
	struct gw__error error = {0};
	int r = gw__image_open(image, base_off, &im, &error);
	if (r != code)
		fail_msg("%d, expected %d (%s)", r, code, error.text);
	assert_null(im);
	assert_says(error, says);
	assert_says(error, image);
}

static void what_is_no_image_is_named(void **state)
{
	(void)state;
	uint8_t head[256];
	struct gw__config config;
	struct gw__error error = {0};
	struct gw__wr wr = gw__wr_over(head, sizeof head);
	kit_config(&config, false);
	gw__header_encode(&wr);
	gw__config_encode(&wr, &config);
	gw__wr_u8(&wr, GW__ITEM_START);
	kit_write_file(image, head, gw__wr_used(&wr), 0600);
	int fd = open(image, O_RDONLY);
	assert_int_equal(gw__image_probe(fd, 0, &error), 0);
	close(fd);
	expect_refused(0, -EPROTO, "is a plain migration stream");
	expect_refused(0, -EPROTO, "godwit inspect");
	expect_refused(0, -EPROTO, "godwit convert");
	kit_write_file(image, head, gw__wr_used(&wr) - 8, 0600);
	fd = open(image, O_RDONLY);
	assert_int_equal(gw__image_probe(fd, 0, &error), -EPROTO);
	assert_says(error, "ends inside the head");
	close(fd);
	kit_write_file(image, "no stream at all", 16, 0600);
	fd = open(image, O_RDONLY);
	gw__error_clear(&error);
	assert_int_equal(gw__image_probe(fd, 0, &error), -EPROTO);
	close(fd);
	expect_refused(0, -EPROTO, "not a migration stream");
	kit_write_file(image, "", 0, 0600);
	expect_refused(0, -EPROTO, "0 bytes");
	unlink(image);
	expect_refused(0, -ENOENT, "cannot open");
	assert_int_equal(mkfifo(image, 0600), 0);
	expect_refused(0, -EINVAL, "is neither a file nor a block device");
	unlink(image);
	assert_int_equal(mkdir(image, 0700), 0);
	expect_refused(0, -EINVAL, "is neither a file nor a block device");
}

static void probe_knows_an_image(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	struct gw__error error = {0};
	kit_write_image(image, 777, &blocks);
	expect_refused(0, -EPROTO, "not a migration stream");
	expect_refused(1 << 30, -EPROTO, "no image can begin at offset 1073741824");
	int fd = open(image, O_RDONLY);
	assert_int_equal(gw__image_probe(fd, 777, &error), 1);
	assert_int_equal(gw__image_probe(fd, 0, &error), -EPROTO);
	close(fd);
	gw__blocks_fini(&blocks);
}

static void a_descriptor_is_taken_in_either_case(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	struct gw__image *im;
	struct gw__error error = {0};
	kit_write_image(image, 0, &blocks);
	int fd = open(image, O_RDONLY);
	unlink(image); /* works on what has no name any more */
	assert_ok(gw__image_open_fd(fd, "nameless", 0, &im, &error), error);
	uint8_t got[KIT_PAGE], want[KIT_PAGE];
	kit_fill(want, 0, 3, 0);
	assert_ok(gw__image_read_pages(im, 0, 3, 1, got, &error), error);
	assert_memory_equal(got, want, sizeof got);
	gw__image_close(im);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	fd = open("/dev/null", O_RDONLY);
	assert_int_equal(gw__image_open_fd(fd, "nameless", 0, &im, &error), -EINVAL);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	gw__blocks_fini(&blocks);
}

static void a_file_that_shrinks_while_open_is_an_error(void **state)
{
	(void)state;
	struct gw__blocks blocks = kit_small_pc();
	uint8_t got[KIT_PAGE];
	struct gw__error error = {0};
	kit_write_image(image, 0, &blocks);
	struct gw__image *im;
	assert_ok(gw__image_open(image, 0, &im, &error), error);
	assert_int_equal(truncate(image, 0x100000 + 100), 0);
	assert_int_equal(gw__image_read_pages(im, 0, 0, 1, got, &error), -ENODATA);
	assert_says(error, "block \"pc.ram\"");
	assert_says(error, "ends at offset 1048676");
	gw__error_clear(&error);
	assert_ok(gw__image_read_pages(im, 0, 1, 1, got, &error), error); /* has no bit: nothing is read */
	gw__image_close(im);
	gw__blocks_fini(&blocks);
}

/* A file of holes costs its author nothing; it must not cost us what it claims to hold. */
static void a_huge_guest_of_holes_is_opened_cheaply(void **state)
{
	(void)state;
	struct gw__blocks blocks = {0};
	struct gw__error error = {0};
	struct gw__image *im;
	kit_add_block(&blocks, "m0", UINT64_C(1) << 42, false);
	struct gw__image_writer *w = kit_begin(image, &(struct gw__image_writer_opts){0}, &blocks, false);
	kit_put_page(w, 0, (UINT64_C(1) << 30) - 1, 0);
	kit_finish(w);
	struct rusage before, after;
	getrusage(RUSAGE_SELF, &before);
	assert_ok(gw__image_open(image, 0, &im, &error), error);
	getrusage(RUSAGE_SELF, &after);
	if (after.ru_maxrss - before.ru_maxrss > 32 * 1024)
		fail_msg("%ld kB for a bitmap of holes", after.ru_maxrss - before.ru_maxrss);
	assert_int_equal(gw__bitmap_next_set(&im->present[0], (UINT64_C(1) << 30) - 64), (UINT64_C(1) << 30) - 1);
	gw__image_close(im);
	gw__blocks_fini(&blocks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each_in_a_folder(what_is_no_image_is_named),
		each_in_a_folder(probe_knows_an_image),
		each_in_a_folder(a_descriptor_is_taken_in_either_case),
		each_in_a_folder(a_file_that_shrinks_while_open_is_an_error),
		each_in_a_folder(a_huge_guest_of_holes_is_opened_cheaply),
	};
	return cmocka_run_group_tests_name("image open", tests, NULL, NULL);
}
