/* SPDX-License-Identifier: MIT */
/* Lanes, by every way they can write: the image must be, byte for byte, the one that is written without them.
 */
#include "page_writer_kit.h"

#include <pthread.h>

#include "image/read/image.h"

enum { LANES = 3, BLOCKS = 4, PACKET = GW__PAGE_WRITER_BUFFER_BYTES / KIT_PAGE, STEPS = 60 };

static uint64_t seed;

static uint64_t any_below(uint64_t n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % n;
}

/* Blocks whose ends lie before, at and behind the last unit that goes past the page cache, and far smaller
 * ones. */
static struct gw__blocks some_blocks(void)
{
	struct gw__blocks blocks = {0};
	kit_add_block(&blocks, "pc.ram", 1031 * KIT_PAGE, false);
	kit_add_block(&blocks, "/rom@etc/acpi/tables", 64 * KIT_PAGE, false);
	kit_add_block(&blocks, "0000:00:02.0/vga.vram", 81 * KIT_PAGE, false);
	kit_add_block(&blocks, "/rom@etc/acpi/rsdp", KIT_PAGE, false);
	return blocks;
}

/* A packet as a guest sends it: ascending, in runs and alone, some of it zeros; or in any order. */
static uint32_t make_packet(uint64_t pages, uint64_t *index, unsigned *generation)
{
	uint32_t n = 0;
	uint64_t at = any_below(pages), stride = any_below(3) ? 1 : 1 + any_below(9), most = 1 + any_below(PACKET);
	bool ascending = any_below(4) > 0;
	for (; n < most; n++) {
		if (at >= pages)
			break;
		index[n] = at;
		generation[n] = any_below(5) ? 1 + (unsigned)any_below(1000) : 0;
		at = ascending ? at + stride + (any_below(10) == 0) : any_below(pages);
	}
	return n;
}

static void put_in_order(struct gw__image_writer *w, uint32_t block, const uint64_t *index, const unsigned *generation, uint32_t n)
{
	static uint8_t page[KIT_PAGE + 8];
	struct gw__error error = {0};
	for (uint32_t i = 0; i < n; i++) {
		const struct iovec iov = {page + 3, KIT_PAGE}; /* nobody asks it to be aligned */
		memset(page, 0, sizeof page);
		if (generation[i])
			kit_fill(page + 3, block, index[i], generation[i]);
		assert_ok(gw__image_put_pages(w, block, index[i] * KIT_PAGE, &iov, 1, &error), error);
	}
}

/* One step: a packet into one of the page writers, which are flushed before another one may have its pages. */
static void step(struct gw__image_writer *reference, struct gw__image_writer *w, struct gw__page_writer **lanes, unsigned *last,
	const struct gw__blocks *blocks)
{
	uint64_t index[PACKET];
	unsigned generation[PACKET], page_writer = (unsigned)any_below(LANES + 1);
	uint32_t block = any_below(3) ? 0 : (uint32_t)any_below(BLOCKS);
	struct gw__error error = {0};
	uint32_t n = make_packet(blocks->v[block].used_bytes / KIT_PAGE, index, generation);
	for (unsigned i = 0; page_writer != *last && i < LANES; i++)
		assert_ok(gw__page_writer_flush(lanes[i], &error), error);
	if (*last == LANES && page_writer != LANES) { /* what the main channel staged settles when it is looked at */
		uint8_t page[KIT_PAGE];
		for (uint32_t b = 0; b < BLOCKS; b++)
			for (uint64_t i = 0; i * KIT_PAGE < blocks->v[b].used_bytes; i++)
				assert_true(gw__image_read_back_page(w, b, i * KIT_PAGE, page, &error) >= 0);
	}
	*last = page_writer;
	put_in_order(reference, block, index, generation, n);
	if (page_writer == LANES)
		put_in_order(w, block, index, generation, n);
	else
		assert_ok(put_pages_of(lanes[page_writer], block, index, generation, n, &error), error);
	if (any_below(20) == 0) { /* the main channel's small records, meanwhile */
		kit_put_part(reference);
		kit_put_part(w);
	}
}

static void assert_same_files(const char *a, const char *b, const char *how)
{
	size_t a_n, b_n;
	uint8_t *a_bytes = kit_read_file(a, &a_n), *b_bytes = kit_read_file(b, &b_n);
	assert_int_equal(a_n, b_n);
	for (size_t i = 0; i < a_n; i++)
		if (a_bytes[i] != b_bytes[i])
			fail_msg("%s, seed %llu: the images differ at offset %zu", how, (unsigned long long)seed, i);
	free(a_bytes);
	free(b_bytes);
}

