/* SPDX-License-Identifier: MIT */
/* The states of a post-copy sink as a graph, in both roles: what can be reached, what leads on, and who may run. */
#include "error_text.h"

#include <errno.h>

#include "plan/postcopy_dst.h"

static enum gw__postcopy_dst_role role;

/* The new state, or GW__POSTCOPY_DST_STATES where the table has no row. */
static enum gw__postcopy_dst_state step(enum gw__postcopy_dst_state from, enum gw__postcopy_dst_event event)
{
	struct gw__error error = {0};
	enum gw__postcopy_dst_state to = GW__POSTCOPY_DST_STATES;
	int r = gw__postcopy_dst_step(role, from, event, &to, &error);
	if (r == 0) {
		assert_true(to < GW__POSTCOPY_DST_STATES);
		return to;
	}
	assert_says(&error, -EPROTO, gw__postcopy_dst_state_name(from), gw__postcopy_dst_event_name(event));
	assert_int_equal(to, GW__POSTCOPY_DST_STATES); /* untouched */
	return GW__POSTCOPY_DST_STATES;
}

static void mark_from(enum gw__postcopy_dst_state from, bool reached[GW__POSTCOPY_DST_STATES])
{
	if (from == GW__POSTCOPY_DST_STATES || reached[from])
		return;
	reached[from] = true;
	for (unsigned e = 0; e < GW__POSTCOPY_DST_EVENTS; e++)
		mark_from(step(from, e), reached);
}

static enum gw__postcopy_dst_state first(void) { return role == GW__POSTCOPY_DST_DRAIN ? GW__POSTCOPY_DST_PAUSED : GW__POSTCOPY_DST_SETUP; }

static void mark_all(bool reached[GW__POSTCOPY_DST_STATES])
{
	memset(reached, 0, GW__POSTCOPY_DST_STATES * sizeof *reached);
	mark_from(first(), reached);
}

/* IN_DOUBT: of us; what is held can be ended by another process. */
static bool is_end(enum gw__postcopy_dst_state s)
{
	return s == GW__POSTCOPY_DST_COMPLETED || s == GW__POSTCOPY_DST_FAILED || s == GW__POSTCOPY_DST_IN_DOUBT;
}

/* The guest is its source's there, running or not. */
static bool is_the_sources(enum gw__postcopy_dst_state s)
{
	return s == GW__POSTCOPY_DST_SETUP || s == GW__POSTCOPY_DST_ACTIVE || s == GW__POSTCOPY_DST_DISCARDING ||
	       s == GW__POSTCOPY_DST_FAILED;
}

static void every_state_is_reached(void **state)
{
	(void)state;
	bool reached[GW__POSTCOPY_DST_STATES];
	role = GW__POSTCOPY_DST_KEEP;
	mark_all(reached);
	for (unsigned s = 0; s < GW__POSTCOPY_DST_STATES; s++)
		if (!reached[s])
			fail_msg("nothing leads to %s", gw__postcopy_dst_state_name(s));
}

static void from_every_state_an_end_is_reached(void **state)
{
	(void)state;
	bool all[GW__POSTCOPY_DST_STATES];
	for (role = GW__POSTCOPY_DST_KEEP; role <= GW__POSTCOPY_DST_DRAIN; role++) {
		mark_all(all);
		for (unsigned s = 0; s < GW__POSTCOPY_DST_STATES; s++) {
			bool reached[GW__POSTCOPY_DST_STATES] = {0};
			mark_from(s, reached);
			if (all[s] && !reached[GW__POSTCOPY_DST_COMPLETED] && !reached[GW__POSTCOPY_DST_FAILED] &&
				s != GW__POSTCOPY_DST_IN_DOUBT)
				fail_msg("%s leads nowhere", gw__postcopy_dst_state_name(s));
		}
	}
}

static void ends_are_left_by_nothing(void **state)
{
	(void)state;
	for (role = GW__POSTCOPY_DST_KEEP; role <= GW__POSTCOPY_DST_DRAIN; role++)
		for (unsigned e = 0; e < GW__POSTCOPY_DST_EVENTS; e++) {
			assert_int_equal(step(GW__POSTCOPY_DST_COMPLETED, e), GW__POSTCOPY_DST_STATES);
			assert_int_equal(step(GW__POSTCOPY_DST_FAILED, e), GW__POSTCOPY_DST_STATES);
			if (role == GW__POSTCOPY_DST_DRAIN || e != GW__POSTCOPY_DST_EV_GIVE_BACK)
				assert_int_equal(step(GW__POSTCOPY_DST_IN_DOUBT, e), GW__POSTCOPY_DST_STATES);
		}
}

static void trouble_is_known_everywhere(void **state)
{
	(void)state;
	bool reached[GW__POSTCOPY_DST_STATES];
	for (role = GW__POSTCOPY_DST_KEEP; role <= GW__POSTCOPY_DST_DRAIN; role++) {
		mark_all(reached);
		for (unsigned s = 0; s < GW__POSTCOPY_DST_STATES; s++)
			if (reached[s] && !is_end(s) && step(s, GW__POSTCOPY_DST_EV_BROKEN) == GW__POSTCOPY_DST_STATES)
				fail_msg("%s has no row for trouble", gw__postcopy_dst_state_name(s));
	}
}

