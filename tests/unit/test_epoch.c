/* SPDX-License-Identifier: MIT */
/* The pages of an epoch: the later one counts, over any number of page writers; the limit holds; a reset leaves nothing behind. */
#include "error_text.h"

#include <errno.h>
#include <pthread.h>

#include "image/epochs/epoch.h"

enum { PAGE = 4096, PAGES = 512, LANES = 4 };

/* What applying makes of memory; each page is told by its first eight bytes. */
struct memory {
	uint64_t page[2][PAGES];
	unsigned calls;
	int fail_at;
};

static int take(void *ctx, uint32_t block, uint64_t off, const uint8_t *pages, uint64_t n, struct gw__error *error)
{
	struct memory *m = ctx;
	if (m->fail_at && (int)++m->calls == m->fail_at)
		return gw__error_set(error, -EIO, "no");
	for (uint64_t i = 0; i < n; i++) {
		uint64_t v = 0;
		assert_true(block < 2 && off / PAGE + i < PAGES);
		if (pages)
			memcpy(&v, pages + i * PAGE, sizeof v);
		m->page[block][off / PAGE + i] = v;
	}
	return 0;
}

static void apply(const struct gw__epoch *e, struct memory *m)
{
	struct gw__error error = {0};
	if (gw__epoch_apply(e, take, m, &error))
		fail_msg("%s", error.text);
}

static void put(struct gw__epoch_lane *l, uint32_t block, const uint64_t *page, uint32_t n, uint64_t value)
{
	struct gw__error error = {0};
	uint64_t off[128];
	void *buffer;
	assert_int_equal(gw__epoch_borrow(l, &buffer, &error), 0);
	assert_int_equal((uintptr_t)buffer % PAGE, 0);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t v = value + i;
		memcpy((uint8_t *)buffer + i * PAGE, &v, sizeof v);
		off[i] = page[i] * PAGE;
	}
	assert_int_equal(gw__epoch_submit(l, block, off, n, &error), 0);
}

static void put_zeros(struct gw__epoch_lane *l, uint32_t block, uint64_t page, uint64_t n)
{
	struct gw__error error = {0};
	assert_int_equal(gw__epoch_put_zeros(l, block, page * PAGE, n, &error), 0);
}

static void the_later_page_counts(void **state)
{
	(void)state;
	struct gw__epoch *e = gw__epoch_new(PAGE, 64 << 20);
	struct gw__epoch_lane *a = gw__epoch_add_lane(e), *b = gw__epoch_add_lane(e);
	struct memory m = {.page = {{7, 7, 7, 7, 7, 7}, {9}}};
	put(a, 0, (const uint64_t[]){1, 2, 3}, 3, 100);
	put_zeros(a, 0, 2, 1);                    /* content, then zero */
	put(a, 0, (const uint64_t[]){3}, 1, 200); /* twice */
	put_zeros(b, 0, 4, 1);
	put_zeros(b, 0, 5, 1); /* one run */
	gw__epoch_barrier(e);
	put(b, 0, (const uint64_t[]){1}, 1, 300); /* the page writer that was added last is asked first: the barrier decides */
	put(b, 0, (const uint64_t[]){4}, 1, 400); /* zero, then content */
	gw__epoch_barrier(e);
	put(a, 0, (const uint64_t[]){4}, 1, 500);
	apply(e, &m);
	const uint64_t want[] = {7, 300, 0, 200, 500, 0};
	assert_memory_equal(m.page[0], want, sizeof want);
	assert_int_equal(m.page[1][0], 9); /* nothing came of it */
	struct gw__epoch_stats s = gw__epoch_stats(e);
	assert_int_equal(s.pages, 7);
	assert_int_equal(s.zero_pages, 3);
	apply(e, &m); /* it stays as it is */
	assert_memory_equal(m.page[0], want, sizeof want);
	gw__epoch_free(e);
}

static void a_reset_leaves_nothing(void **state)
{
	(void)state;
	struct gw__error error = {0};
	struct gw__epoch *e = gw__epoch_new(PAGE, 64 << 20);
	struct gw__epoch_lane *a = gw__epoch_add_lane(e);
	struct memory m = {.page = {{1, 1}}};
	uint8_t *devices;
	put(a, 0, (const uint64_t[]){0, 1}, 2, 100);
	assert_int_equal(gw__epoch_reserve_devices(e, 10, &devices, &error), 0);
	memcpy(devices, "0123456789", 10);
	assert_memory_equal(gw__epoch_devices(e).p, "0123456789", 10);
	uint64_t before = gw__epoch_stats(e).memory_bytes;
	assert_true(before >= 2 * PAGE + 10);
	gw__epoch_reset(e, true);
	apply(e, &m);
	assert_int_equal(m.page[0][0], 1);
	assert_int_equal(gw__epoch_devices(e).n, 0);
	assert_int_equal(gw__epoch_stats(e).memory_bytes, 0);
	assert_int_equal(gw__epoch_stats(e).memory_most_bytes, before);
	put(a, 0, (const uint64_t[]){1}, 1, 300); /* and the next one is as the first */
	apply(e, &m);
	assert_int_equal(m.page[0][1], 300);
	assert_int_equal(m.page[0][0], 1);
	gw__epoch_free(e);
}

