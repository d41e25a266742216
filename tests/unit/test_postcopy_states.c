/* SPDX-License-Identifier: MIT */
/* The states of a post-copy source as a graph: what can be reached, what leads on, and who may run. */
#include "says.h"

#include <errno.h>

#include "plan/postcopy.h"

/* The new state, or GW__PC_STATES where the table has no row. */
static enum gw__pc_state step(enum gw__pc_state from, enum gw__pc_event event)
{
	struct gw__why why = {0};
	enum gw__pc_state to = GW__PC_STATES;
	int r = gw__pc_step(from, event, &to, &why);
	if (r == 0) {
		assert_true(to < GW__PC_STATES);
		return to;
	}
	assert_int_equal(r, -EPROTO);
	assert_says(&why, -EPROTO, gw__pc_state_name(from), gw__pc_event_name(event));
	assert_int_equal(to, GW__PC_STATES); /* untouched */
	return GW__PC_STATES;
}

static void mark_from(enum gw__pc_state from, bool reached[GW__PC_STATES])
{
	if (from == GW__PC_STATES || reached[from])
		return;
	reached[from] = true;
	for (unsigned e = 0; e < GW__PC_EVENTS; e++)
		mark_from(step(from, e), reached);
}

static bool is_end(enum gw__pc_state s) { return s == GW__PC_COMPLETED || s == GW__PC_FAILED; }

static void every_state_is_reached(void **state)
{
	(void)state;
	bool reached[GW__PC_STATES] = {0};
	mark_from(GW__PC_SETUP, reached);
	for (unsigned s = 0; s < GW__PC_STATES; s++)
		if (!reached[s])
			fail_msg("nothing leads to %s", gw__pc_state_name(s));
}

static void from_every_state_an_end_is_reached(void **state)
{
	(void)state;
	for (unsigned s = 0; s < GW__PC_STATES; s++) {
		bool reached[GW__PC_STATES] = {0};
		mark_from(s, reached);
		if (!reached[GW__PC_COMPLETED] && !reached[GW__PC_FAILED])
			fail_msg("%s leads nowhere", gw__pc_state_name(s));
	}
}

static void ends_are_left_by_nothing(void **state)
{
	(void)state;
	for (unsigned e = 0; e < GW__PC_EVENTS; e++) {
		assert_int_equal(step(GW__PC_COMPLETED, e), GW__PC_STATES);
		assert_int_equal(step(GW__PC_FAILED, e), GW__PC_STATES);
	}
}

/* Whatever happens to the link or to the destination, there is a row for it, in every state but the ends. */
static void trouble_is_known_everywhere(void **state)
{
	(void)state;
	for (unsigned s = 0; s < GW__PC_STATES; s++) {
		if (is_end(s))
			continue;
		if (step(s, GW__PC_EV_BROKEN) == GW__PC_STATES || step(s, GW__PC_EV_SHUT_ERROR) == GW__PC_STATES)
			fail_msg("%s has no row for trouble", gw__pc_state_name(s));
	}
}

/* What the states say of the guest. */
static enum { SOURCE, DESTINATION, UNKNOWN } who_runs(enum gw__pc_state s)
{
	if (s == GW__PC_SETUP || s == GW__PC_ACTIVE || s == GW__PC_FAILED)
		return SOURCE;
	return s == GW__PC_DEVICE ? UNKNOWN : DESTINATION;
}

/* From a guest that is the destination's no path leads back to a source that runs it. */
static void never_two_running(void **state)
{
	(void)state;
	for (unsigned s = 0; s < GW__PC_STATES; s++) {
		bool reached[GW__PC_STATES] = {0};
		if (who_runs(s) != DESTINATION)
			continue;
		mark_from(s, reached);
		for (unsigned t = 0; t < GW__PC_STATES; t++)
			if (reached[t] && who_runs(t) != DESTINATION)
				fail_msg("%s leads to %s", gw__pc_state_name(s), gw__pc_state_name(t));
	}
}

/* While it is not known who runs, only the destination's own word brings the guest back to the source; a broken link does not. */
static void doubt_is_not_guessed_away(void **state)
{
	(void)state;
	for (unsigned s = 0; s < GW__PC_STATES; s++) {
		if (who_runs(s) != UNKNOWN)
			continue;
		for (unsigned e = 0; e < GW__PC_EVENTS; e++) {
			enum gw__pc_state to = step(s, e);
			if (to != GW__PC_STATES && who_runs(to) == SOURCE)
				assert_int_equal(e, GW__PC_EV_SHUT_ERROR);
		}
		assert_int_equal(step(s, GW__PC_EV_BROKEN), GW__PC_PAUSED);
	}
}

/* A destination is told of the end only when all is sent, and pages go out only to one that was asked what it has. */
static void the_ways_in(void **state)
{
	(void)state;
	for (unsigned s = 0; s < GW__PC_STATES; s++)
		for (unsigned e = 0; e < GW__PC_EVENTS; e++) {
			enum gw__pc_state to = step(s, e);
			if (to == GW__PC_COMPLETED)
				assert_true(s == GW__PC_ENDING && e == GW__PC_EV_SHUT_OK);
			if (to == GW__PC_ENDING)
				assert_true(s == GW__PC_POSTCOPY_ACTIVE && e == GW__PC_EV_ALL_SENT);
			if (s == GW__PC_PAUSED && to != GW__PC_STATES)
				assert_true(to == GW__PC_PAUSED || to == GW__PC_RECOVER);
			if (s == GW__PC_RECOVER && to == GW__PC_POSTCOPY_ACTIVE)
				assert_int_equal(e, GW__PC_EV_RESUMED);
		}
}

static void names_are_those_of_query_migrate(void **state)
{
	(void)state;
	assert_string_equal(gw__pc_state_name(GW__PC_SETUP), "setup");
	assert_string_equal(gw__pc_state_name(GW__PC_DEVICE), "postcopy-device");
	assert_string_equal(gw__pc_state_name(GW__PC_POSTCOPY_ACTIVE), "postcopy-active");
	assert_string_equal(gw__pc_state_name(GW__PC_PAUSED), "postcopy-paused");
	assert_string_equal(gw__pc_state_name(GW__PC_RECOVER), "postcopy-recover");
	assert_string_equal(gw__pc_state_name(GW__PC_STATES), "?");
	assert_string_equal(gw__pc_event_name(GW__PC_EVENTS), "?");
	for (unsigned s = 0; s < GW__PC_STATES; s++)
		assert_string_not_equal(gw__pc_state_name(s), "?");
	for (unsigned e = 0; e < GW__PC_EVENTS; e++)
		assert_string_not_equal(gw__pc_event_name(e), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_state_is_reached),
		cmocka_unit_test(from_every_state_an_end_is_reached),
		cmocka_unit_test(ends_are_left_by_nothing),
		cmocka_unit_test(trouble_is_known_everywhere),
		cmocka_unit_test(never_two_running),
		cmocka_unit_test(doubt_is_not_guessed_away),
		cmocka_unit_test(the_ways_in),
		cmocka_unit_test(names_are_those_of_query_migrate),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
