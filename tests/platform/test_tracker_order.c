/* SPDX-License-Identifier: MIT */
/*
 * The order in which a tracker is used: start before the first page is read, re-arm before a page is read, tell after the write, count once more when the
 * guest is paused. A copier that keeps it has, in the end, every byte of the mem guest; one that breaks any of it does not, and the mem guest finds it.
 *
 * The copier and the guest's writer run in one thread here, interleaved by a fixed plan: bursts while pages are copied, then silence. So each broken order
 * is found each time. Then the right order once more, against real threads.
 */
#include "platform.h"

#include <sched.h>
#include <stdatomic.h>

#include "guest/guest.h"
#include "guest/mem/mem_guest.h"
#include "guest/tracker.h"

enum { PAGE = GW__MEM_PAGE_BYTES, PAGES = 512, WORDS = PAGES / 64 };

enum order {
	RIGHT,
	STARTED_LATE,        /* after the first round was read */
	READ_BEFORE_REARM,   /* look, read, then re-arm: what was written between is armed as if it had been read */
	TOLD_CLEARED_LATE,   /* the same with what is told: the words are emptied after the pages were read */
	TOLD_BEFORE_WRITE,   /* the guest tells of a write that it has not made yet */
	COUNTED_BEFORE_PAUSE /* the last time while the guest still runs */
};

struct session {
	enum order order;
	struct gw__mem_guest *mem;
	struct gw__guest *guest; /* of what is told */
	struct gw__tracker *tracker;
	uint8_t *copy;
	uint64_t bits[WORDS];
	unsigned burst; /* steps of the writer while pages are copied */
	unsigned copied;
	bool in_hook;
};

