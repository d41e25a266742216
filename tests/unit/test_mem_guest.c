/* SPDX-License-Identifier: MIT */
/* The guest that proves itself, on itself: what it finds, what it calls it, and that it cries about nothing else. */
#include "error_text.h"

#include <errno.h>
#include <sched.h>

#include "guest/mem/mem_guest.h"

enum { PAGE = GW__MEM_PAGE_BYTES, PAGES = 257 };

static struct gw__mem_guest *guest_of(const struct gw__mem_guest_opts *o)
{
	struct gw__error error = {0};
	struct gw__mem_guest *g;
	if (gw__mem_guest_new(&g, o, &error))
		fail_msg("%s", error.text);
	return g;
}

static struct gw__mem_guest *small(enum gw__mem_workload w, uint64_t seed)
{
	return guest_of(&(struct gw__mem_guest_opts){.bytes = PAGES * PAGE,
		.seed = seed,
		.workload = w,
		.writers = 2,
		.shared = seed % 2 || w >= GW__MEM_TOLD});
}

static int check(struct gw__mem_guest *g, struct gw__mem_check *c, struct gw__error *error)
{
	*error = (struct gw__error){0};
	return gw__mem_guest_check(g, 0, PAGES, NULL, c, error);
}

static void assert_right(struct gw__mem_guest *g)
{
	struct gw__mem_check c;
	struct gw__error error;
	if (check(g, &c, &error))
		fail_msg("%s", error.text);
	assert_int_equal(c.pages, PAGES);
}

/* --- The formula --------------------------------------------------------------------------------------------------- */

static void a_cycle_visits_each_page_once_and_versions_count_visits(void **state)
{
	(void)state;
	for (uint64_t pages = 1; pages < 70; pages++)
		for (int in_order = 0; in_order < 2; in_order++) {
			struct gw__mem_region r = {.seed = pages, .first = 5, .pages = pages, .in_order = in_order};
			uint64_t versions[70] = {0};
			for (uint64_t s = 0; s < 3 * pages; s++) {
				uint64_t page = gw__mem_visited(&r, s);
				assert_true(page >= 5 && page < 5 + pages);
				assert_int_equal(++versions[page - 5], s / pages + 1);
				for (uint64_t p = 0; p < pages; p++)
					assert_int_equal(gw__mem_version(&r, p + 5, s + 1), versions[p]);
			}
		}
}

static void orders_differ_by_cycle_and_seed(void **state)
{
	(void)state;
	struct gw__mem_region a = {.seed = 1, .pages = 1000}, b = {.seed = 2, .pages = 1000};
	unsigned same_cycle = 0, same_seed = 0;
	for (uint64_t s = 0; s < 1000; s++) {
		same_cycle += gw__mem_visited(&a, s) == gw__mem_visited(&a, s + 1000);
		same_seed += gw__mem_visited(&a, s) == gw__mem_visited(&b, s);
	}
	assert_in_range(same_cycle, 0, 20);
	assert_in_range(same_seed, 0, 20);
}

/* One in 13 is zero, one in 7 of the rest has long runs of equal words, no two contents are alike but the zero ones. */
static void versions_have_their_classes(void **state)
{
	(void)state;
	struct gw__mem_region r = {.seed = 3, .pages = 8};
	unsigned zero = 0, runs = 0;
	uint64_t words[PAGE / 8], bytes, off;
	for (uint64_t v = 0; v < 91; v++) {
		assert_int_equal(gw__mem_write(&r, 6, v, false, words, &bytes), 0);
		assert_int_equal(bytes, PAGE);
		assert_int_equal(gw__mem_is_zero(&r, 6, v), words[0] == 0);
		zero += words[0] == 0;
		runs += words[0] && words[0] == words[1];
		assert_int_equal(gw__mem_judge(&r, 6, v, words, &off), GW__MEM_RIGHT);
		if (words[0]) /* neither is it right for another page */
			assert_int_equal(gw__mem_judge(&r, 7, v, words, &off), GW__MEM_WRONG);
	}
	assert_int_equal(zero, 7);
	assert_int_equal(runs, 12);
}

