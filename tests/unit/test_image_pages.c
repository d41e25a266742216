/* SPDX-License-Identifier: MIT */
/* What happens to the pages of an image being written: rewritten, zeroed, peeked at, from many threads. */
#include "image_kit.h"

#include <pthread.h>

#include "image/file/zero.h"

static const struct gw__image_writer_opts plain = {0}, direct = {.direct = true};

/* Reads [off, off + n) of the image. */
static void read_at(uint64_t off, void *to, size_t n)
{
	int fd = open(image, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, to, n, (off_t)off), n);
	close(fd);
}

/* Every way a page can go, with a model beside it. Generation 0: zeros; -1: never put. */
struct model {
	int generation[131];
	uint64_t at;
};

static void check_against(struct gw__image_writer *w, const struct model *m)
{
	uint8_t got[KIT_PAGE], want[KIT_PAGE];
	struct gw__error error = {0};
	uint64_t present = 0;
	for (uint64_t i = 0; i < 131; i++) {
		int r = gw__image_read_back_page(w, 0, i * KIT_PAGE, got, &error);
		assert_int_equal(r, m->generation[i] < 0 ? GW__NO_PAGE : 0);
		memset(want, 0, sizeof want);
		if (m->generation[i] > 0)
			kit_fill(want, 0, i, (uint32_t)m->generation[i]);
		if (r == 0)
			assert_memory_equal(got, want, KIT_PAGE);
		present += m->generation[i] > 0;
	}
	assert_int_equal(gw__image_writer_stats(w).pages_present, present);
}

/* A run of pages in one call: some in one piece of memory, some not, some zeros when the generation is 0. */
static void put_run(struct gw__image_writer *w, struct model *m, uint64_t first, int n, const int *generations)
{
	uint8_t *memory = calloc(2 * (size_t)n, KIT_PAGE);
	struct iovec iov[131];
	struct gw__error error = {0};
	assert_non_null(memory);
	size_t at = 0;
	for (int i = 0; i < n; i++, at += KIT_PAGE * (1 + (i % 5 == 0))) {
		iov[i] = (struct iovec){memory + at, KIT_PAGE};
		if (generations[i])
			kit_fill(memory + at, 0, first + (uint64_t)i, (uint32_t)generations[i]);
		m->generation[first + (uint64_t)i] = generations[i];
	}
	assert_ok(gw__image_put_pages(w, 0, first * KIT_PAGE, iov, n, &error), error);
	for (int i = 0; i < n; i++) /* lent, and given back as they were */
		assert_int_equal(iov[i].iov_len, KIT_PAGE);
	free(memory);
}

static void zeros(struct gw__image_writer *w, struct model *m, uint64_t first, uint64_t n)
{
	gw__image_put_zeros(w, 0, first * KIT_PAGE, n);
	for (uint64_t i = first; i < first + n; i++)
		m->generation[i] = 0;
}

static void rewrite_pages(const struct gw__image_writer_opts *o)
{
	struct gw__blocks blocks = kit_small_pc();
	struct gw__image_writer *w = kit_begin(image, o, &blocks, false);
	struct model m;
	for (int i = 0; i < 131; i++)
		m.generation[i] = -1;
	check_against(w, &m);
	int generations[131];
	for (int i = 0; i < 131; i++)
		generations[i] = i % 7 == 3 || (i > 60 && i < 70) ? 0 : 1;
	put_run(w, &m, 0, 40, generations);
	check_against(w, &m);
	zeros(w, &m, 5, 1);
	zeros(w, &m, 63, 2);
	zeros(w, &m, 130, 1);
	check_against(w, &m);
	put_run(w, &m, 0, 131, generations);
	check_against(w, &m);
	for (int i = 0; i < 131; i++)
		generations[i] = 2;
	put_run(w, &m, 17, 100, generations);
	zeros(w, &m, 1, 129);
	check_against(w, &m);
	put_run(w, &m, 64, 1, generations);
	check_against(w, &m);
	kit_finish(w);
	static const uint8_t bitmap[24] = {[0] = 1, [8] = 1, [16] = 4}; /* pages 0, 64, 130 */
	uint8_t got[sizeof bitmap];
	read_at(0x8e, got, sizeof got); /* right behind the header, as in the spec */
	assert_memory_equal(got, bitmap, sizeof got);
	kit_check_absent();
	gw__blocks_fini(&blocks);
}