/* The same packets into a plain writer and into page writers; nothing may tell the files apart. */
static void compare_with_plain(const struct way *way, uint64_t base_off)
{
	struct gw__blocks blocks = some_blocks();
	kit_path expected;
	kit_join(expected, dir, "expected");
	const struct gw__image_writer_opts plain = {.base_off = base_off}, o = {.base_off = base_off, .direct = way->direct};
	struct gw__image_writer *reference = kit_begin(expected, &plain, &blocks, false);
	struct gw__image_writer *w = kit_begin(image, &o, &blocks, false);
	struct gw__page_writer *lanes[LANES];
	struct gw__error error = {0};
	unsigned last = 0;
	for (unsigned i = 0; i < LANES; i++) {
		assert_ok(gw__page_writer_new(w, &lanes[i], &error), error);
		if (!strstr(gw__page_writer_how(lanes[i]), way->how))
			fail_msg("\"%s\" does not say \"%s\"", gw__page_writer_how(lanes[i]), way->how);
	}
	for (unsigned i = 0; i < STEPS; i++)
		step(reference, w, lanes, &last, &blocks);
	for (unsigned i = 0; i < LANES; i++) {
		assert_ok(gw__page_writer_flush(lanes[i], &error), error);
		gw__page_writer_free(lanes[i]);
	}
	struct gw__image_writer_stats a = gw__image_writer_stats(reference), b = gw__image_writer_stats(w);
	assert_memory_equal(&a, &b, sizeof a);
	kit_finish(reference);
	kit_finish(w);
	assert_same_files(expected, image, way->how);
	gw__blocks_fini(&blocks);
}

static void every_way_writes_the_same_image(void **state)
{
	(void)state;
	for (size_t i = 0; i < GW__LEN(ways); i++) {
		seed = 11 + i;
		if (can_go_by(&ways[i]))
			compare_with_plain(&ways[i], i % 2 ? 0x100123 : 0);
	}
}

/* Writes that the kernel does half, or asks to try again. */
static void writes_that_are_cut_short_are_finished(void **state)
{
	(void)state;
	static const int answers[] = {-EAGAIN, -EINTR, 0};
	if (!can_go_by(&ways[1]))
		skip();
	for (size_t i = 0; i <= GW__LEN(answers); i++) {
		go_by(&ways[1]);
		seed = 77 + i;
		forced.answer_every = 3;
		forced.halve = i == GW__LEN(answers);
		forced.answer = forced.halve ? 0 : answers[i];
		compare_with_plain(&ways[1], 0);
		assert_true(forced.writes > STEPS);
	}
}

/* --- threads
 * ------------------------------------------------------------------------------------------------------ */

enum { THREADS = 6, SHARED_PAGES = 6 * 64, ROUNDS = 3 };

struct worker {
	struct gw__page_writer *page_writer;
	unsigned which;
	pthread_barrier_t *barrier;
	pthread_t thread;
	struct gw__error error;
	int failed;
};

/* Each round another worker has a page, and every word of the bitmaps is everybody's. */
static void *work(void *ctx)
{
	struct worker *k = ctx;
	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t index[PACKET], at = (k->which + round) % THREADS;
		unsigned generation[PACKET];
		while (at < SHARED_PAGES) {
			uint32_t n = 0;
			for (; n < PACKET && at < SHARED_PAGES; n++, at += THREADS) {
				index[n] = at;
				generation[n] = at % 11 == round ? 0 : round + 1;
			}
			k->failed |= put_pages_of(k->page_writer, 0, index, generation, n, &k->error);
		}
		k->failed |= gw__page_writer_flush(k->page_writer, &k->error);
		pthread_barrier_wait(k->barrier);
	}
	return NULL;
}

static void check_shared_pages(void)
{
	struct gw__image *got;
	struct gw__error error = {0};
	uint8_t page[KIT_PAGE], want[KIT_PAGE];
	assert_ok(gw__image_open(image, 0, &got, &error), error);
	for (uint64_t i = 0; i < SHARED_PAGES; i++) {
		memset(want, 0, sizeof want);
		if (i % 11 != ROUNDS - 1)
			kit_fill(want, 0, i, ROUNDS);
		assert_ok(gw__image_read_pages(got, 0, i, 1, page, &error), error);
		assert_memory_equal(page, want, KIT_PAGE);
	}
	gw__image_close(got);
}