static void a_sparse_step_writes_eight_bytes_and_all_from_nothing_is_the_same(void **state)
{
	(void)state;
	struct gw__mem_region r = {.seed = 4, .pages = 3, .sparse = true};
	uint64_t grown[PAGE / 8], whole[PAGE / 8], bytes, off;
	for (uint64_t page = 0; page < 3; page++) {
		gw__mem_write(&r, page, 0, true, grown, &bytes);
		for (uint64_t v = 1; v < 1200; v++) {
			gw__mem_write(&r, page, v, false, grown, &bytes);
			assert_int_equal(bytes, 8);
			gw__mem_write(&r, page, v, true, whole, &bytes);
			assert_int_equal(bytes, PAGE);
			assert_memory_equal(grown, whole, PAGE);
			assert_int_equal(gw__mem_judge(&r, page, v + 3, whole, &off), GW__MEM_STALE);
			assert_int_equal(off, 3);
		}
	}
}

/* --- What a check finds -------------------------------------------------------------------------------------------- */

static void every_workload_is_right_at_every_moment(void **state)
{
	(void)state;
	for (unsigned w = 0; w < GW__MEM_WORKLOADS; w++) {
		struct gw__mem_guest *g = small(w, w + 1);
		for (unsigned i = 0; i < 40; i++) {
			assert_right(g);
			gw__mem_guest_step(g, i % 2, 1 + i * 7);
		}
		gw__mem_guest_free(g);
	}
}

static void one_stale_page_is_found_and_called_stale(void **state)
{
	(void)state;
	for (unsigned w = 0; w < GW__MEM_WORKLOADS; w++) {
		struct gw__mem_guest *g = small(w, w + 7);
		struct gw__mem_ram ram = gw__mem_guest_ram(g);
		struct gw__mem_check c;
		struct gw__error error;
		gw__mem_guest_step(g, 0, 1000);
		gw__mem_guest_step(g, 1, 1000);
		uint8_t before[PAGES * PAGE];
		memcpy(before, ram.host, sizeof before);
		gw__mem_guest_step(g, 1, 2 * PAGES);
		uint64_t page = PAGES - 2;
		memcpy(ram.host + page * PAGE, before + page * PAGE, PAGE);
		assert_int_equal(check(g, &c, &error), -EBADMSG);
		assert_int_equal(c.faulty[GW__MEM_STALE], 1);
		assert_int_equal(c.faulty[GW__MEM_RIGHT], PAGES - 1);
		assert_int_equal(c.offset, page * PAGE);
		assert_true(c.off >= 1);
		assert_says(&error, -EBADMSG, "0xff000", "stale", "1 of 257 pages");
		gw__mem_guest_free(g);
	}
}

static void one_bit_is_wrong(void **state)
{
	(void)state;
	struct gw__mem_guest *g = small(GW__MEM_UNIFORM, 11);
	struct gw__mem_ram ram = gw__mem_guest_ram(g);
	struct gw__mem_check c;
	struct gw__error error;
	gw__mem_guest_step(g, 0, 300);
	for (uint64_t page = 0; page < PAGES; page += 5) {
		uint8_t *byte = ram.host + page * PAGE + page * 13 % PAGE;
		*byte ^= 0x20;
		assert_int_equal(check(g, &c, &error), -EBADMSG);
		assert_int_equal(c.verdict, GW__MEM_WRONG);
		assert_int_equal(c.faulty[GW__MEM_WRONG], 1);
		assert_int_equal(c.offset, page * PAGE);
		*byte ^= 0x20;
	}
	assert_right(g);
	gw__mem_guest_free(g);
}

