/* SPDX-License-Identifier: MIT */
/* When a guest is stopped for its last round: the decisions one by one, and 10,000 seeded links and writers through to their end. */
#include "unit.h"

#include <stdbool.h>
#include <stdio.h>

#include "plan/converge.h"

#define MS     UINT64_C(1000000)
#define SECOND (1000 * MS)
#define MIB    UINT64_C(1048576)
#define AT(x)  GW__CONVERGE_AT_##x
#define DO(x)  GW__CONVERGE_##x

/* --- One by one ---------------------------------------------------------------------------------------------------- */

/* 100 MiB/s for two seconds, of a first round that has not ended. */
static struct gw__converge_now steady(struct gw__converge *c, const struct gw__converge_limits *l)
{
	struct gw__converge_now n = {.page_bytes = 4096, .unsent_pages = 1000000};
	gw__converge_init(c, l);
	for (unsigned i = 0; i < 20; i++) {
		n.now_ns = n.busy_ns += 100 * MS;
		n.left_bytes += 10 * MIB;
		n.sent_pages += 2560;
		struct gw__converge_verdict v = gw__converge_ask(c, AT(SAMPLE), &n);
		assert_int_equal(v.decision, DO(COPY));
		assert_int_equal(v.bandwidth, 100 * MIB);
	}
	return n;
}

static struct gw__converge_verdict round_with(struct gw__converge *c, struct gw__converge_now *n, uint64_t dirty)
{
	n->now_ns += SECOND;
	n->busy_ns += SECOND;
	n->left_bytes += 100 * MIB;
	n->sent_pages += 25600;
	n->unsent_pages = 0;
	n->dirty_pages = dirty;
	return gw__converge_ask(c, AT(END), n);
}

static void a_round_that_fits_is_looked_at_and_finished(void **state)
{
	(void)state;
	struct gw__converge c;
	struct gw__converge_now n = steady(&c, &(struct gw__converge_limits){.downtime_ns = 300 * MS, .policy = DO(GIVE_UP)});
	assert_int_equal(round_with(&c, &n, 20000).decision, DO(COPY)); /* 781 ms */
	struct gw__converge_verdict v = round_with(&c, &n, 2560);
	assert_int_equal(v.decision, DO(LOOK));
	assert_in_range(v.expected_ns, 100 * MS, 101 * MS);
	v = gw__converge_ask(&c, AT(LOOK), &n);
	assert_int_equal(v.decision, DO(FINISH));
	assert_int_equal(v.reason, DO(FITS));
}

static void a_peek_finds_the_minimum_within_a_round(void **state)
{
	(void)state;
	struct gw__converge c;
	struct gw__converge_now n = steady(&c, &(struct gw__converge_limits){.downtime_ns = 300 * MS});
	n.unsent_pages = 100000;
	n.dirty_pages = 100;
	struct gw__converge_verdict v = gw__converge_ask(&c, AT(PEEK), &n);
	assert_int_equal(v.decision, DO(COPY));
	assert_false(v.peek);
	n.unsent_pages = 20000;
	v = gw__converge_ask(&c, AT(PEEK), &n);
	assert_int_equal(v.decision, DO(COPY));
	assert_true(v.peek);
	n.unsent_pages = 5000;
	assert_int_equal(gw__converge_ask(&c, AT(SAMPLE), &n).decision, DO(COPY)); /* a sample has not looked */
	assert_int_equal(gw__converge_ask(&c, AT(PEEK), &n).decision, DO(LOOK));
}

/* The slow fifth decides, not the mean, and not what was written into a socket. */
static void the_bandwidth_is_that_of_the_slow_fifth(void **state)
{
	(void)state;
	struct gw__converge c;
	struct gw__converge_now n = steady(&c, &(struct gw__converge_limits){.downtime_ns = 300 * MS});
	struct gw__converge_verdict v = {0};
	for (unsigned i = 0; i < 40; i++) {
		n.now_ns = n.busy_ns += 100 * MS;
		n.left_bytes += i % 4 ? 10 * MIB : 2 * MIB;
		v = gw__converge_ask(&c, AT(SAMPLE), &n);
	}
	assert_int_equal(v.bandwidth, 20 * MIB);
	n.now_ns += 500 * MS; /* nothing to send: says nothing about the link */
	assert_int_equal(gw__converge_ask(&c, AT(SAMPLE), &n).bandwidth, 20 * MIB);
}