static void the_limit_holds(void **state)
{
	(void)state;
	struct gw__error error = {0};
	struct gw__epoch *e = gw__epoch_new(PAGE, 10 << 20);
	struct gw__epoch_lane *a = gw__epoch_add_lane(e);
	void *buffer;
	uint8_t *devices;
	int r = 0;
	unsigned packets = 0;
	uint64_t off[128];
	for (unsigned i = 0; i < 128; i++)
		off[i] = i * PAGE;
	for (; !r && packets < 1000; packets++) {
		r = gw__epoch_borrow(a, &buffer, &error);
		if (!r)
			r = gw__epoch_submit(a, 0, off, 128, &error);
		assert_true(gw__epoch_stats(e).memory_bytes <= 10 << 20);
	}
	assert_int_equal(r, -E2BIG);
	assert_says(&error, -E2BIG, "10485760", "--memory-limit");
	assert_in_range(packets, 16, 20);
	/* Device state counts as well, whatever is announced. */
	static const uint64_t absurd[] = {UINT64_MAX, INT64_MAX, 10 << 20};
	for (unsigned i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
		error = (struct gw__error){0};
		assert_int_equal(gw__epoch_reserve_devices(e, absurd[i], &devices, &error), -E2BIG);
	}
	/* And so do records of pages that have no content. */
	gw__epoch_reset(e, false);
	error = (struct gw__error){0};
	for (r = 0; !r;)
		for (uint64_t page = 0; !r && page < PAGES; page += 2)
			r = gw__epoch_put_zeros(a, 0, page * PAGE, 1, &error);
	assert_int_equal(r, -E2BIG);
	assert_true(gw__epoch_stats(e).memory_bytes <= 10 << 20);
	gw__epoch_free(e);
}

static void a_failure_ends_the_walk(void **state)
{
	(void)state;
	struct gw__error error = {0};
	struct gw__epoch *e = gw__epoch_new(PAGE, 64 << 20);
	struct gw__epoch_lane *a = gw__epoch_add_lane(e);
	struct memory m = {.fail_at = 2};
	put(a, 0, (const uint64_t[]){1, 3, 5}, 3, 100);
	assert_int_equal(gw__epoch_apply(e, take, &m, &error), -EIO);
	assert_int_equal(m.calls, 2);
	gw__epoch_free(e);
}

/* --- many threads --- */

struct job {
	struct gw__epoch_lane *lane;
	unsigned nr, round;
};

static uint64_t value_of(unsigned round, uint64_t page) { return round * 100000 + page + 1; }

static void *fill(void *ctx)
{
	struct job *j = ctx;
	for (uint64_t page = j->nr; page < PAGES; page += LANES)
		if ((page + j->round) % 3)
			put(j->lane, 0, &page, 1, value_of(j->round, page));
		else
			put_zeros(j->lane, 0, page, 1);
	return NULL;
}

static void lanes_meet_at_barriers(void **state)
{
	(void)state;
	struct gw__epoch *e = gw__epoch_new(PAGE, 64 << 20);
	struct job job[LANES];
	pthread_t thread[LANES];
	struct memory m = {0};
	for (unsigned i = 0; i < LANES; i++)
		job[i] = (struct job){.lane = gw__epoch_add_lane(e)};
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 0; i < LANES; i++) {
			job[i].nr = (i + round) % LANES; /* each page goes over another page writer */
			job[i].round = round;
			assert_int_equal(pthread_create(&thread[i], NULL, fill, &job[i]), 0);
		}
		for (unsigned i = 0; i < LANES; i++)
			pthread_join(thread[i], NULL);
		gw__epoch_barrier(e);
	}
	apply(e, &m);
	for (uint64_t page = 0; page < PAGES; page++)
		assert_int_equal(m.page[0][page], (page + 4) % 3 ? value_of(4, page) : 0);
	gw__epoch_free(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_later_page_counts),
		cmocka_unit_test(a_reset_leaves_nothing),
		cmocka_unit_test(the_limit_holds),
		cmocka_unit_test(a_failure_ends_the_walk),
		cmocka_unit_test(lanes_meet_at_barriers),
	};
	return cmocka_run_group_tests_name("epoch", tests, NULL, NULL);
}