static void a_zero_page_that_was_not_cleared_is_stale(void **state)
{
	(void)state;
	struct gw__mem_guest *g = small(GW__MEM_UNIFORM, 12);
	struct gw__mem_ram ram = gw__mem_guest_ram(g);
	struct gw__mem_check c;
	struct gw__error error;
	uint8_t before[PAGES * PAGE], zero[PAGE] = {0};
	unsigned seen = 0;
	for (unsigned cycle = 0; cycle < 14; cycle++) {
		memcpy(before, ram.host, sizeof before);
		gw__mem_guest_step(g, 0, PAGES / 2);
		for (uint64_t page = 0; page < PAGES / 2; page++) {
			if (memcmp(ram.host + page * PAGE, zero, PAGE) != 0)
				continue;
			seen++;
			memcpy(ram.host + page * PAGE, before + page * PAGE, PAGE);
			assert_int_equal(check(g, &c, &error), -EBADMSG);
			assert_int_equal(c.verdict, GW__MEM_STALE);
			assert_int_equal(c.off, 1);
			memset(ram.host + page * PAGE, 0, PAGE);
		}
	}
	assert_true(seen > 100);
	gw__mem_guest_free(g);
}

static void a_page_that_never_came_is_missing(void **state)
{
	(void)state;
	struct gw__mem_guest *g = small(GW__MEM_UNIFORM, 13);
	struct gw__mem_ram ram = gw__mem_guest_ram(g);
	struct gw__mem_check c;
	struct gw__error error;
	memset(ram.host, 0, PAGES * PAGE);
	assert_int_equal(check(g, &c, &error), -EBADMSG);
	assert_int_equal(c.verdict, GW__MEM_MISSING);
	assert_true(c.faulty[GW__MEM_MISSING] > PAGES * 8 / 10);
	assert_int_equal(c.faulty[GW__MEM_MISSING] + c.faulty[GW__MEM_RIGHT], PAGES);
	assert_says(&error, -EBADMSG, "missing");
	gw__mem_guest_free(g);
}

/* RAM of one moment and devices of another, one step apart, either way. */
static void device_state_one_step_ahead_or_behind_is_found(void **state)
{
	(void)state;
	for (unsigned w = 0; w < GW__MEM_WORKLOADS; w++) {
		struct gw__mem_guest *g = small(w, 20 + w), *copy = small(w, 20 + w);
		struct gw__mem_check c;
		struct gw__error error;
		uint8_t behind[GW__MEM_STATE_BYTES_MAX], ahead[GW__MEM_STATE_BYTES_MAX];
		gw__mem_guest_step(g, 1, 777);
		size_t n = gw__mem_guest_save(g, behind);
		gw__mem_guest_step(g, 1, 1);
		memcpy(gw__mem_guest_ram(copy).host, gw__mem_guest_ram(g).host, PAGES * PAGE);
		gw__mem_guest_step(g, 1, 1);
		assert_int_equal(gw__mem_guest_save(g, ahead), n);
		assert_int_equal(gw__mem_guest_load(copy, behind, n, &error), 0);
		assert_int_equal(check(copy, &c, &error), -EBADMSG);
		assert_int_equal(c.faulty[GW__MEM_RIGHT], PAGES - 1);
		assert_true(c.verdict == GW__MEM_FUTURE || c.verdict == GW__MEM_MISSING);
		assert_int_equal(gw__mem_guest_load(copy, ahead, n, &error), 0);
		assert_int_equal(check(copy, &c, &error), -EBADMSG);
		assert_int_equal(c.faulty[GW__MEM_RIGHT], PAGES - 1);
		assert_true(c.verdict == GW__MEM_STALE || c.verdict == GW__MEM_MISSING);
		gw__mem_guest_free(copy);
		gw__mem_guest_free(g);
	}
}

static void two_halves_of_two_versions_are_wrong(void **state)
{
	(void)state;
	struct gw__mem_guest *g = small(GW__MEM_UNIFORM, 14);
	struct gw__mem_ram ram = gw__mem_guest_ram(g);
	struct gw__mem_check c;
	struct gw__error error;
	uint8_t half[PAGE / 2];
	uint64_t page = 3;
	memcpy(half, ram.host + page * PAGE, sizeof half);
	gw__mem_guest_step(g, 0, PAGES / 2);
	memcpy(ram.host + page * PAGE, half, sizeof half);
	assert_int_equal(check(g, &c, &error), -EBADMSG);
	assert_int_equal(c.verdict, GW__MEM_WRONG);
	gw__mem_guest_free(g);
}

/* --- Device state -------------------------------------------------------------------------------------------------- */