static void many_lanes_at_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct gw__blocks blocks = {0};
		const struct gw__image_writer_opts o = {.direct = ways[i].direct};
		struct worker k[THREADS];
		pthread_barrier_t barrier;
		struct gw__error error = {0};
		if (!can_go_by(&ways[i]))
			continue;
		kit_add_block(&blocks, "m0", (uint64_t)SHARED_PAGES * KIT_PAGE, false);
		struct gw__image_writer *w = kit_begin(image, &o, &blocks, false);
		assert_int_equal(pthread_barrier_init(&barrier, NULL, THREADS), 0);
		for (unsigned t = 0; t < THREADS; t++) {
			k[t] = (struct worker){.which = t, .barrier = &barrier};
			assert_ok(gw__page_writer_new(w, &k[t].page_writer, &error), error);
			assert_int_equal(pthread_create(&k[t].thread, NULL, work, &k[t]), 0);
		}
		for (unsigned t = 0; t < THREADS; t++) {
			pthread_join(k[t].thread, NULL);
			assert_ok(k[t].failed, k[t].error);
			gw__page_writer_free(k[t].page_writer);
		}
		pthread_barrier_destroy(&barrier);
		kit_finish(w);
		check_shared_pages();
		gw__blocks_fini(&blocks);
	}
}

/* --- buffers
 * ------------------------------------------------------------------------------------------------------ */

static void a_buffer_is_aligned_and_stays_taken_until_it_is_put(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		if (!can_go_by(&ways[i]))
			continue;
		struct gw__blocks blocks = some_blocks();
		const struct gw__image_writer_opts o = {.direct = ways[i].direct};
		struct gw__page_writer *page_writer;
		struct gw__error error = {0};
		void *a, *b;
		struct gw__image_writer *w = kit_begin(image, &o, &blocks, false);
		assert_ok(gw__page_writer_new(w, &page_writer, &error), error);
		assert_ok(gw__page_writer_borrow_buffer(page_writer, &a, &error), error);
		assert_int_equal((uintptr_t)a % KIT_PAGE, 0);
		memset(a, 1, GW__PAGE_WRITER_BUFFER_BYTES);
		assert_ok(gw__page_writer_borrow_buffer(page_writer, &b, &error), error);
		assert_ptr_equal(a, b);
		assert_ok(gw__page_writer_submit(page_writer, 0, NULL, 0, &error), error); /* a packet without a page */
		assert_ok(gw__page_writer_borrow_buffer(page_writer, &a, &error), error);
		assert_ok(gw__page_writer_flush(page_writer, &error), error); /* the taken buffer has no part in it */
		assert_ok(gw__page_writer_borrow_buffer(page_writer, &b, &error), error);
		assert_ptr_equal(a, b);
		gw__page_writer_free(page_writer);
		gw__page_writer_free(NULL);
		gw__image_writer_close(w);
		gw__blocks_fini(&blocks);
	}
}

/* A channel that is cut leaves writes under way; nothing may be read from a page writer's memory after it is gone.
 */
static void a_lane_goes_without_a_flush(void **state)
{
	(void)state;
	static const uint64_t index[] = {0, 1, 2, 9, 10, 500};
	static const unsigned generation[] = {1, 1, 1, 1, 1, 1};
	if (!can_go_by(&ways[1]))
		skip();
	struct gw__blocks blocks = some_blocks();
	const struct gw__image_writer_opts o = {.direct = true};
	struct gw__page_writer *page_writer;
	struct gw__error error = {0};
	struct gw__image_writer *w = kit_begin(image, &o, &blocks, false);
	for (int i = 0; i < 20; i++) {
		assert_ok(gw__page_writer_new(w, &page_writer, &error), error);
		for (int k = 0; k < 5; k++)
			assert_ok(put_pages_of(page_writer, 0, index, generation, 6, &error), error);
		gw__page_writer_free(page_writer);
	}
	gw__image_writer_close(w);
	assert_int_equal(kit_count_entries(dir), 0);
	gw__blocks_fini(&blocks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each_in_a_folder(every_way_writes_the_same_image),
		each_in_a_folder(writes_that_are_cut_short_are_finished),
		each_in_a_folder(many_lanes_at_once),
		each_in_a_folder(a_buffer_is_aligned_and_stays_taken_until_it_is_put),
		each_in_a_folder(a_lane_goes_without_a_flush),
	};
	return cmocka_run_group_tests_name("page_writer", tests, NULL, NULL);
}
