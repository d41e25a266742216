/* SPDX-License-Identifier: MIT */
/* The states of a post-copy source as a graph: what can be reached, what leads on, and who may run. */
#include "error_text.h"

#include <errno.h>

#include "plan/postcopy_src.h"

/* The new state, or GW__POSTCOPY_SRC_STATES where the table has no row. */
static enum gw__postcopy_src_state step(enum gw__postcopy_src_state from, enum gw__postcopy_src_event event)
{
	struct gw__error error = {0};
	enum gw__postcopy_src_state to = GW__POSTCOPY_SRC_STATES;
	int r = gw__postcopy_src_step(from, event, &to, &error);
	if (r == 0) {
		assert_true(to < GW__POSTCOPY_SRC_STATES);
		return to;
	}
	assert_int_equal(r, -EPROTO);
	assert_says(&error, -EPROTO, gw__postcopy_src_state_name(from), gw__postcopy_src_event_name(event));
	assert_int_equal(to, GW__POSTCOPY_SRC_STATES); /* untouched */
	return GW__POSTCOPY_SRC_STATES;
}

static void mark_from(enum gw__postcopy_src_state from, bool reached[GW__POSTCOPY_SRC_STATES])
{
	if (from == GW__POSTCOPY_SRC_STATES || reached[from])
		return;
	reached[from] = true;
	for (unsigned e = 0; e < GW__POSTCOPY_SRC_EVENTS; e++)
		mark_from(step(from, e), reached);
}

static bool is_end(enum gw__postcopy_src_state s) { return s == GW__POSTCOPY_SRC_COMPLETED || s == GW__POSTCOPY_SRC_FAILED; }

static void every_state_is_reached(void **state)
{
	(void)state;
	bool reached[GW__POSTCOPY_SRC_STATES] = {0};
	mark_from(GW__POSTCOPY_SRC_SETUP, reached);
	for (unsigned s = 0; s < GW__POSTCOPY_SRC_STATES; s++)
		if (!reached[s])
			fail_msg("nothing leads to %s", gw__postcopy_src_state_name(s));
}

static void from_every_state_an_end_is_reached(void **state)
{
	(void)state;
	for (unsigned s = 0; s < GW__POSTCOPY_SRC_STATES; s++) {
		bool reached[GW__POSTCOPY_SRC_STATES] = {0};
		mark_from(s, reached);
		if (!reached[GW__POSTCOPY_SRC_COMPLETED] && !reached[GW__POSTCOPY_SRC_FAILED])
			fail_msg("%s leads nowhere", gw__postcopy_src_state_name(s));
	}
}

static void ends_are_left_by_nothing(void **state)
{
	(void)state;
	for (unsigned e = 0; e < GW__POSTCOPY_SRC_EVENTS; e++) {
		assert_int_equal(step(GW__POSTCOPY_SRC_COMPLETED, e), GW__POSTCOPY_SRC_STATES);
		assert_int_equal(step(GW__POSTCOPY_SRC_FAILED, e), GW__POSTCOPY_SRC_STATES);
	}
}

/* Whatever happens to the link or to the destination, there is a row for it, in every state but the ends. */
static void trouble_is_known_everywhere(void **state)
{
	(void)state;
	for (unsigned s = 0; s < GW__POSTCOPY_SRC_STATES; s++) {
		if (is_end(s))
			continue;
		if (step(s, GW__POSTCOPY_SRC_EV_BROKEN) == GW__POSTCOPY_SRC_STATES ||
			step(s, GW__POSTCOPY_SRC_EV_SHUT_ERROR) == GW__POSTCOPY_SRC_STATES)
			fail_msg("%s has no row for trouble", gw__postcopy_src_state_name(s));
	}
}

/* What the states say of the guest. */
static enum { SOURCE, DESTINATION, UNKNOWN } who_runs(enum gw__postcopy_src_state s)
{
	if (s == GW__POSTCOPY_SRC_SETUP || s == GW__POSTCOPY_SRC_ACTIVE || s == GW__POSTCOPY_SRC_FAILED)
		return SOURCE;
	return s == GW__POSTCOPY_SRC_DEVICE ? UNKNOWN : DESTINATION;
}

