/* SPDX-License-Identifier: MIT */
/* Working sets: what was recorded is read again; torn, garbled and foreign files, and those of others, do no harm and are left alone. */
#include "image_kit.h"

#include <sys/file.h>

#include "base/math.h"
#include "image/read/working_set.h"
#include "image/read/working_set_record.h" /* to come between reading and recording */

static kit_path ws_path;
static struct gw__image *im;

/* Whose guest has run for so many ticks, more or less, when it was saved. */
static void make_image(uint8_t ticks, uint64_t base_off)
{
	static const uint8_t state[] = {0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88};
	struct gw__blocks blocks = kit_small_pc();
	size_t n;
	kit_write_image(image, base_off, &blocks);
	uint8_t *bytes = kit_read_file(image, &n), *at = memmem(bytes, n, state, sizeof state);
	assert_non_null(at);
	at[7] = ticks;
	kit_write_file(image, bytes, n, 0600);
	free(bytes);
	gw__blocks_fini(&blocks);
}

static void open_image(uint64_t base_off)
{
	struct gw__error error = {0};
	gw__image_close(im);
	assert_ok(gw__image_open(image, base_off, &im, &error), error);
}

static int setup(void **state)
{
	kit_setup(state);
	kit_join(ws_path, dir, "image.ws");
	make_image(1, 0);
	open_image(0);
	return 0;
}

static int teardown(void **state)
{
	gw__image_close(im);
	im = NULL;
	return kit_teardown(state);
}

static struct gw__working_set *open_ws(bool record, const char *says)
{
	struct gw__working_set *ws;
	struct gw__error note = {0};
	assert_int_equal(gw__working_set_open(ws_path, im, record, &ws, &note), 0);
	if (!says)
		assert_string_equal(note.text, "");
	else
		assert_says(note, says);
	return ws;
}

static void expect_runs(const struct gw__working_set *ws, const struct gw__ws_pages *want, uint32_t n)
{
	assert_int_equal(ws->runs, n);
	for (uint32_t i = 0; i < n; i++) {
		assert_int_equal(ws->run[i].block, want[i].block);
		assert_int_equal(ws->run[i].first, want[i].first);
		assert_int_equal(ws->run[i].n, want[i].n);
	}
}

/* Two chunks: pages 9, 7, 8 of block 0 and page 2 of block 2; then 20..22 of block 0. */
static void record_some(void)
{
	struct gw__working_set *ws = open_ws(true, NULL);
	gw__working_set_add(ws, 0, 9, 1);
	gw__working_set_add(ws, 2, 2, 1);
	gw__working_set_add(ws, 0, 7, 2);
	gw__working_set_flush(ws);
	gw__working_set_add(ws, 0, 20, 2);
	gw__working_set_add(ws, 0, 22, 1);
	gw__working_set_add(ws, 0, 8, 1); /* known */
	gw__working_set_close(ws);
}

static const struct gw__ws_pages some[] = {{0, 7, 3}, {2, 2, 1}, {0, 20, 3}};

static void what_was_recorded_is_read(void **state)
{
	record_some();
	struct gw__working_set *ws = open_ws(false, NULL);
	assert_int_equal(ws->state, GW__WS_THERE);
	expect_runs(ws, some, GW__LEN(some));
	assert_int_equal(gw__bitmap_count(&ws->known[0]), 6);
	assert_int_equal(gw__bitmap_count(&ws->known[2]), 1);
	assert_true(ws->head.begun_s > 1600000000 && ws->added_s >= ws->head.begun_s);
	assert_int_equal(ws->torn_bytes, 0);
	assert_int_equal(ws->end_off, 64 + (24 + 3 * 8) + (24 + 8)); /* 7 and 8 came in one request, 20 to 22 in a row */
	gw__working_set_close(ws);
}

static void it_grows_by_what_is_new(void **state)
{
	record_some();
	struct gw__working_set *ws = open_ws(true, NULL);
	expect_runs(ws, some, GW__LEN(some));
	gw__working_set_add(ws, 0, 18, 6); /* 18, 19, 23 */
	gw__working_set_close(ws);
	ws = open_ws(false, NULL);
	const struct gw__ws_pages more[] = {some[0], some[1], some[2], {0, 18, 2}, {0, 23, 1}};
	expect_runs(ws, more, GW__LEN(more));
	gw__working_set_close(ws);
}

