/* SPDX-License-Identifier: MIT */
/* gw_partial_info: what is said of each kind of PATH.partial, and that looking changes nothing. */
#include "image_kit.h"

#include <godwit.h>

#include "image/journal/recv_state.h"

enum { HELD_PAGES = 40, ZERO_PAGES = 3 };

static gw_job *job;

static struct gw__view view(const char *text) { return (struct gw__view){(const uint8_t *)text, strlen(text)}; }

static struct gw__image_writer *begin(uint64_t *pages)
{
	struct gw__blocks blocks = kit_small_pc();
	struct gw__image_writer *w = kit_begin(image, &(struct gw__image_writer_opts){0}, &blocks, false);
	struct gw__error error = {0};
	*pages = blocks.total_bytes / KIT_PAGE;
	gw__blocks_fini(&blocks);
	assert_ok(gw__image_begin_recv_state(w, &error), error);
	return w;
}

static void persist(struct gw__image_writer *w, const char *package)
{
	struct gw__config config;
	struct gw__error error = {0};
	kit_config(&config, false);
	gw__config_add_cap(&config, "mapped-ram");
	assert_ok(gw__image_persist_handover(w, &config, view("early"), view(package), view("words"), &error), error);
	for (unsigned i = 0; i < HELD_PAGES; i++)
		kit_put_page(w, 0, i, 0);
	gw__image_put_zeros(w, 1, 0, ZERO_PAGES);
}

static struct gw_partial_info look(void)
{
	struct gw_partial_info info = GW_INIT(info);
	int r = gw_partial_info(job, image, &info);
	if (r)
		fail_msg("%d: %s", r, gw_job_error(job));
	return info;
}

static void what_it_is(const char *package, enum gw_partial_kind kind)
{
	uint64_t pages;
	struct gw__image_writer *w = begin(&pages);
	persist(w, package);
	struct gw_partial_info info = GW_INIT(info);
	assert_int_equal(gw_partial_info(job, image, &info), -EBUSY);
	gw__image_writer_close(w);
	for (int twice = 0; twice < 2; twice++) {
		info = look();
		assert_int_equal(info.kind, kind);
		assert_string_equal(info.machine, "pc-i440fx-10.0");
		assert_int_equal(info.page_bytes, KIT_PAGE);
		assert_int_equal(info.ram_bytes, pages * KIT_PAGE);
		assert_int_equal(info.blocks, 4);
		assert_int_equal(info.missing_pages, pages - HELD_PAGES - ZERO_PAGES);
		assert_int_equal(info.device_bytes, strlen("early") + strlen(package));
		assert_int_equal(info.user_data_bytes, strlen("words"));
		assert_false(info.host_crashed);
		assert_int_equal(kit_count_entries(dir), 2);
	}
}

static void a_guest(void **state)
{
	(void)state;
	what_it_is("package", GW_PARTIAL_GUEST);
}

static void memory_alone(void **state)
{
	(void)state;
	what_it_is("", GW_PARTIAL_MEMORY);
}

static void nothing_is_there(void **state)
{
	(void)state;
	struct gw_partial_info info = GW_INIT(info);
	assert_int_equal(gw_partial_info(job, image, &info), -ENOENT);
	assert_int_equal(info.ram_bytes, 0);
	assert_string_not_equal(gw_job_error(job), "");
}

static void damaged(void **state)
{
	(void)state;
	uint64_t pages;
	struct gw__image_writer *w = begin(&pages);
	persist(w, "package");
	gw__image_writer_close(w);
	kit_path path;
	kit_join(path, dir, "image.partial.state");
	int fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "?", 1, 17), 1);
	close(fd);
	struct gw_partial_info info = GW_INIT(info);
	assert_int_equal(gw_partial_info(job, image, &info), -EPROTO);
}

static int set_up(void **state) { return gw_job_new(&job) || kit_setup(state); }

static int tear_down(void **state)
{
	gw_job_free(job);
	return kit_teardown(state);
}
#define each(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {each(a_guest), each(memory_alone), each(nothing_is_there), each(damaged)};
	return cmocka_run_group_tests_name("partial_info", tests, NULL, NULL);
}
