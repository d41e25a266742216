/* SPDX-License-Identifier: MIT */
/* What the tests of an image's place share: the file that was there before, a writer that stops anywhere, a
 * refusal. */
#ifndef GW_TESTS_IMAGE_PLACE_H
#define GW_TESTS_IMAGE_PLACE_H

#include "image_kit.h"

static const char kit_old_content[] = "what was there before";

static inline void kit_put_old_file(void) { kit_write_file(image, kit_old_content, sizeof kit_old_content, 0640); }

static inline void kit_check_old_file(void)
{
	size_t n;
	uint8_t *bytes = kit_read_file(image, &n);
	assert_int_equal(n, sizeof kit_old_content);
	assert_memory_equal(bytes, kit_old_content, n);
	free(bytes);
}

/* Leaves at step `steps` of a save. */
static inline void kit_write_up_to(const char *path, int steps, bool visible)
{
	const struct gw__image_writer_opts o = {.base_off = 7, .visible = visible};
	struct gw__blocks blocks = kit_small_pc();
	struct gw__config config;
	struct gw__image_writer *w;
	struct gw__error error = {0};
	kit_config(&config, false);
	assert_ok(gw__image_create(path, &o, &w, &error), error);
	if (steps > 0)
		assert_ok(gw__image_put_config(w, &config, &error), error);
	if (steps > 1)
		assert_ok(gw__image_put_blocks(w, KIT_RAM_ID, &blocks, &error), error);
	if (steps > 2)
		kit_put_page(w, 0, 5, 1);
	if (steps > 3)
		assert_ok(gw__image_put_ram_end(w, &error), error);
	if (steps > 4)
		kit_put_tail(w);
	if (steps > 5)
		assert_ok(gw__image_commit(w, &error), error);
	gw__image_writer_close(w);
	gw__blocks_fini(&blocks);
}

static inline void kit_expect_refused(const char *path, int code, const char *says)
{
	const struct gw__image_writer_opts o = {0};
	struct gw__image_writer *w = (void *)1;
	struct gw__error error = {0};
	int r = gw__image_create(path, &o, &w, &error);
	if (r != code)
		fail_msg("%s: %d, expected %d (%s)", path, r, code, error.text);
	assert_null(w);
	assert_says(error, says);
}

#endif