static void a_look_that_does_not_fit_lets_the_guest_run_three_times_at_most(void **state)
{
	(void)state;
	struct gw__converge c;
	struct gw__converge_now n = steady(&c, &(struct gw__converge_limits){.downtime_ns = 300 * MS, .policy = DO(GIVE_UP)});
	uint64_t fitting[] = {7600, 5700, 3800};
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(round_with(&c, &n, fitting[i] + 200).decision, DO(COPY)); /* a larger reserve each time */
		n.dirty_pages = fitting[i];
		n.unsent_pages = 0;
		assert_int_equal(gw__converge_ask(&c, AT(PEEK), &n).decision, DO(LOOK));
		n.dirty_pages = 9000;
		struct gw__converge_verdict v = gw__converge_ask(&c, AT(LOOK), &n);
		assert_int_equal(v.decision, i == 2 ? DO(FAIL) : DO(COPY));
		assert_int_equal(v.reason, DO(NO_FIT));
	}
}

static void a_slow_pause_is_made_in_vain_once(void **state)
{
	(void)state;
	struct gw__converge c;
	struct gw__converge_now n = steady(&c, &(struct gw__converge_limits){.downtime_ns = 300 * MS, .policy = DO(STOP)});
	n.pause_ns = 160 * MS;
	assert_int_equal(round_with(&c, &n, 2000).decision, DO(LOOK));
	n.dirty_pages = 9000;
	struct gw__converge_verdict v = gw__converge_ask(&c, AT(LOOK), &n);
	assert_int_equal(v.decision, DO(FINISH));
	assert_int_equal(v.reason, DO(NO_FIT)); /* stopped for longer, as was ordered, and it says so */
}

static void without_progress_the_policy_acts(void **state)
{
	(void)state;
	const struct {
		struct gw__converge_limits l;
		unsigned round; /* in which it acts */
		enum gw__converge_decision decision;
		enum gw__converge_reason reason;
	} rows[] = {
		{{.policy = DO(SWITCH), .can_switch = true}, 4, DO(DO_SWITCH), DO(NO_PROGRESS)},
		{{.policy = DO(SWITCH), .can_switch = false}, 4, DO(FAIL), DO(NO_PROGRESS)},
		{{.policy = DO(SWITCH), .can_switch = true, .patience = 5}, 6, DO(DO_SWITCH), DO(NO_PROGRESS)},
		{{.policy = DO(THROTTLE), .can_throttle = true}, 4, DO(DO_THROTTLE), DO(NO_PROGRESS)},
		{{.policy = DO(THROTTLE)}, 4, DO(FAIL), DO(NO_PROGRESS)},
		{{.policy = DO(GIVE_UP)}, 4, DO(FAIL), DO(NO_PROGRESS)},
		{{.policy = DO(STOP)}, 4, DO(FINISH), DO(NO_PROGRESS)},
		{{.policy = DO(STOP), .give_up_ns = 4 * SECOND}, 2, DO(FAIL), DO(TOO_LONG)},
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct gw__converge c;
		struct gw__converge_limits l = rows[i].l;
		l.downtime_ns = 300 * MS;
		struct gw__converge_now n = steady(&c, &l);
		for (unsigned round = 1; round <= rows[i].round; round++) {
			struct gw__converge_verdict v = round_with(&c, &n, 20000 - round * 100);
			assert_int_equal(v.decision, round < rows[i].round ? DO(COPY) : rows[i].decision);
			if (round == rows[i].round)
				assert_int_equal(v.reason, rows[i].reason);
		}
	}
}

static void a_guest_faster_than_the_link_is_switched_after_its_second_round(void **state)
{
	(void)state;
	struct gw__converge c;
	struct gw__converge_now n =
		steady(&c, &(struct gw__converge_limits){.downtime_ns = 300 * MS, .policy = DO(SWITCH), .can_switch = true});
	assert_int_equal(round_with(&c, &n, 90000).decision, DO(COPY));
	struct gw__converge_verdict v = round_with(&c, &n, 30000);
	assert_int_equal(v.decision, DO(DO_SWITCH));
	assert_int_equal(v.reason, DO(TOO_FAST));
	assert_true(v.dirty_rate > v.bandwidth);
}

static void a_throttle_is_computed_grows_and_ends(void **state)
{
	(void)state;
	struct gw__converge c;
	struct gw__converge_now n =
		steady(&c, &(struct gw__converge_limits){.downtime_ns = 300 * MS, .policy = DO(THROTTLE), .can_throttle = true});
	unsigned last = 0, rounds = 0;
	for (;;) {
		struct gw__converge_verdict v = round_with(&c, &n, 102400); /* four times what the link carries */
		assert_true(++rounds < 30);
		if (v.decision == DO(FAIL)) {
			assert_int_equal(v.reason, DO(THROTTLED));
			break;
		}
		if (v.decision == DO(DO_THROTTLE)) {
			if (last == 0)
				assert_in_range(v.throttle, 87, 88); /* 1 - 0.5 / 4 */
			assert_true(v.throttle > last);
			last = v.throttle;
		}
	}
	assert_int_equal(last, 99);
}

