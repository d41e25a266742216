/* SPDX-License-Identifier: MIT */
/* A good image as bytes, to be damaged, and where things are in it. */
#ifndef GW_TESTS_IMAGE_GOOD_H
#define GW_TESTS_IMAGE_GOOD_H

#include "image_kit.h"

#include "image/read/image.h"

/* Where things are in the image of kit_small_pc at offset 0. */
enum {
	CAPABILITY = 64,
	TOTAL = 0x5b,
	NAME = 0x64,
	USED = 0x6a,
	VERSION = 0x72,
	PAGE_SIZE = 0x76,
	BITMAP_OFF = 0x7e,
	PAGES_OFF = 0x86,
	BITMAP = 0x8e,
	BITMAP_END = BITMAP + 24, /* 131 pages */
	PAGES = 0x100000,
	PAGES_END = PAGES + 131 * KIT_PAGE,
	NEXT_NAME = PAGES_END + 1, /* of "/rom@etc/acpi/tables" */
	NEXT_USED = NEXT_NAME + 20,
	NEXT_BITMAP_OFF = NEXT_USED + 8 + 12,
	NEXT_PAGES_OFF = NEXT_BITMAP_OFF + 8,
	LAST_END = 0x400000 + KIT_PAGE, /* the last block's pages end: EOS and footer of START */
	PART = LAST_END + 13,
	SWITCHOVER = PART + 18,
	END = SWITCHOVER + 5,
	DEVICES = END + 18,
};

static uint8_t *good; /* the bytes of a good image */
static size_t good_n;

static inline int make_good(void **state)
{
	kit_setup(state);
	struct gw__blocks blocks = kit_small_pc();
	kit_write_image(image, 0, &blocks);
	good = kit_read_file(image, &good_n);
	gw__blocks_fini(&blocks);
	return 0;
}

static inline int drop_good(void **state)
{
	free(good);
	return kit_teardown(state);
}

static inline int open_bytes(const uint8_t *bytes, size_t n, struct gw__image **im, struct gw__error *error)
{
	kit_write_file(image, bytes, n, 0600);
	return gw__image_open(image, 0, im, error);
}

static inline void expect_refused(const char *what, const uint8_t *bytes, size_t n, const char *says, const char *says_too)
{
	struct gw__image *im;
	struct gw__error error = {0};
	int r = open_bytes(bytes, n, &im, &error);
	if (r != -EPROTO)
		fail_msg("%s: %d (%s)", what, r, error.text);
	if (!strstr(error.text, says) || !strstr(error.text, says_too) || !strstr(error.text, image))
		fail_msg("%s: \"%s\" does not say \"%s\" and \"%s\"", what, error.text, says, says_too);
}

#define on_a_good_image(f) cmocka_unit_test_setup_teardown(f, make_good, drop_good)

#endif
