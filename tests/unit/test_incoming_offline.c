/* SPDX-License-Identifier: MIT */
/* What a process left that was killed behind the last page: ended without a source, and only when no page is missing. */
#include "image_kit.h"

#include <sys/wait.h>

#include "engine/core/run.h"
#include "engine/sink/image_sink.h"
#include "engine/incoming/stream.h"
#include "image/read/image.h"

enum { OTHER_RAM_ID = 9 };

static int put_the_end(struct gw__image_writer *w)
{
	struct gw__error error = {0};
	if (gw__image_set_ram_id(w, OTHER_RAM_ID, &error) || gw__image_put_ram_end(w, &error))
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
		struct gw__error error = {0};
		kit_config(&config, false);
		gw__config_add_cap(&config, "mapped-ram");
		if (gw__image_begin_recv_state(w, &error) ||
			gw__image_persist_handover(w, &config, (struct gw__view){0}, (struct gw__view){0}, (struct gw__view){0}, &error))
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

static int end_alone(struct gw__incoming_result *result)
{
	struct gw__stream_stats stats = {0};
	struct gw__run run;
	struct gw__sink *sink = NULL;
	struct gw__view note;
	bool rolled_back;
	gw__run_init(&run);
	assert_ok(gw__sink_image_resume(image, &sink, &note, &rolled_back, &run.error), run.error);
	int r = gw__incoming_finish_offline(&run, sink, &stats, result);
	gw__sink_free(&sink);
	return r;
}

static void nothing_is_missing(void **s)
{
	(void)s;
	struct gw__incoming_result result = {0};
	struct gw__image *im;
	struct gw__error error = {0};
	uint8_t got[KIT_PAGE], want[KIT_PAGE];
	leave(0);
	assert_int_equal(kit_count_entries(dir), 2);
	assert_int_equal(end_alone(&result), 0);
	assert_int_equal(result.state, GW__POSTCOPY_DST_COMPLETED);
	assert_int_equal(kit_count_entries(dir), 1);
	assert_ok(gw__image_open(image, 0, &im, &error), error);
	for (uint32_t b = 0; b < 4; b++)
		for (uint64_t i = 0; i < im->present[b].bits; i++) {
			kit_fill(want, b, i, 0);
			assert_ok(gw__image_read_pages(im, b, i, 1, got, &error), error);
			assert_memory_equal(got, want, KIT_PAGE);
		}
	assert_int_equal(im->devices_n, 0);
	gw__image_close(im);
}

static void pages_are_missing(void **s)
{
	(void)s;
	struct gw__incoming_result result = {0};
	leave(7);
	assert_int_equal(end_alone(&result), GW__MISSING);
	assert_int_equal(result.missing_pages, 7);
	assert_int_equal(kit_count_entries(dir), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {each_in_a_folder(nothing_is_missing), each_in_a_folder(pages_are_missing)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
