/* SPDX-License-Identifier: MIT */
/* What a process left that was killed behind the last page: ended without a source, and only when no page is missing. */
#include "image_kit.h"

#include <sys/wait.h>

#include "engine/sinks.h"
#include "engine/source.h"
#include "image/image.h"

enum { OTHER_RAM_ID = 9 };

static int put_the_end(struct gw__image_writer *w)
{
	struct gw__why why = {0};
	if (gw__image_set_ram_id(w, OTHER_RAM_ID, &why) || gw__image_put_ram_end(w, &why))
		return 1;
	kit_put_tail(w);
	return 0;
}

/* Memory alone, `missing` pages of it not there. With its end, which was not made safe any more, if it is whole. */
static void leave(uint64_t missing)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct gw__blocks blocks = kit_small_pc();
		struct gw__image_writer *w = kit_begin(image, &(struct gw__image_writer_opts){0}, &blocks, false);
		struct gw__config config;
		struct gw__why why = {0};
		kit_config(&config, false);
		gw__config_add_cap(&config, "mapped-ram");
		if (gw__image_begin_partial(w, &why) ||
			gw__image_hold(w, &config, (struct gw__view){0}, (struct gw__view){0}, (struct gw__view){0}, &why))
			_exit(1);
		for (uint32_t b = 0; b < 4; b++)
			for (uint64_t i = b ? 0 : missing; i < gw__image_received(w, b)->bits; i++)
				kit_put_page(w, b, i, 0);
		_exit(missing ? 0 : put_the_end(w));
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int end_alone(struct gw__stream_tally *tally)
{
	struct gw__run run;
	struct gw__sink *sink = NULL;
	struct gw__view note;
	bool fell_back;
	gw__run_init(&run);
	assert_ok(gw__sink_image_resume(image, &sink, &note, &fell_back, &run.why), run.why);
	int r = gw__pull_alone(&run, sink, tally);
	gw__sink_free(&sink);
	return r;
}

static void nothing_is_missing(void **s)
{
	(void)s;
	struct gw__stream_tally tally = {0};
	struct gw__image *im;
	struct gw__why why = {0};
	uint8_t got[KIT_PAGE], want[KIT_PAGE];
	leave(0);
	assert_int_equal(kit_count_entries(dir), 2);
	assert_int_equal(end_alone(&tally), 0);
	assert_int_equal(tally.state, GW__PS_COMPLETED);
	assert_int_equal(kit_count_entries(dir), 1);
	assert_ok(gw__image_open(image, 0, &im, &why), why);
	for (uint32_t b = 0; b < 4; b++)
		for (uint64_t i = 0; i < im->present[b].bits; i++) {
			kit_fill(want, b, i, 0);
			assert_ok(gw__image_read_pages(im, b, i, 1, got, &why), why);
			assert_memory_equal(got, want, KIT_PAGE);
		}
	assert_int_equal(im->devices_n, 0);
	gw__image_close(im);
}

static void pages_are_missing(void **s)
{
	(void)s;
	struct gw__stream_tally tally = {0};
	leave(7);
	assert_int_equal(end_alone(&tally), GW__SHORT);
	assert_int_equal(tally.missing_pages, 7);
	assert_int_equal(kit_count_entries(dir), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {each_in_a_folder(nothing_is_missing), each_in_a_folder(pages_are_missing)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