static void costs_without_pages_are_named(void **state)
{
	(void)state;
	struct gw__converge c;
	struct gw__converge_now n =
		steady(&c, &(struct gw__converge_limits){.downtime_ns = 300 * MS, .policy = DO(THROTTLE), .can_throttle = true});
	n.load_ns = 301 * MS;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(round_with(&c, &n, 0).decision, DO(COPY));
	struct gw__converge_verdict v = round_with(&c, &n, 0);
	assert_int_equal(v.decision, DO(FAIL));
	assert_int_equal(v.reason, DO(FIXED_COSTS));
}

static void a_link_that_carries_nothing_is_named(void **state)
{
	(void)state;
	struct gw__converge c;
	struct gw__converge_now n = steady(&c, &(struct gw__converge_limits){.downtime_ns = 300 * MS, .policy = DO(STOP)});
	struct gw__converge_verdict v = {0};
	uint64_t begin = n.now_ns;
	while (v.decision == DO(COPY)) {
		n.now_ns = n.busy_ns += 100 * MS;
		v = gw__converge_ask(&c, AT(SAMPLE), &n);
	}
	assert_int_equal(v.reason, DO(STALLED));
	assert_in_range(n.now_ns - begin, 59 * SECOND, 61 * SECOND);
}

static void reasons_have_texts_that_differ(void **state)
{
	(void)state;
	for (unsigned a = 0; a < GW__CONVERGE_REASONS; a++)
		for (unsigned b = 0; b < a; b++)
			assert_string_not_equal(gw__converge_reason_text(a), gw__converge_reason_text(b));
	assert_string_equal(gw__converge_reason_text(GW__CONVERGE_REASONS), "?");
}

/* --- Ten thousand guests ------------------------------------------------------------------------------------------- */

/*
 * A guest writes at some rate into a working set, in bursts perhaps, and a link carries what it carries, with jitter, dips and steps. Both are
 * known by their means only: of the pages of the working set a share is clean, and a write to one of these is a new dirty page.
 */
struct simulated {
	uint64_t random;
	/* the guest */
	double ram_pages, set_pages, writes; /* per second */
	double burst_on, burst_off;          /* seconds; burst_off 0: always */
	double pause, load, round_trip, devices;
	/* the link, bytes per second */
	double link, jitter, dip_every, dip_for, dip_to, step_at, step_to;
	/* now */
	double t, busy, left, sent, unsent, dirty, throttle, rate_now;
	double outage_until;
};