static void a_copy_elsewhere_is_the_same_guest_and_goes_on(void **state)
{
	(void)state;
	struct gw__mem_guest *g = small(GW__MEM_HOT, 31);
	struct gw__mem_guest *to = guest_of(&(struct gw__mem_guest_opts){.bytes = PAGES * PAGE, .seed = 99, .empty = true});
	uint8_t s[GW__MEM_STATE_BYTES_MAX], again[GW__MEM_STATE_BYTES_MAX];
	struct gw__error error = {0};
	gw__mem_guest_step(g, 0, 1234);
	gw__mem_guest_step(g, 1, 56);
	size_t n = gw__mem_guest_save(g, s);
	memcpy(gw__mem_guest_ram(to).host, gw__mem_guest_ram(g).host, PAGES * PAGE);
	assert_int_equal(gw__mem_guest_load(to, s, n, &error), 0);
	assert_right(to);
	assert_int_equal(gw__mem_guest_save(to, again), n);
	assert_memory_equal(s, again, n);
	gw__mem_guest_step(g, 1, 300);
	gw__mem_guest_step(to, 1, 300);
	assert_right(to);
	assert_memory_equal(gw__mem_guest_ram(to).host, gw__mem_guest_ram(g).host, PAGES * PAGE);
	gw__mem_guest_free(to);
	gw__mem_guest_free(g);
}

static void what_is_no_state_of_it_is_refused(void **state)
{
	(void)state;
	struct gw__mem_guest *g = small(GW__MEM_UNIFORM, 32);
	struct gw__mem_guest *larger = guest_of(&(struct gw__mem_guest_opts){.bytes = 2 * PAGES * PAGE});
	uint8_t s[GW__MEM_STATE_BYTES_MAX + 1] = {0};
	size_t n = gw__mem_guest_save(g, s);
	for (size_t cut = 0; cut < n; cut++) {
		struct gw__error error = {0};
		assert_int_equal(gw__mem_guest_load(g, s, cut, &error), -EINVAL);
	}
	struct gw__error error = {0};
	assert_int_equal(gw__mem_guest_load(g, s, n + 1, &error), -EINVAL);
	error = (struct gw__error){0};
	assert_int_equal(gw__mem_guest_load(larger, s, n, &error), -EINVAL);
	assert_says(&error, -EINVAL, "257", "514");
	for (unsigned i = 32; i < 40; i++) { /* workload and writers: all that is not possible */
		uint8_t bad[sizeof s];
		memcpy(bad, s, sizeof s);
		bad[i] = 0xee;
		error = (struct gw__error){0};
		assert_int_equal(gw__mem_guest_load(g, bad, n, &error), -EINVAL);
	}
	assert_right(g);
	gw__mem_guest_free(larger);
	gw__mem_guest_free(g);
}

static void options_that_make_no_guest_are_refused(void **state)
{
	(void)state;
	const struct {
		struct gw__mem_guest_opts o;
		const char *names;
	} rows[] = {
		{{.bytes = 0}, "0 bytes"},
		{{.bytes = 5 * PAGE + 1}, "20481 bytes"},
		{{.bytes = 3 * PAGE}, "at least 4"},
		{{.bytes = 8 * PAGE, .workload = GW__MEM_WORKLOADS}, "workload"},
		{{.bytes = 8 * PAGE, .workload = GW__MEM_TOLD}, "told"},
		{{.bytes = 8 * PAGE, .workload = GW__MEM_UNTOLD}, "shared"},
		{{.bytes = 8 * PAGE, .writers = 17}, "17 writers"},
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct gw__error error = {0};
		struct gw__mem_guest *g;
		assert_int_equal(gw__mem_guest_new(&g, &rows[i].o, &error), -EINVAL);
		assert_null(g);
		assert_says(&error, -EINVAL, rows[i].names);
	}
	struct gw__mem_guest *g = small(GW__MEM_SWEEP, 1);
	struct gw__error error = {0};
	assert_int_equal(gw__mem_guest_check(g, 200, 58, NULL, NULL, &error), -ERANGE);
	gw__mem_guest_free(g);
	gw__mem_guest_free(NULL);
}

/* --- It runs ------------------------------------------------------------------------------------------------------- */