static void without_requests_there_is_no_file(void **state)
{
	struct gw__working_set *ws = open_ws(true, NULL);
	assert_int_equal(access(ws_path, F_OK), 0);
	gw__working_set_close(ws);
	assert_int_equal(kit_count_entries(dir), 1);
	ws = open_ws(false, NULL);
	assert_int_equal(ws->state, GW__WS_NONE);
	assert_int_equal(ws->runs, 0);
	gw__working_set_add(ws, 0, 1, 1); /* nobody records */
	gw__working_set_close(ws);
	assert_int_equal(kit_count_entries(dir), 1);
}

/* Every length of the file: what is whole counts, the rest is cut off by who records. */
static void a_torn_end_is_ignored(void **state)
{
	size_t n, first = 64 + 24 + 3 * 8;
	record_some();
	uint8_t *bytes = kit_read_file(ws_path, &n);
	for (size_t cut = 64; cut < n; cut++) {
		kit_write_file(ws_path, bytes, cut, 0600);
		size_t whole = cut < first ? 64 : first;
		struct gw__working_set *ws = open_ws(true, NULL);
		expect_runs(ws, some, cut < first ? 0 : 2);
		assert_int_equal(ws->end_off, whole);
		assert_int_equal(ws->torn_bytes, cut - whole);
		gw__working_set_add(ws, 3, 0, 1);
		gw__working_set_close(ws);
		ws = open_ws(false, NULL);
		assert_int_equal(ws->runs, cut < first ? 1 : 3);
		assert_int_equal(ws->torn_bytes, 0);
		gw__working_set_close(ws);
	}
	free(bytes);
}

/* Every byte of it. What is wrong in a chunk ends the reading there; what is wrong in the header is the end of all. */
static void a_damaged_byte_is_noticed(void **state)
{
	size_t n, first = 64 + 24 + 3 * 8, kept;
	record_some();
	uint8_t *bytes = kit_read_file(ws_path, &n);
	for (size_t at = 0; at < n; at++) {
		bytes[at] ^= 0x10;
		kit_write_file(ws_path, bytes, n, 0600);
		struct gw__working_set *ws = open_ws(false, at < 64 ? "image.ws is " : NULL);
		assert_int_equal(ws->state, at < 64 ? GW__WS_UNKNOWN : GW__WS_THERE);
		assert_int_equal(ws->runs, at < first ? 0 : 2);
		gw__working_set_close(ws);
		if (at < 64) { /* and nobody writes into what may be somebody's */
			gw__working_set_close(open_ws(true, "left as it is"));
			free(kit_read_file(ws_path, &kept));
			assert_int_equal(kept, n);
		}
		bytes[at] ^= 0x10;
	}
	free(bytes);
}

static void files_that_are_none_are_left_alone(void **state)
{
	static const char *const texts[] = {"", "G", "GWWS\r\n\x1a\n", "my notes about this image"};
	for (size_t i = 0; i < GW__LEN(texts); i++) {
		size_t n;
		kit_write_file(ws_path, texts[i], strlen(texts[i]), 0600);
		struct gw__working_set *ws = open_ws(true, "no working set");
		assert_int_equal(ws->fd, -1);
		gw__working_set_add(ws, 0, 1, 1);
		gw__working_set_close(ws);
		uint8_t *bytes = kit_read_file(ws_path, &n);
		assert_int_equal(n, strlen(texts[i]));
		assert_memory_equal(bytes, texts[i], n);
		free(bytes);
	}
	unlink(ws_path);
	assert_int_equal(mkdir(ws_path, 0700), 0);
	gw__working_set_close(open_ws(true, "not a regular file"));
	rmdir(ws_path);
	assert_int_equal(mkfifo(ws_path, 0600), 0); /* and nobody waits for its writer */
	gw__working_set_close(open_ws(true, "not a regular file"));
	unlink(ws_path);
}

/* Of a file that is not ours: what lies there, or nothing, as before. */
static void expect_file(const char *path, const void *bytes, size_t n)
{
	size_t there;
	if (!bytes) {
		assert_int_equal(access(path, F_OK), -1);
		return;
	}
	uint8_t *read = kit_read_file(path, &there);
	assert_int_equal(there, n);
	assert_memory_equal(read, bytes, n);
	free(read);
}