static uint64_t next_random(struct simulated *s)
{
	uint64_t x = s->random += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static double within(struct simulated *s, double from, double to)
{
	return from + (to - from) * (double)(next_random(s) >> 11) / 9007199254740992.0;
}

/* From `from` to `to`, every order of magnitude as often as any. */
static double magnitude(struct simulated *s, double from, double to)
{
	double x = from;
	for (double left = within(s, 0, 1) * 10; left > 0; left -= 1)
		for (double r = 1; r < to / from; r *= 2)
			x *= left >= 1 ? 1.0718 : 1 + 0.0718 * left; /* 2 ^ 0.1 */
	return x > to ? to : x;
}

static struct simulated simulated_by(uint64_t seed)
{
	struct simulated s = {.random = seed * 977};
	s.link = magnitude(&s, 1e6, 4e9);
	s.ram_pages = magnitude(&s, 64, s.link / 4096 * 10 + 1000);
	s.set_pages = s.ram_pages * within(&s, 0, 1) * within(&s, 0, 1) + 1;
	s.writes = magnitude(&s, 1, s.link / 4096 * 8 + 10);
	if (next_random(&s) % 3 == 0) {
		s.burst_on = magnitude(&s, 0.01, 3);
		s.burst_off = magnitude(&s, 0.01, 10);
	}
	s.jitter = next_random(&s) % 2 ? within(&s, 0, 0.9) : 0;
	if (next_random(&s) % 4 == 0) {
		s.dip_every = magnitude(&s, 0.5, 20);
		s.dip_for = magnitude(&s, 0.05, 2);
		s.dip_to = within(&s, 0, 0.5);
	}
	if (next_random(&s) % 4 == 0) {
		s.step_at = within(&s, 0, 60);
		s.step_to = magnitude(&s, 0.1, 4);
	}
	s.pause = magnitude(&s, 0.0001, 0.05);
	s.load = magnitude(&s, 0.0001, 0.1);
	s.round_trip = magnitude(&s, 0.0001, 0.1);
	s.devices = magnitude(&s, 100, s.link / 50 + 1000);
	s.unsent = s.ram_pages;
	return s;
}

static double remainder_of(double x, double y) { return x - (double)(uint64_t)(x / y) * y; }

static void link_now(struct simulated *s)
{
	double rate = s->link;
	if (s->step_at > 0 && s->t > s->step_at)
		rate *= s->step_to;
	if (s->dip_every > 0 && remainder_of(s->t, s->dip_every + s->dip_for) > s->dip_every)
		rate *= s->dip_to;
	s->rate_now = rate * within(s, 1 - s->jitter, 1);
}

static void dirty_more(struct simulated *s, double dt)
{
	if (s->burst_off > 0 && remainder_of(s->t, s->burst_on + s->burst_off) > s->burst_on)
		return;
	double clean = s->set_pages - s->dirty, more = s->writes * dt * (100 - s->throttle) / 100 * clean / s->set_pages;
	s->dirty += more > clean ? clean : more;
}

/* Sends for dt at most; the time until all of the round was sent, or dt. */
static double send_for(struct simulated *s, double dt)
{
	link_now(s);
	double pages = s->rate_now * dt / 4105, used = dt;
	if (pages >= s->unsent) {
		used = s->rate_now > 0 ? s->unsent * 4105 / s->rate_now : dt;
		pages = s->unsent;
	}
	s->unsent -= pages;
	s->sent += pages;
	s->left += pages * 4105;
	s->busy += used;
	s->t += used;
	return used;
}

static struct gw__converge_now seen(const struct simulated *s)
{
	return (struct gw__converge_now){.now_ns = (uint64_t)(s->t * 1e9),
		.busy_ns = (uint64_t)(s->busy * 1e9),
		.left_bytes = (uint64_t)s->left,
		.sent_pages = (uint64_t)s->sent,
		.unsent_pages = (uint64_t)(s->unsent + 0.999),
		.dirty_pages = (uint64_t)(s->dirty + 0.999),
		.page_bytes = 4096,
		.device_bytes = (uint64_t)s->devices,
		.pause_ns = (uint64_t)(s->pause * 1e9),
		.round_trip_ns = (uint64_t)(s->round_trip * 1e9),
		.load_ns = (uint64_t)(s->load * 1e9)};
}

/* The last round as it really is; the downtime, and what the link carried meanwhile. */
static double stop_for_good(struct simulated *s, double *bandwidth)
{
	double bytes = (s->unsent + s->dirty) * 4105 + s->devices, left = bytes, begin = s->t, costs = s->pause + s->load + s->round_trip;
	while (left > 0 && s->t - begin < 3600) {
		link_now(s);
		bool last = s->rate_now * 0.01 >= left;
		s->t += last ? left / s->rate_now : 0.01;
		left -= last ? left : s->rate_now * 0.01;
	}
	*bandwidth = bytes / (s->t - begin + 1e-9);
	return s->t - begin + costs;
}

struct ends {
	unsigned by_decision[8][GW__CONVERGE_REASONS], judged[GW__CONVERGE_REASONS];
	double slowest;
};

/* One guest to its end; false: none came within an hour of its time. */
static bool simulate(struct simulated *s, const struct gw__converge_limits *l, struct ends *ends, uint64_t seed)
{
	struct gw__converge c;
	bool peek = false;
	unsigned ticks = 0;
	gw__converge_init(&c, l);
	while (s->t < 3600) {
		double tick = peek ? 0.05 : 0.1;
		bool done = send_for(s, tick) < tick || s->unsent <= 0;
		dirty_more(s, tick);
		struct gw__converge_now n = seen(s);
		enum gw__converge_at at = done ? AT(END) : peek || ++ticks % 10 == 0 ? AT(PEEK) : AT(SAMPLE);
		struct gw__converge_verdict v = gw__converge_ask(&c, at, &n);
		peek = at == AT(SAMPLE) ? peek : v.peek;
		if (done) {
			s->unsent = s->dirty;
			s->dirty = 0;
			s->t += 0.001; /* harvest */
		}
		if (v.decision == DO(LOOK)) {
			double more = s->pause;
			dirty_more(s, more);
			s->t += more;
			n = seen(s);
			v = gw__converge_ask(&c, AT(LOOK), &n);
			if (v.decision == DO(COPY))
				s->t += s->pause;
		}
		s->throttle = v.throttle;
		if (v.decision == DO(COPY) || v.decision == DO(DO_THROTTLE))
			continue;
		ends->by_decision[v.decision][v.reason]++;
		if (v.decision != DO(FINISH))
			return true;
		double bandwidth, downtime = stop_for_good(s, &bandwidth);
		enum gw__converge_reason why = gw__converge_judge(&v, l->downtime_ns, (uint64_t)(downtime * 1e9), (uint64_t)bandwidth);
		ends->judged[why]++;
		if (why == DO(FITS) && downtime * 1e9 > 1.5 * (double)l->downtime_ns)
			fail_msg("seed %llu: %f s down, limit %llu ms", (unsigned long long)seed, downtime,
				(unsigned long long)(l->downtime_ns / MS));
		if (why == DO(SLOWER_LINK) && s->jitter == 0 && s->dip_every == 0 && s->step_at == 0)
			fail_msg("seed %llu: a steady link is said to be slower", (unsigned long long)seed);
		if (why == DO(SLOWER_ENDS))
			fail_msg("seed %llu: %f s down: the ends took what was said", (unsigned long long)seed, downtime);
		return true;
	}
	return false;
}

static void ten_thousand_guests_end_in_time_or_with_a_name(void **state)
{
	(void)state;
	const char *only = getenv("GODWIT_SEED"), *last = getenv("GODWIT_ROUNDS");
	struct ends ends = {0};
	for (uint64_t seed = only ? strtoull(only, NULL, 10) : 1; seed <= (only          ? strtoull(only, NULL, 10)
										  : last ? strtoull(last, NULL, 10)
											 : 10000);
		seed++) {
		struct simulated s = simulated_by(seed);
		struct gw__converge_limits l = {.policy = seed % 4,
			.can_switch = seed % 8 < 6,
			.can_throttle = seed % 16 < 12,
			.downtime_ns = (uint64_t)(magnitude(&s, 0.01, 2) * 1e9)};
		if (seed % 5 == 0)
			l.give_up_ns = (uint64_t)(magnitude(&s, 1, 600) * 1e9);
		if (!simulate(&s, &l, &ends, seed))
			fail_msg("seed %llu: no end", (unsigned long long)seed);
		if (s.t > ends.slowest)
			ends.slowest = s.t;
	}
	if (only || last)
		return;
	static const char *const decisions[] = {"go on", "look", "finish", "switch", "throttle", "fail"};
	for (unsigned d = 0; d < 6; d++)
		for (unsigned r = 0; r < GW__CONVERGE_REASONS; r++)
			if (ends.by_decision[d][r])
				print_message("%5u %-7s %s\n", ends.by_decision[d][r], decisions[d], gw__converge_reason_text(r));
	for (unsigned r = 0; r < GW__CONVERGE_REASONS; r++)
		if (ends.judged[r])
			print_message("%5u stopped: %s\n", ends.judged[r], gw__converge_reason_text(r));
	print_message("the slowest took %.0f s of its time\n", ends.slowest);
	/* the simulator does simulate: each end is met */
	assert_true(ends.judged[DO(FITS)] > 2000);
	assert_true(ends.by_decision[DO(DO_SWITCH)][DO(TOO_FAST)] > 100);
	assert_true(ends.by_decision[DO(FAIL)][DO(TOO_LONG)] > 20);
	assert_true(ends.judged[DO(SLOWER_LINK)] < ends.judged[DO(FITS)] / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_round_that_fits_is_looked_at_and_finished),
		cmocka_unit_test(a_peek_finds_the_minimum_within_a_round),
		cmocka_unit_test(the_bandwidth_is_that_of_the_slow_fifth),
		cmocka_unit_test(a_look_that_does_not_fit_lets_the_guest_run_three_times_at_most),
		cmocka_unit_test(a_slow_pause_is_made_in_vain_once),
		cmocka_unit_test(without_progress_the_policy_acts),
		cmocka_unit_test(a_guest_faster_than_the_link_is_switched_after_its_second_round),
		cmocka_unit_test(a_throttle_is_computed_grows_and_ends),
		cmocka_unit_test(costs_without_pages_are_named),
		cmocka_unit_test(a_link_that_carries_nothing_is_named),
		cmocka_unit_test(reasons_have_texts_that_differ),
		cmocka_unit_test(ten_thousand_guests_end_in_time_or_with_a_name),
	};
	return cmocka_run_group_tests_name("converge", tests, NULL, NULL);
}