struct told {
	_Atomic uint64_t pages[PAGES];
	_Atomic uint64_t discards;
	uint8_t *ram;
	bool fail;
};

static void on_wrote(void *ctx, uint64_t offset, uint64_t bytes)
{
	struct told *t = ctx;
	if (offset / PAGE == (offset + bytes - 1) / PAGE)
		t->pages[offset / PAGE]++;
}

static int on_discard(void *ctx, uint64_t offset, uint64_t bytes)
{
	struct told *t = ctx;
	t->discards++;
	if (t->fail)
		return -EIO;
	memset(t->ram + offset, 0, bytes);
	return 0;
}

static uint64_t steps_of(const struct gw__mem_guest *g)
{
	struct gw__mem_stats s;
	gw__mem_guest_stats(g, &s);
	return s.steps;
}

/* Waits for what must happen, however slow the machine is. */
static void run_for(struct gw__mem_guest *g, uint64_t steps)
{
	uint64_t from = steps_of(g);
	struct gw__mem_stats s;
	do {
		sched_yield();
		gw__mem_guest_stats(g, &s);
	} while ((s.steps < from + steps || s.pages_read < 16 || s.ticks < 3) && !s.failed);
}

static void every_workload_runs_pauses_and_stands_still(void **state)
{
	(void)state;
	for (unsigned w = 0; w < GW__MEM_WORKLOADS; w++) {
		struct gw__mem_guest *g = small(w, 40 + w);
		struct gw__mem_stats s;
		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(gw__mem_guest_pause(g), i == 0); /* a new one is paused */
			assert_int_equal(gw__mem_guest_resume(g), 0);
			run_for(g, 500);
			assert_int_equal(gw__mem_guest_pause(g), 0);
			assert_int_equal(gw__mem_guest_pause(g), 1);
			assert_right(g);
			assert_int_equal(gw__mem_guest_resume(g), 0);
		}
		gw__mem_guest_stats(g, &s);
		assert_int_equal(s.found, 0);
		assert_true(s.largest_gap_ns > 0);
		gw__mem_guest_free(g); /* of a running guest */
	}
}

static void a_paced_and_a_throttled_guest_run(void **state)
{
	(void)state;
	struct gw__mem_guest_opts o = {.bytes = PAGES * PAGE, .writers = 3, .steps_per_second = 100000, .workload = GW__MEM_HOT};
	struct gw__mem_guest *g = guest_of(&o);
	assert_int_equal(gw__mem_guest_resume(g), 0);
	run_for(g, 300);
	gw__mem_guest_throttle(g, 99);
	run_for(g, 30);
	gw__mem_guest_throttle(g, 0);
	run_for(g, 300);
	gw__mem_guest_pause(g);
	assert_right(g);
	gw__mem_guest_free(g);
}

/* With tell_all each page that is not as it was has been told; "told" tells half, "untold" nothing. */
static void writes_are_told_as_the_workload_says(void **state)
{
	(void)state;
	for (unsigned all = 0; all < 2; all++)
		for (unsigned w = GW__MEM_TOLD; w < GW__MEM_WORKLOADS; w++) {
			struct told t = {0};
			struct gw__mem_guest_opts o =
				{.bytes = PAGES * PAGE, .workload = w, .shared = true, .tell_all = all, .wrote = on_wrote, .ctx = &t};
			struct gw__mem_guest *g = guest_of(&o);
			gw__mem_guest_step(g, 0, PAGES - 1);
			uint64_t told = 0;
			for (unsigned i = 0; i < PAGES; i++)
				told += t.pages[i];
			assert_int_equal(told, all ? PAGES - 1 : w == GW__MEM_TOLD ? (PAGES - 1) / 2 : 0);
			assert_right(g);
			gw__mem_guest_free(g);
		}
}