static void a_link_is_not_followed(void **state)
{
	kit_path victim;
	size_t n;
	record_some();
	uint8_t *good = kit_read_file(ws_path, &n);
	kit_join(victim, dir, "victim");
	const uint8_t *const there[] = {NULL, good, (const uint8_t *)""};
	for (size_t i = 0; i < GW__LEN(there); i++) {
		if (there[i])
			kit_write_file(victim, there[i], there[i] == good ? n : 0, 0600);
		unlink(ws_path);
		assert_int_equal(symlink(i ? "victim" : victim, ws_path), 0);
		struct gw__working_set *ws = open_ws(true, "without following a link");
		assert_int_equal(ws->state, GW__WS_UNKNOWN);
		expect_runs(ws, NULL, 0);
		gw__working_set_add(ws, 0, 100, 1);
		gw__working_set_close(ws);
		expect_file(victim, there[i], there[i] == good ? n : 0);
	}
	unlink(ws_path);
	assert_int_equal(symlink("image.ws", ws_path), 0);
	gw__working_set_close(open_ws(true, "without following a link"));
	free(good);
}

/* What was read is gone when it is to be recorded: another file of its size lies there, or a link to one. */
static void record_in_place_of_what_was_read(enum gw__ws_state read, bool link)
{
	kit_path victim;
	size_t n;
	uint8_t *torn = kit_read_file(ws_path, &n);
	kit_join(victim, dir, "victim");
	struct gw__working_set *ws = open_ws(false, read == GW__WS_FOREIGN ? "recorded of another image" : NULL);
	assert_int_equal(ws->state, read);
	kit_write_file(victim, torn, n, 0600);
	unlink(ws_path);
	assert_int_equal(link ? symlink("victim", ws_path) : rename(victim, ws_path), 0);
	assert_int_equal(gw__ws_record_begin(ws), 0);
	assert_int_equal(ws->fd, -1);
	assert_int_not_equal(ws->unrecorded.code, 0);
	gw__working_set_add(ws, 0, 100, 1);
	gw__working_set_close(ws);
	expect_file(link ? victim : ws_path, torn, n);
	unlink(ws_path);
	unlink(victim);
	free(torn);
}

static void nothing_is_written_into_what_was_not_read(void **state)
{
	size_t n;
	record_some();
	uint8_t *bytes = kit_read_file(ws_path, &n);
	for (int link = 0; link < 2; link++) {
		kit_write_file(ws_path, bytes, n - 1, 0600); /* its torn end would be cut off */
		record_in_place_of_what_was_read(GW__WS_THERE, link);
	}
	make_image(2, 0);
	open_image(0);
	kit_write_file(ws_path, bytes, n, 0600);
	record_in_place_of_what_was_read(GW__WS_FOREIGN, true);
	free(bytes);
}

static void a_newer_version_is_left_alone(void **state)
{
	size_t n;
	record_some();
	uint8_t *bytes = kit_read_file(ws_path, &n);
	bytes[11] = 2;
	kit_write_file(ws_path, bytes, n, 0600);
	gw__working_set_close(open_ws(true, "version 2"));
	free(bytes);
}

/* The guest ran and was saved again: nothing of the old one is used, and the next recording replaces it. */
static void another_image_has_another_one(void **state)
{
	record_some();
	make_image(2, 0);
	open_image(0);
	struct gw__working_set *ws = open_ws(false, "recorded of another image");
	assert_int_equal(ws->state, GW__WS_FOREIGN);
	expect_runs(ws, NULL, 0);
	gw__working_set_close(ws);
	ws = open_ws(true, "recorded of another image");
	gw__working_set_add(ws, 1, 5, 1);
	gw__working_set_close(ws);
	ws = open_ws(false, NULL);
	expect_runs(ws, &(struct gw__ws_pages){1, 5, 1}, 1);
	gw__working_set_close(ws);
	assert_int_equal(kit_count_entries(dir), 2);
}

/* Wherever it lies in a file, and whatever pages it left out: the same guest at the same moment. */
static void a_copy_has_the_same_one(void **state)
{
	record_some();
	make_image(1, KIT_MIB);
	open_image(KIT_MIB);
	struct gw__working_set *ws = open_ws(false, NULL);
	expect_runs(ws, some, GW__LEN(some));
	gw__working_set_close(ws);
}

