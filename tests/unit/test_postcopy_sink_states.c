/* SPDX-License-Identifier: MIT */
/* The states of a post-copy sink as a graph, in both roles: what can be reached, what leads on, and who may run. */
#include "says.h"

#include <errno.h>

#include "plan/postcopy_sink.h"

static enum gw__ps_role role;

/* The new state, or GW__PS_STATES where the table has no row. */
static enum gw__ps_state step(enum gw__ps_state from, enum gw__ps_event event)
{
	struct gw__why why = {0};
	enum gw__ps_state to = GW__PS_STATES;
	int r = gw__ps_step(role, from, event, &to, &why);
	if (r == 0) {
		assert_true(to < GW__PS_STATES);
		return to;
	}
	assert_says(&why, -EPROTO, gw__ps_state_name(from), gw__ps_event_name(event));
	assert_int_equal(to, GW__PS_STATES); /* untouched */
	return GW__PS_STATES;
}

static void mark_from(enum gw__ps_state from, bool reached[GW__PS_STATES])
{
	if (from == GW__PS_STATES || reached[from])
		return;
	reached[from] = true;
	for (unsigned e = 0; e < GW__PS_EVENTS; e++)
		mark_from(step(from, e), reached);
}

static enum gw__ps_state first(void) { return role == GW__PS_DRAIN ? GW__PS_PAUSED : GW__PS_SETUP; }

static void mark_all(bool reached[GW__PS_STATES])
{
	memset(reached, 0, GW__PS_STATES * sizeof *reached);
	mark_from(first(), reached);
}

/* IN_DOUBT: of us; what is held can be ended by another process. */
static bool is_end(enum gw__ps_state s) { return s == GW__PS_COMPLETED || s == GW__PS_FAILED || s == GW__PS_IN_DOUBT; }

/* The guest is its source's there, running or not. */
static bool is_the_sources(enum gw__ps_state s)
{
	return s == GW__PS_SETUP || s == GW__PS_ACTIVE || s == GW__PS_DISCARDING || s == GW__PS_FAILED;
}

static void every_state_is_reached(void **state)
{
	(void)state;
	bool reached[GW__PS_STATES];
	role = GW__PS_KEEP;
	mark_all(reached);
	for (unsigned s = 0; s < GW__PS_STATES; s++)
		if (!reached[s])
			fail_msg("nothing leads to %s", gw__ps_state_name(s));
}

static void from_every_state_an_end_is_reached(void **state)
{
	(void)state;
	bool all[GW__PS_STATES];
	for (role = GW__PS_KEEP; role <= GW__PS_DRAIN; role++) {
		mark_all(all);
		for (unsigned s = 0; s < GW__PS_STATES; s++) {
			bool reached[GW__PS_STATES] = {0};
			mark_from(s, reached);
			if (all[s] && !reached[GW__PS_COMPLETED] && !reached[GW__PS_FAILED] && s != GW__PS_IN_DOUBT)
				fail_msg("%s leads nowhere", gw__ps_state_name(s));
		}
	}
}

static void ends_are_left_by_nothing(void **state)
{
	(void)state;
	for (role = GW__PS_KEEP; role <= GW__PS_DRAIN; role++)
		for (unsigned e = 0; e < GW__PS_EVENTS; e++) {
			assert_int_equal(step(GW__PS_COMPLETED, e), GW__PS_STATES);
			assert_int_equal(step(GW__PS_FAILED, e), GW__PS_STATES);
			if (role == GW__PS_DRAIN || e != GW__PS_EV_GIVE_BACK)
				assert_int_equal(step(GW__PS_IN_DOUBT, e), GW__PS_STATES);
		}
}

static void trouble_is_known_everywhere(void **state)
{
	(void)state;
	bool reached[GW__PS_STATES];
	for (role = GW__PS_KEEP; role <= GW__PS_DRAIN; role++) {
		mark_all(reached);
		for (unsigned s = 0; s < GW__PS_STATES; s++)
			if (reached[s] && !is_end(s) && step(s, GW__PS_EV_BROKEN) == GW__PS_STATES)
				fail_msg("%s has no row for trouble", gw__ps_state_name(s));
	}
}

/* A drained guest runs elsewhere: no row makes its source run it, and it never comes to a state that belongs to a first connection. */
static void never_two_running(void **state)
{
	(void)state;
	bool reached[GW__PS_STATES];
	role = GW__PS_DRAIN;
	mark_all(reached);
	for (unsigned s = 0; s < GW__PS_STATES; s++) {
		if (!reached[s])
			continue;
		assert_int_equal(step(s, GW__PS_EV_GIVE_BACK), GW__PS_STATES);
		assert_true(s != GW__PS_FAILED && s != GW__PS_SETUP && s != GW__PS_ACTIVE && s != GW__PS_DEVICE);
	}
}

/* Where the guest stands in its source with a part of it here, no trouble makes it the source's again: only our own word does. */
static void a_standing_guest_is_not_lost(void **state)
{
	(void)state;
	role = GW__PS_KEEP;
	for (unsigned s = 0; s < GW__PS_STATES; s++)
		for (unsigned e = 0; e < GW__PS_EVENTS; e++) {
			enum gw__ps_state to = step(s, e);
			if (to == GW__PS_FAILED && !is_the_sources(s))
				assert_true((s == GW__PS_DEVICE && e == GW__PS_EV_BROKEN) ||
					    (s == GW__PS_IN_DOUBT && e == GW__PS_EV_GIVE_BACK));
		}
}

static void the_ways_in(void **state)
{
	(void)state;
	role = GW__PS_KEEP;
	for (unsigned s = 0; s < GW__PS_STATES; s++)
		for (unsigned e = 0; e < GW__PS_EVENTS; e++) {
			enum gw__ps_state to = step(s, e);
			if (to == GW__PS_COMPLETED) /* never before it is safe */
				assert_int_equal(e, GW__PS_EV_SAFE);
			if (to == GW__PS_POSTCOPY_ACTIVE)
				assert_true((s == GW__PS_DEVICE && e == GW__PS_EV_HELD) || (s == GW__PS_RECOVER && e == GW__PS_EV_RESUME));
			if (s == GW__PS_PAUSED && to != GW__PS_STATES)
				assert_true(to == GW__PS_PAUSED || to == GW__PS_RECOVER);
		}
}

static void names_are_those_of_query_migrate(void **state)
{
	(void)state;
	assert_string_equal(gw__ps_state_name(GW__PS_SETUP), "setup");
	assert_string_equal(gw__ps_state_name(GW__PS_ACTIVE), "active");
	assert_string_equal(gw__ps_state_name(GW__PS_DEVICE), "postcopy-device");
	assert_string_equal(gw__ps_state_name(GW__PS_POSTCOPY_ACTIVE), "postcopy-active");
	assert_string_equal(gw__ps_state_name(GW__PS_PAUSED), "postcopy-paused");
	assert_string_equal(gw__ps_state_name(GW__PS_RECOVER), "postcopy-recover");
	assert_string_equal(gw__ps_state_name(GW__PS_STATES), "?");
	assert_string_equal(gw__ps_event_name(GW__PS_EVENTS), "?");
	for (unsigned s = 0; s < GW__PS_STATES; s++)
		assert_string_not_equal(gw__ps_state_name(s), "?");
	for (unsigned e = 0; e < GW__PS_EVENTS; e++)
		assert_string_not_equal(gw__ps_event_name(e), "?");
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