static void a_discard_is_the_hook_s_and_its_failure_ends_the_writing(void **state)
{
	(void)state;
	struct told t = {0};
	struct gw__mem_guest_opts o = {.bytes = PAGES * PAGE, .workload = GW__MEM_DISCARD, .discard = on_discard, .ctx = &t};
	struct gw__mem_guest *g = guest_of(&o);
	struct gw__mem_stats s;
	t.ram = gw__mem_guest_ram(g).host;
	gw__mem_guest_step(g, 0, 13 * PAGES);
	assert_in_range(t.discards, PAGES - 40, PAGES + 40);
	assert_right(g);
	t.fail = true;
	gw__mem_guest_step(g, 0, PAGES);
	gw__mem_guest_stats(g, &s);
	assert_int_equal(s.failed, -EIO);
	assert_right(g); /* the step that failed was none */
	gw__mem_guest_free(g);
}

/* The pause and what passed between two hosts are in the largest gap, and the clock's page is proved like any other. */
static void the_clock_measures_the_downtime(void **state)
{
	(void)state;
	struct gw__mem_guest_opts o = {.bytes = PAGES * PAGE};
	struct gw__mem_guest *g = guest_of(&o), *to;
	struct gw__mem_stats s;
	struct gw__mem_check c;
	struct gw__error error = {0};
	uint8_t st[GW__MEM_STATE_BYTES_MAX];
	assert_int_equal(gw__mem_guest_resume(g), 0);
	run_for(g, 10);
	gw__mem_guest_pause(g);
	o.empty = true;
	to = guest_of(&o);
	memcpy(gw__mem_guest_ram(to).host, gw__mem_guest_ram(g).host, PAGES * PAGE);
	size_t n = gw__mem_guest_save(g, st);
	st[48 + 7] -= 1; /* ticks */
	assert_int_equal(gw__mem_guest_load(to, st, n, &error), 0);
	assert_int_not_equal(check(to, &c, &error), 0);
	assert_int_equal(c.offset, (PAGES - 1) * PAGE);
	st[48 + 7] += 1;
	assert_int_equal(gw__mem_guest_load(to, st, n, &error), 0);
	assert_right(to);
	gw__mem_guest_stats(g, &s);
	uint64_t gap = s.largest_gap_ns + 3000000;
	uint64_t left = 0;
	for (unsigned i = 0; i < 8; i++)
		left = left << 8 | st[48 + 8 + i];
	left -= gap; /* it left that long ago */
	for (unsigned i = 0; i < 8; i++)
		st[48 + 8 + i] = (uint8_t)(left >> (56 - 8 * i));
	assert_int_equal(gw__mem_guest_load(to, st, n, &error), 0);
	assert_int_equal(gw__mem_guest_resume(to), 0);
	run_for(to, 10);
	gw__mem_guest_stats(to, &s);
	assert_true(s.largest_gap_ns >= gap);
	gw__mem_guest_free(to);
	gw__mem_guest_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cycle_visits_each_page_once_and_versions_count_visits),
		cmocka_unit_test(orders_differ_by_cycle_and_seed),
		cmocka_unit_test(versions_have_their_classes),
		cmocka_unit_test(a_sparse_step_writes_eight_bytes_and_all_from_nothing_is_the_same),
		cmocka_unit_test(every_workload_is_right_at_every_moment),
		cmocka_unit_test(one_stale_page_is_found_and_called_stale),
		cmocka_unit_test(one_bit_is_wrong),
		cmocka_unit_test(a_zero_page_that_was_not_cleared_is_stale),
		cmocka_unit_test(a_page_that_never_came_is_missing),
		cmocka_unit_test(device_state_one_step_ahead_or_behind_is_found),
		cmocka_unit_test(two_halves_of_two_versions_are_wrong),
		cmocka_unit_test(a_copy_elsewhere_is_the_same_guest_and_goes_on),
		cmocka_unit_test(what_is_no_state_of_it_is_refused),
		cmocka_unit_test(options_that_make_no_guest_are_refused),
		cmocka_unit_test(every_workload_runs_pauses_and_stands_still),
		cmocka_unit_test(a_paced_and_a_throttled_guest_run),
		cmocka_unit_test(writes_are_told_as_the_workload_says),
		cmocka_unit_test(a_discard_is_the_hook_s_and_its_failure_ends_the_writing),
		cmocka_unit_test(the_clock_measures_the_downtime),
	};
	return cmocka_run_group_tests_name("mem_guest", tests, NULL, NULL);
}