static void pages_are_rewritten_and_become_zero(void **state)
{
	(void)state;
	rewrite_pages(&plain);
}

static void the_same_past_the_page_cache(void **state)
{
	(void)state;
	if (!kit_has_direct_io())
		skip();
	rewrite_pages(&direct);
}

/* More pages than one call may take, no two adjacent in memory. */
static void put_a_long_run(const struct gw__image_writer_opts *o)
{
	enum { PAGES = 2500 };
	struct gw__blocks blocks = {0};
	kit_add_block(&blocks, "m0", (uint64_t)PAGES * KIT_PAGE, false);
	struct gw__image_writer *w = kit_begin(image, o, &blocks, false);
	struct iovec *iov = calloc(PAGES, sizeof *iov);
	uint8_t *memory = malloc((size_t)PAGES * KIT_PAGE);
	assert_true(iov && memory);
	for (int i = 0; i < PAGES; i++) { /* backwards */
		iov[i] = (struct iovec){memory + (size_t)(PAGES - 1 - i) * KIT_PAGE, KIT_PAGE};
		kit_fill(iov[i].iov_base, 0, (uint64_t)i, 9);
	}
	struct gw__error error = {0};
	assert_ok(gw__image_put_pages(w, 0, 0, iov, PAGES, &error), error);
	uint8_t got[KIT_PAGE];
	for (int i = 0; i < PAGES; i++) {
		assert_ok(gw__image_read_back_page(w, 0, (uint64_t)i * KIT_PAGE, got, &error), error);
		assert_memory_equal(got, iov[i].iov_base, KIT_PAGE);
	}
	assert_int_equal(gw__image_writer_stats(w).pages_written, PAGES);
	gw__image_writer_close(w);
	free(iov);
	free(memory);
	gw__blocks_fini(&blocks);
}

static void a_run_longer_than_a_call_may_be(void **state)
{
	(void)state;
	put_a_long_run(&plain);
	if (kit_has_direct_io())
		put_a_long_run(&direct);
}

enum { THREADS = 4, SHARED_PAGES = 4096 };

struct putter {
	struct gw__image_writer *w;
	unsigned which;
	pthread_t thread;
};

/* Each thread owns every fourth page, so that every word of the bitmaps is everybody's. */
static void *put_my_pages(void *ctx)
{
	struct putter *p = ctx;
	for (uint64_t i = p->which; i < SHARED_PAGES; i += THREADS) {
		kit_put_page(p->w, 0, i, 0);
		if (i % 3 == 0)
			gw__image_put_zeros(p->w, 0, i * KIT_PAGE, 1);
	}
	return NULL;
}

static void many_threads_put_pages_at_once(void **state)
{
	(void)state;
	struct gw__blocks blocks = {0};
	kit_add_block(&blocks, "m0", (uint64_t)SHARED_PAGES * KIT_PAGE, false);
	struct gw__image_writer *w = kit_begin(image, &plain, &blocks, false);
	struct putter p[THREADS];
	for (unsigned t = 0; t < THREADS; t++) {
		p[t] = (struct putter){.w = w, .which = t};
		assert_int_equal(pthread_create(&p[t].thread, NULL, put_my_pages, &p[t]), 0);
	}
	for (unsigned t = 0; t < THREADS; t++)
		pthread_join(p[t].thread, NULL);
	uint8_t got[KIT_PAGE];
	struct gw__error error = {0};
	for (uint64_t i = 0; i < SHARED_PAGES; i++) {
		assert_ok(gw__image_read_back_page(w, 0, i * KIT_PAGE, got, &error), error);
		assert_int_equal(gw__is_zero(got, sizeof got), i % 3 == 0);
	}
	assert_int_equal(gw__image_writer_stats(w).pages_present, SHARED_PAGES - (SHARED_PAGES + 2) / 3);
	kit_finish(w);
	gw__blocks_fini(&blocks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		each_in_a_folder(pages_are_rewritten_and_become_zero),
		each_in_a_folder(the_same_past_the_page_cache),
		each_in_a_folder(a_run_longer_than_a_call_may_be),
		each_in_a_folder(many_threads_put_pages_at_once),
	};
	return cmocka_run_group_tests_name("image pages", tests, NULL, NULL);
}