/* From a guest that is the destination's no path leads back to a source that runs it. */
static void never_two_running(void **state)
{
	(void)state;
	for (unsigned s = 0; s < GW__POSTCOPY_SRC_STATES; s++) {
		bool reached[GW__POSTCOPY_SRC_STATES] = {0};
		if (who_runs(s) != DESTINATION)
			continue;
		mark_from(s, reached);
		for (unsigned t = 0; t < GW__POSTCOPY_SRC_STATES; t++)
			if (reached[t] && who_runs(t) != DESTINATION)
				fail_msg("%s leads to %s", gw__postcopy_src_state_name(s), gw__postcopy_src_state_name(t));
	}
}

/* While it is not known who runs, only the destination's own word brings the guest back to the source; a broken link does not. */
static void doubt_is_not_guessed_away(void **state)
{
	(void)state;
	for (unsigned s = 0; s < GW__POSTCOPY_SRC_STATES; s++) {
		if (who_runs(s) != UNKNOWN)
			continue;
		for (unsigned e = 0; e < GW__POSTCOPY_SRC_EVENTS; e++) {
			enum gw__postcopy_src_state to = step(s, e);
			if (to != GW__POSTCOPY_SRC_STATES && who_runs(to) == SOURCE)
				assert_int_equal(e, GW__POSTCOPY_SRC_EV_SHUT_ERROR);
		}
		assert_int_equal(step(s, GW__POSTCOPY_SRC_EV_BROKEN), GW__POSTCOPY_SRC_PAUSED);
	}
}

/* A destination is told of the end only when all is sent, and pages go out only to one that was asked what it has. */
static void the_ways_in(void **state)
{
	(void)state;
	for (unsigned s = 0; s < GW__POSTCOPY_SRC_STATES; s++)
		for (unsigned e = 0; e < GW__POSTCOPY_SRC_EVENTS; e++) {
			enum gw__postcopy_src_state to = step(s, e);
			if (to == GW__POSTCOPY_SRC_COMPLETED)
				assert_true(s == GW__POSTCOPY_SRC_ENDING && e == GW__POSTCOPY_SRC_EV_SHUT_OK);
			if (to == GW__POSTCOPY_SRC_ENDING)
				assert_true(s == GW__POSTCOPY_SRC_POSTCOPY_ACTIVE && e == GW__POSTCOPY_SRC_EV_ALL_SENT);
			if (s == GW__POSTCOPY_SRC_PAUSED && to != GW__POSTCOPY_SRC_STATES)
				assert_true(to == GW__POSTCOPY_SRC_PAUSED || to == GW__POSTCOPY_SRC_RECOVER);
			if (s == GW__POSTCOPY_SRC_RECOVER && to == GW__POSTCOPY_SRC_POSTCOPY_ACTIVE)
				assert_int_equal(e, GW__POSTCOPY_SRC_EV_RESUMED);
		}
}

static void names_are_those_of_query_migrate(void **state)
{
	(void)state;
	assert_string_equal(gw__postcopy_src_state_name(GW__POSTCOPY_SRC_SETUP), "setup");
	assert_string_equal(gw__postcopy_src_state_name(GW__POSTCOPY_SRC_DEVICE), "postcopy-device");
	assert_string_equal(gw__postcopy_src_state_name(GW__POSTCOPY_SRC_POSTCOPY_ACTIVE), "postcopy-active");
	assert_string_equal(gw__postcopy_src_state_name(GW__POSTCOPY_SRC_PAUSED), "postcopy-paused");
	assert_string_equal(gw__postcopy_src_state_name(GW__POSTCOPY_SRC_RECOVER), "postcopy-recover");
	assert_string_equal(gw__postcopy_src_state_name(GW__POSTCOPY_SRC_STATES), "?");
	assert_string_equal(gw__postcopy_src_event_name(GW__POSTCOPY_SRC_EVENTS), "?");
	for (unsigned s = 0; s < GW__POSTCOPY_SRC_STATES; s++)
		assert_string_not_equal(gw__postcopy_src_state_name(s), "?");
	for (unsigned e = 0; e < GW__POSTCOPY_SRC_EVENTS; e++)
		assert_string_not_equal(gw__postcopy_src_event_name(e), "?");
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