/* A drained guest runs elsewhere: no row makes its source run it, and it never comes to a state that belongs to a first connection. */
static void never_two_running(void **state)
{
	(void)state;
	bool reached[GW__POSTCOPY_DST_STATES];
	role = GW__POSTCOPY_DST_DRAIN;
	mark_all(reached);
	for (unsigned s = 0; s < GW__POSTCOPY_DST_STATES; s++) {
		if (!reached[s])
			continue;
		assert_int_equal(step(s, GW__POSTCOPY_DST_EV_GIVE_BACK), GW__POSTCOPY_DST_STATES);
		assert_true(s != GW__POSTCOPY_DST_FAILED && s != GW__POSTCOPY_DST_SETUP && s != GW__POSTCOPY_DST_ACTIVE &&
			    s != GW__POSTCOPY_DST_DEVICE);
	}
}

/* Where the guest stands in its source with a part of it here, no trouble makes it the source's again: only our own word does. */
static void a_standing_guest_is_not_lost(void **state)
{
	(void)state;
	role = GW__POSTCOPY_DST_KEEP;
	for (unsigned s = 0; s < GW__POSTCOPY_DST_STATES; s++)
		for (unsigned e = 0; e < GW__POSTCOPY_DST_EVENTS; e++) {
			enum gw__postcopy_dst_state to = step(s, e);
			if (to == GW__POSTCOPY_DST_FAILED && !is_the_sources(s))
				assert_true((s == GW__POSTCOPY_DST_DEVICE && e == GW__POSTCOPY_DST_EV_BROKEN) ||
					    (s == GW__POSTCOPY_DST_IN_DOUBT && e == GW__POSTCOPY_DST_EV_GIVE_BACK));
		}
}

static void the_ways_in(void **state)
{
	(void)state;
	role = GW__POSTCOPY_DST_KEEP;
	for (unsigned s = 0; s < GW__POSTCOPY_DST_STATES; s++)
		for (unsigned e = 0; e < GW__POSTCOPY_DST_EVENTS; e++) {
			enum gw__postcopy_dst_state to = step(s, e);
			if (to == GW__POSTCOPY_DST_COMPLETED) /* never before it is safe */
				assert_int_equal(e, GW__POSTCOPY_DST_EV_SAFE);
			if (to == GW__POSTCOPY_DST_POSTCOPY_ACTIVE)
				assert_true((s == GW__POSTCOPY_DST_DEVICE && e == GW__POSTCOPY_DST_EV_HELD) ||
					    (s == GW__POSTCOPY_DST_RECOVER && e == GW__POSTCOPY_DST_EV_RESUME));
			if (s == GW__POSTCOPY_DST_PAUSED && to != GW__POSTCOPY_DST_STATES)
				assert_true(to == GW__POSTCOPY_DST_PAUSED || to == GW__POSTCOPY_DST_RECOVER);
		}
}

static void names_are_those_of_query_migrate(void **state)
{
	(void)state;
	assert_string_equal(gw__postcopy_dst_state_name(GW__POSTCOPY_DST_SETUP), "setup");
	assert_string_equal(gw__postcopy_dst_state_name(GW__POSTCOPY_DST_ACTIVE), "active");
	assert_string_equal(gw__postcopy_dst_state_name(GW__POSTCOPY_DST_DEVICE), "postcopy-device");
	assert_string_equal(gw__postcopy_dst_state_name(GW__POSTCOPY_DST_POSTCOPY_ACTIVE), "postcopy-active");
	assert_string_equal(gw__postcopy_dst_state_name(GW__POSTCOPY_DST_PAUSED), "postcopy-paused");
	assert_string_equal(gw__postcopy_dst_state_name(GW__POSTCOPY_DST_RECOVER), "postcopy-recover");
	assert_string_equal(gw__postcopy_dst_state_name(GW__POSTCOPY_DST_STATES), "?");
	assert_string_equal(gw__postcopy_dst_event_name(GW__POSTCOPY_DST_EVENTS), "?");
	for (unsigned s = 0; s < GW__POSTCOPY_DST_STATES; s++)
		assert_string_not_equal(gw__postcopy_dst_state_name(s), "?");
	for (unsigned e = 0; e < GW__POSTCOPY_DST_EVENTS; e++)
		assert_string_not_equal(gw__postcopy_dst_event_name(e), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_state_is_reached),
		cmocka_unit_test(from_every_state_an_end_is_reached),
		cmocka_unit_test(ends_are_left_by_nothing),
		cmocka_unit_test(trouble_is_known_everywhere),
		cmocka_unit_test(never_two_running),
		cmocka_unit_test(a_standing_guest_is_not_lost),
		cmocka_unit_test(the_ways_in),
		cmocka_unit_test(names_are_those_of_query_migrate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
