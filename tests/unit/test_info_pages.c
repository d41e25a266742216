/* SPDX-License-Identifier: MIT */
/* Which pages are what, as gw_inspect tells it: present, in the working set, different from another image. Each is set by the test. */
#include "image_kit.h"

#include <sys/eventfd.h>

#include <godwit.h>

#include "image/read/working_set.h"
#include "image/read/working_set_record.h"
#include "lib/inspect_checkpoints.h"

static kit_path other, ws_path;

static int setup(void **state)
{
	kit_setup(state);
	kit_join(other, dir, "other");
	kit_join(ws_path, dir, "image.ws");
	return 0;
}

/* Block "a" has 200 pages, of which 3, 64..70 and 199 are there; "b" has 5, with page 4. Page 66 has another content in each generation. */
static void write_image(const char *path, uint32_t generation, bool with_more)
{
	struct gw__blocks blocks = {0};
	kit_add_block(&blocks, "a", 200 * KIT_PAGE, false);
	kit_add_block(&blocks, "b", 5 * KIT_PAGE, false);
	struct gw__image_writer *w = kit_begin(path, &(struct gw__image_writer_opts){0}, &blocks, false);
	kit_put_page(w, 0, 3, 0);
	for (uint64_t i = 64; i <= 70; i++)
		kit_put_page(w, 0, i, i == 66 ? generation : 0);
	kit_put_page(w, 0, 199, 0);
	kit_put_page(w, 1, 4, 0);
	if (with_more)
		kit_put_page(w, 0, 130, 0);
	kit_finish(w);
	gw__blocks_fini(&blocks);
}

static void record(uint32_t block, uint64_t first, uint64_t n)
{
	struct gw__image *im;
	struct gw__working_set *ws;
	struct gw__error error = {0}, note = {0};
	assert_ok(gw__image_open(image, 0, &im, &error), error);
	assert_int_equal(gw__working_set_open(ws_path, im, true, &ws, &note), 0);
	gw__working_set_add(ws, block, first, n);
	gw__working_set_close(ws);
	gw__image_close(im);
}

static gw_info *look(const struct gw_inspect_opts *o)
{
	gw_job *job;
	gw_info *info = NULL;
	assert_int_equal(gw_job_new(&job), 0);
	if (gw_inspect(job, image, o, &info))
		fail_msg("%s", gw_job_error(job));
	gw_job_free(job);
	return info;
}

static void expect(const gw_info *info, uint32_t block, uint64_t first, uint64_t n, uint64_t present, uint64_t wanted, uint64_t differing)
{
	struct gw_info_pages p = GW_INIT(p);
	assert_int_equal(gw_info_pages(info, block, first, n, &p), 0);
	if (p.present != present || p.working_set != wanted || p.differing != differing)
		fail_msg("pages %d+%d of block %u: %d present, %d wanted, %d differing; expected %d, %d, %d", (int)first, (int)n, block,
			(int)p.present, (int)p.working_set, (int)p.differing, (int)present, (int)wanted, (int)differing);
}

static void each_page_is_what_the_image_has(void **state)
{
	(void)state;
	struct gw_inspect_opts o = GW_INIT(o);
	o.pages = true;
	o.working_set = ws_path;
	write_image(image, 0, false);
	record(0, 65, 10);
	gw_info *info = look(&o);
	expect(info, 0, 0, 200, 9, 10, 0);
	expect(info, 0, 0, 3, 0, 0, 0);
	expect(info, 0, 3, 1, 1, 0, 0);
	expect(info, 0, 60, 8, 4, 3, 0);
	expect(info, 0, 199, 1, 1, 0, 0);
	expect(info, 0, 200, 0, 0, 0, 0);
	expect(info, 1, 0, 5, 1, 0, 0);
	struct gw_info_pages p = GW_INIT(p);
	assert_int_equal(gw_info_pages(info, 0, 199, 2, &p), -ERANGE);
	assert_int_equal(gw_info_pages(info, 0, UINT64_MAX, 2, &p), -ERANGE);
	assert_int_equal(gw_info_pages(info, 2, 0, 0, &p), -ERANGE);
	assert_null(gw_info_difference(info, 0));
	gw_info_free(info);
}

static void differing_pages_are_those_with_other_content(void **state)
{
	(void)state;
	struct gw_inspect_opts o = GW_INIT(o);
	o.pages = true;
	o.compare = other;
	write_image(image, 0, false);
	write_image(other, 1, true); /* page 66 has another content, and page 130 is there */
	gw_info *info = look(&o);
	expect(info, 0, 0, 200, 9, 0, 2);
	expect(info, 0, 66, 1, 1, 0, 1);
	expect(info, 0, 130, 1, 0, 0, 1);
	expect(info, 0, 67, 63, 4, 0, 0);
	expect(info, 1, 0, 5, 1, 0, 0);
	assert_non_null(strstr(gw_info_difference(info, 0), "2 of 200 pages differ, the first at offset 0x42000"));
	assert_null(gw_info_difference(info, 1));
	gw_info_free(info);
}

static void nobody_is_told_what_was_not_asked_for(void **state)
{
	(void)state;
	struct gw_info_pages p = GW_INIT(p);
	write_image(image, 0, false);
	gw_info *info = look(NULL);
	assert_int_equal(gw_info_pages(info, 0, 0, 1, &p), -ENODATA);
	gw_info_free(info);
}

/* The last record of a page counts. */
static void a_stream_has_them_too(void **state)
{
	(void)state;
	kit_path stream;
	kit_join(stream, dir, "stream");
	write_image(image, 0, false);
	gw_job *job;
	struct gw_convert_opts c = GW_INIT(c);
	c.to = GW_FORMAT_STREAM;
	assert_int_equal(gw_job_new(&job), 0);
	assert_int_equal(gw_convert(job, image, stream, &c), 0);
	assert_int_equal(rename(stream, image), 0);
	struct gw_inspect_opts o = GW_INIT(o);
	o.pages = true;
	gw_info *info = look(&o);
	expect(info, 0, 0, 200, 9, 0, 0);
	expect(info, 0, 64, 7, 7, 0, 0);
	expect(info, 1, 4, 1, 1, 0, 0);
	gw_info_free(info);
	o.compare = image;
	assert_int_equal(gw_inspect(job, image, &o, &info), -EINVAL);
	assert_non_null(strstr(gw_job_error(job), "godwit convert"));
	gw_job_free(job);
}

/* What follows a guest is read from its file once more, which may be long. */
static void looking_for_checkpoints_can_be_cancelled(void **state)
{
	(void)state;
	struct gw__checkpoints found;
	struct gw__run run;
	write_image(image, 0, false);
	gw__run_init(&run);
	run.cancel_fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(gw__inspect_checkpoints(&run, image, 0, KIT_PAGE, &found), 0);
	assert_int_equal(eventfd_write(run.cancel_fd, 1), 0);
	assert_int_equal(gw__inspect_checkpoints(&run, image, 0, KIT_PAGE, &found), -ECANCELED);
	close(run.cancel_fd);
}

#define each(f) cmocka_unit_test_setup_teardown(f, setup, kit_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		each(each_page_is_what_the_image_has),
		each(differing_pages_are_those_with_other_content),
		each(nobody_is_told_what_was_not_asked_for),
		each(a_stream_has_them_too),
		each(looking_for_checkpoints_can_be_cancelled),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