/* Pages that the image does not have: a valid checksum does not help. */
static void pages_outside_end_it(void **state)
{
	static const struct gw__ws_run wrong[] = {{4, 1, 0}, {65535, 1, 0}, {0, 1, 131}, {0, 2, 130}, {0, 65535, 1}, {3, 1, UINT32_MAX}};
	for (size_t i = 0; i < GW__LEN(wrong); i++) {
		uint8_t room[256];
		struct gw__wr c = gw__wr_over(room, sizeof room);
		struct gw__ws_head h = {.page_bytes = KIT_PAGE};
		struct gw__ws_run good = {0, 1, 130}, both[] = {good, wrong[i]};
		assert_int_equal(gw__image_fingerprint(im, h.fingerprint, NULL), 0);
		gw__ws_head_encode(&c, &h);
		gw__ws_chunk_encode(&c, h.seed, 1, &good, 1);
		gw__ws_chunk_encode(&c, h.seed, 1, both, 2);
		gw__ws_chunk_encode(&c, h.seed, 1, &good, 1);
		kit_write_file(ws_path, room, gw__wr_used(&c), 0600);
		struct gw__working_set *ws = open_ws(false, NULL);
		expect_runs(ws, &(struct gw__ws_pages){0, 130, 1}, 1);
		assert_true(ws->torn_bytes > 0);
		gw__working_set_close(ws);
	}
}

static void only_one_records(void **state)
{
	struct gw__working_set *first = open_ws(true, NULL);
	gw__working_set_add(first, 0, 1, 1);
	gw__working_set_flush(first);
	struct gw__working_set *second = open_ws(true, NULL);
	assert_int_equal(second->runs, 1); /* but it may read */
	assert_int_equal(second->fd, -1);
	assert_says(second->unrecorded, "another page server");
	gw__working_set_add(second, 0, 5, 1);
	gw__working_set_close(second);
	gw__working_set_close(first);
	second = open_ws(true, NULL);
	assert_int_equal(second->runs, 1);
	assert_true(second->fd >= 0);
	gw__working_set_close(second);
}

static void a_folder_without_rights_is_no_error(void **state)
{
	if (geteuid() == 0) /* who may write everywhere, but not where nothing is */
		kit_join(ws_path, dir, "nothing/image.ws");
	assert_int_equal(chmod(dir, 0500), 0);
	struct gw__working_set *ws = open_ws(true, NULL);
	assert_int_equal(ws->fd, -1);
	assert_int_not_equal(ws->unrecorded.code, 0);
	gw__working_set_add(ws, 0, 1, 1);
	gw__working_set_flush(ws);
	gw__working_set_close(ws);
	chmod(dir, 0700);
}

/* Far more than is kept: the file stays within its limit and whole. */
static void it_is_bounded(void **state)
{
	enum { RUNS = 3 << 18 };
	struct gw__image big = *im;
	struct gw__blocks blocks = {0};
	kit_add_block(&blocks, "big", (uint64_t)2 * RUNS * KIT_PAGE, false);
	big.blocks = blocks;
	struct gw__working_set *ws;
	struct gw__error note = {0};
	size_t n;
	assert_int_equal(gw__working_set_open(ws_path, &big, true, &ws, &note), 0);
	for (uint64_t i = 0; i < RUNS; i++)
		gw__working_set_add(ws, 0, 2 * i, 1);
	gw__working_set_close(ws);
	free(kit_read_file(ws_path, &n));
	assert_in_range(n, GW__WS_FILE_BYTES_MAX - 4096, GW__WS_FILE_BYTES_MAX);
	assert_int_equal(gw__working_set_open(ws_path, &big, true, &ws, &note), 0);
	assert_int_equal(ws->torn_bytes, 0);
	assert_in_range(ws->runs, 400000, RUNS);
	gw__working_set_close(ws);
	gw__blocks_fini(&blocks);
}

#define each(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		each(what_was_recorded_is_read),
		each(it_grows_by_what_is_new),
		each(without_requests_there_is_no_file),
		each(a_torn_end_is_ignored),
		each(a_damaged_byte_is_noticed),
		each(files_that_are_none_are_left_alone),
		each(a_link_is_not_followed),
		each(nothing_is_written_into_what_was_not_read),
		each(a_newer_version_is_left_alone),
		each(another_image_has_another_one),
		each(a_copy_has_the_same_one),
		each(pages_outside_end_it),
		each(only_one_records),
		each(a_folder_without_rights_is_no_error),
		each(it_is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