static void copy_page(struct session *s, unsigned page)
{
	const uint64_t *from = (const void *)(gw__mem_guest_ram(s->mem).host + page * (uint64_t)PAGE);
	uint64_t *to = (void *)(s->copy + page * (uint64_t)PAGE);
	for (unsigned i = 0; i < PAGE / 8; i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	if (s->burst && ++s->copied % 4 == 0)
		gw__mem_guest_step(s->mem, 0, s->burst);
}

static void copy_bits(struct session *s)
{
	for (unsigned page = 0; page < PAGES; page++)
		if (s->bits[page / 64] >> page % 64 & 1)
			copy_page(s, page);
}

static void take_told(struct session *s)
{
	struct gw__guest_block *b = gw__guest_find_block(s->guest, "ram");
	for (unsigned i = 0; i < WORDS; i++)
		s->bits[i] |= s->order == TOLD_CLEARED_LATE ? atomic_load(&b->told[i]) : atomic_exchange(&b->told[i], 0);
}

static void forget_told(struct session *s)
{
	struct gw__guest_block *b = gw__guest_find_block(s->guest, "ram");
	for (unsigned i = 0; i < WORDS; i++)
		atomic_store(&b->told[i], 0);
}

static void count(struct session *s)
{
	struct gw__error error = {0};
	memset(s->bits, 0, sizeof s->bits);
	int r = !s->tracker                     ? 0
		: s->order == READ_BEFORE_REARM ? gw__tracker_peek(s->tracker, 0, s->bits, &error)
						: gw__tracker_take(s->tracker, 0, s->bits, &error);
	if (r)
		fail_msg("%s", error.text);
	take_told(s);
}

static void count_and_copy(struct session *s)
{
	uint64_t armed[WORDS] = {0};
	count(s);
	copy_bits(s);
	if (s->order == READ_BEFORE_REARM && s->tracker)
		gw__tracker_take(s->tracker, 0, armed, NULL);
	if (s->order == TOLD_CLEARED_LATE)
		forget_told(s);
}

static void start(struct session *s)
{
	struct gw__error error = {0};
	atomic_store(&s->guest->tracking, true);
	if (s->tracker && gw__tracker_start(s->tracker, &error))
		fail_msg("%s", error.text);
}

/* All of it: the guest has stopped, and the copy is judged by its device state. */
static int run(struct session *s, bool threads)
{
	struct gw__mem_check check;
	struct gw__mem_stats stats;
	struct gw__error error = {0};
	if (threads)
		assert_int_equal(gw__mem_guest_resume(s->mem), 0);
	if (s->order != STARTED_LATE)
		start(s);
	s->burst = threads ? 0 : 3;
	for (unsigned page = 0; page < PAGES; page++)
		copy_page(s, page);
	if (s->order == STARTED_LATE)
		start(s);
	for (unsigned round = 0; round < (threads ? 20 : 3); round++) {
		count_and_copy(s);
		sched_yield();
	}
	s->burst = 0; /* silence: what is lost now is not written again */
	count_and_copy(s);
	if (s->order == COUNTED_BEFORE_PAUSE) {
		count(s);
		gw__mem_guest_step(s->mem, 0, 5);
	}
	if (threads)
		assert_int_equal(gw__mem_guest_pause(s->mem), 0);
	if (s->order != COUNTED_BEFORE_PAUSE)
		count(s);
	copy_bits(s);
	gw__mem_guest_stats(s->mem, &stats);
	assert_int_equal(stats.failed, 0);
	assert_int_equal(stats.found, 0);
	int r = gw__mem_guest_check(s->mem, 0, PAGES, s->copy, &check, &error);
	if (r)
		print_message("  %s\n", error.text);
	if (r && s->order != STARTED_LATE)
		assert_int_equal(check.faulty[GW__MEM_FUTURE], 0); /* a copier is late, never early */
	return r;
}

/* In the guest's own thread. As if another one had harvested at this very moment: whoever tells first has lost the write. */
static void on_wrote(void *ctx, uint64_t off, uint64_t bytes)
{
	struct session *s = ctx;
	assert_int_equal(gw__guest_dirty(s->guest, "ram", off, bytes), 0);
	if (s->order == TOLD_BEFORE_WRITE && s->burst && !s->in_hook) {
		unsigned burst = s->burst;
		s->burst = 0;
		s->in_hook = true;
		uint64_t kept[WORDS];
		memcpy(kept, s->bits, sizeof kept);
		count_and_copy(s);
		memcpy(s->bits, kept, sizeof kept);
		s->in_hook = false;
		s->burst = burst;
	}
}

static int on_discard(void *ctx, uint64_t off, uint64_t bytes)
{
	return gw__guest_discard(((struct session *)ctx)->guest, "ram", off, bytes);
}

struct plan {
	enum gw__mem_workload workload;
	bool shared, track, tell_all, tell_first, discard_told, threads;
	enum order order;
};

static int try(struct plan p)
{
	struct session s = {.order = p.order, .copy = calloc(PAGES, PAGE), .guest = gw__guest_new()};
	struct gw__error error = {0};
	struct gw__mem_guest_opts o = {.bytes = PAGES * (uint64_t)PAGE,
		.seed = p.workload + 1,
		.workload = p.workload,
		.shared = p.shared,
		.tell_all = p.tell_all,
		.tell_first = p.tell_first,
		.wrote = on_wrote,
		.discard = p.discard_told ? on_discard : NULL,
		.ctx = &s};
	if (gw__mem_guest_new(&s.mem, &o, &error))
		fail_msg("%s", error.text);
	struct gw__mem_ram ram = gw__mem_guest_ram(s.mem);
	struct gw__guest_block block = {.name = "ram", .host = ram.host, .bytes = ram.bytes, .page_bytes = PAGE, .fd = ram.fd};
	struct gw__tracked tracked = {.host = ram.host, .bytes = ram.bytes};
	s.guest->page_bytes = PAGE;
	if (gw__guest_add_block(s.guest, &block, &error) ||
		(p.track && gw__tracker_new_writes(&s.tracker, &tracked, 1, PAGE, -1, NULL, &error)))
		fail_msg("%s", error.text);
	int r = run(&s, p.threads);
	gw__tracker_free(s.tracker);
	gw__mem_guest_free(s.mem);
	gw__guest_free(s.guest);
	free(s.copy);
	return r;
}

static bool loses_by_itself(enum gw__mem_workload w) { return w == GW__MEM_UNTOLD; }

static void the_right_order_loses_nothing(void **state)
{
	(void)state;
	for (unsigned w = 0; w < GW__MEM_WORKLOADS; w++)
		for (int shared = w >= GW__MEM_TOLD; shared < 2; shared++) {
			if (!loses_by_itself(w))
				assert_int_equal(try((struct plan){.workload = w, .shared = shared, .track = true, .discard_told = true}),
					0);
			assert_int_equal(try((struct plan){.workload = w, .shared = shared, .tell_all = true, .discard_told = true}), 0);
		}
}

static void each_broken_order_is_found(void **state)
{
	(void)state;
	static const struct plan plans[] = {
		{.track = true, .order = STARTED_LATE},
		{.track = true, .order = READ_BEFORE_REARM},
		{.track = true, .order = COUNTED_BEFORE_PAUSE},
		{.tell_all = true, .order = STARTED_LATE},
		{.tell_all = true, .order = TOLD_CLEARED_LATE},
		{.tell_all = true, .order = COUNTED_BEFORE_PAUSE},
		{.tell_all = true, .order = TOLD_BEFORE_WRITE, .tell_first = true},
	};
	for (unsigned i = 0; i < sizeof plans / sizeof plans[0]; i++)
		for (int shared = 0; shared < 2; shared++) {
			struct plan p = plans[i];
			p.workload = GW__MEM_BURST;
			p.shared = shared;
			if (try(p) == 0)
				fail_msg("plan %u, order %d: nothing was found", i, (int)p.order);
		}
	/* and that hook alone harms nobody who tells after the write */
	assert_int_equal(try((struct plan){.workload = GW__MEM_BURST, .tell_all = true, .order = TOLD_BEFORE_WRITE}), 0);
}

/* What a tracker is blind for is found, so nobody may think it was seen; reported, it is not lost. */
static void blind_spots_are_found_and_reports_mend_them(void **state)
{
	(void)state;
	assert_int_not_equal(try((struct plan){.workload = GW__MEM_UNTOLD, .shared = true, .track = true}), 0);
	assert_int_equal(try((struct plan){.workload = GW__MEM_TOLD, .shared = true, .track = true}), 0);
	assert_int_not_equal(try((struct plan){.workload = GW__MEM_DISCARD, .shared = true, .track = true}),
		0); /* a hole, and nobody says so */
	assert_int_equal(try((struct plan){.workload = GW__MEM_DISCARD, .shared = true, .track = true, .discard_told = true}), 0);
	assert_int_not_equal(try((struct plan){.workload = GW__MEM_UNIFORM}), 0); /* told alone, and nothing is told */
}

static void against_threads_nothing_is_lost(void **state)
{
	(void)state;
	for (unsigned w = 0; w < GW__MEM_WORKLOADS; w++)
		for (int tell = 0; tell < 2; tell++)
			if (tell || !loses_by_itself(w))
				assert_int_equal(try((struct plan){.workload = w,
							 .shared = w % 2 || w >= GW__MEM_TOLD,
							 .track = !tell,
							 .tell_all = tell,
							 .discard_told = true,
							 .threads = true}),
					0);
}

static int probe(void **state)
{
	(void)state;
	struct gw__tracker *t;
	struct gw__error error = {0};
	if (gw__tracker_new_writes(&t, NULL, 0, PAGE, -1, NULL, &error))
		cannot_run("no asynchronous write protection here: %s", error.text);
	gw__tracker_free(t);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_right_order_loses_nothing),
		cmocka_unit_test(each_broken_order_is_found),
		cmocka_unit_test(blind_spots_are_found_and_reports_mend_them),
		cmocka_unit_test(against_threads_nothing_is_lost),
	};
	return cmocka_run_group_tests_name("tracker_order", tests, probe, NULL);
}
