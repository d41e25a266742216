/* SPDX-License-Identifier: MIT */
/* Both sides of COLO as graphs: what can be reached, what leads on, who holds an epoch and whose guest is stopped. */
#include "error_text.h"

#include <errno.h>

#include "plan/colo_primary.h"
#include "plan/colo_secondary.h"
#include "wire/colo.h"

/* The two tables look alike from here. */
struct side {
	unsigned states, events, first;
	int (*step)(unsigned state, unsigned event, unsigned *next, struct gw__error *error);
	const char *(*state_name)(unsigned state), *(*event_name)(unsigned event);
	int (*expects)(unsigned state), (*event_of)(unsigned message);
	unsigned broken;
	bool (*is_end)(unsigned state);
};

static int step_secondary(unsigned state, unsigned event, unsigned *next, struct gw__error *error)
{
	enum gw__colo_secondary_state to = *next;
	int r = gw__colo_secondary_step(state, event, &to, error);
	*next = to;
	return r;
}

static int step_primary(unsigned state, unsigned event, unsigned *next, struct gw__error *error)
{
	enum gw__colo_primary_state to = *next;
	int r = gw__colo_primary_step(state, event, &to, error);
	*next = to;
	return r;
}

static const char *secondary_state(unsigned s) { return gw__colo_secondary_state_name(s); }
static const char *secondary_event(unsigned e) { return gw__colo_secondary_event_name(e); }
static const char *primary_state(unsigned s) { return gw__colo_primary_state_name(s); }
static const char *primary_event(unsigned e) { return gw__colo_primary_event_name(e); }
static int secondary_expects(unsigned s) { return gw__colo_secondary_expects(s); }
static int primary_expects(unsigned s) { return gw__colo_primary_expects(s); }
static bool secondary_end(unsigned s) { return s == GW__COLO_SECONDARY_FAILED || s == GW__COLO_SECONDARY_FAILED_OVER; }
static bool primary_end(unsigned s) { return s == GW__COLO_PRIMARY_FAILED || s == GW__COLO_PRIMARY_RELEASED; }

static const struct side sides[] = {
	{GW__COLO_SECONDARY_STATES, GW__COLO_SECONDARY_EVENTS, GW__COLO_SECONDARY_SETUP, step_secondary, secondary_state, secondary_event,
		secondary_expects, gw__colo_secondary_event_of, GW__COLO_SECONDARY_EV_BROKEN, secondary_end},
	{GW__COLO_PRIMARY_STATES, GW__COLO_PRIMARY_EVENTS, GW__COLO_PRIMARY_SETUP, step_primary, primary_state, primary_event,
		primary_expects, gw__colo_primary_event_of, GW__COLO_PRIMARY_EV_BROKEN, primary_end},
};
enum { SECONDARY, PRIMARY, SIDES };

/* The new state, or `states` where the table has no row. */
static unsigned step(const struct side *s, unsigned from, unsigned event)
{
	struct gw__error error = {0};
	unsigned to = s->states;
	int r = s->step(from, event, &to, &error);
	if (!r) {
		assert_true(to < s->states);
		return to;
	}
	assert_int_equal(r, -EPROTO);
	assert_says(&error, -EPROTO, s->state_name(from), s->event_name(event));
	assert_int_equal(to, s->states);
	return s->states;
}

static void mark_from(const struct side *s, unsigned from, bool *reached)
{
	if (from == s->states || reached[from])
		return;
	reached[from] = true;
	for (unsigned e = 0; e < s->events; e++)
		mark_from(s, step(s, from, e), reached);
}

static void every_state_is_reached_and_leads_to_an_end(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIDES; i++) {
		const struct side *s = &sides[i];
		bool reached[32] = {0};
		mark_from(s, s->first, reached);
		for (unsigned from = 0; from < s->states; from++) {
			bool onward[32] = {0}, ends = false;
			if (!reached[from])
				fail_msg("nothing leads to %s", s->state_name(from));
			mark_from(s, from, onward);
			for (unsigned to = 0; to < s->states; to++)
				ends = ends || (onward[to] && s->is_end(to));
			if (!ends)
				fail_msg("%s leads nowhere", s->state_name(from));
		}
	}
}

static void names_are_there_and_differ(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIDES; i++) {
		for (unsigned a = 0; a < sides[i].states; a++)
			for (unsigned b = 0; b < a; b++)
				assert_string_not_equal(sides[i].state_name(a), sides[i].state_name(b));
		for (unsigned a = 0; a < sides[i].events; a++)
			for (unsigned b = 0; b < a; b++)
				assert_string_not_equal(sides[i].event_name(a), sides[i].event_name(b));
	}
}

/* A link breaks in any state but an end; where it is over already, it cannot. */
static void a_broken_link_has_a_row(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIDES; i++)
		for (unsigned from = 0; from < sides[i].states; from++) {
			bool over = sides[i].is_end(from) ||
				    (i == SECONDARY ? from == GW__COLO_SECONDARY_LOST
						    : from == GW__COLO_PRIMARY_LOST_RUNNING || from == GW__COLO_PRIMARY_LOST_STOPPED);
			bool has_row = step(&sides[i], from, sides[i].broken) != sides[i].states;
			if (over == has_row)
				fail_msg("%s: a broken link %s", sides[i].state_name(from), over ? "has a row" : "has no row");
		}
}

/* Of the seven messages exactly the expected one is taken in each state, and of the others each has a sentence. */
static void one_message_at_a_time(void **state)
{
	(void)state;
	for (unsigned i = 0; i < SIDES; i++)
		for (unsigned from = 0; from < sides[i].states; from++)
			for (unsigned m = 0; m < GW__COLO_MESSAGES; m++) {
				int event = sides[i].event_of(m);
				bool taken = event >= 0 && step(&sides[i], from, (unsigned)event) != sides[i].states;
				if (taken != (sides[i].expects(from) == (int)m))
					fail_msg("%s: %s is %s", sides[i].state_name(from), gw__colo_message_name(m),
						taken ? "taken and not expected" : "expected and not taken");
			}
}

/* What one side sends, the other takes: no message has two directions, and none has neither. */
static void each_message_has_one_direction(void **state)
{
	(void)state;
	for (unsigned m = 0; m < GW__COLO_MESSAGES; m++)
		assert_int_equal((gw__colo_primary_event_of(m) >= 0) + (gw__colo_secondary_event_of(m) >= 0), 1);
	assert_int_equal(gw__colo_primary_event_of(GW__COLO_MESSAGES), -1);
	assert_int_equal(gw__colo_secondary_event_of(GW__COLO_MESSAGES), -1);
}

/* An epoch that is partly here is dropped by whatever happens; only the one event that says "stored" leads to its use. */
static void no_part_of_an_epoch_is_used(void **state)
{
	(void)state;
	for (unsigned from = GW__COLO_SECONDARY_IDLE; from <= GW__COLO_SECONDARY_DEVICES; from++)
		for (unsigned e = 0; e < GW__COLO_SECONDARY_EVENTS; e++) {
			unsigned to = step(&sides[SECONDARY], from, e);
			bool new_epoch = to == GW__COLO_SECONDARY_SAFE || to == GW__COLO_SECONDARY_ACKNOWLEDGED;
			assert_int_equal(new_epoch, from == GW__COLO_SECONDARY_DEVICES && e == GW__COLO_SECONDARY_EV_EPOCH_SAFE);
		}
	/* And nobody is told VMSTATE_RECEIVED before that. */
	for (unsigned from = 0; from < GW__COLO_SECONDARY_STATES; from++)
		assert_int_equal(step(&sides[SECONDARY], from, GW__COLO_SECONDARY_EV_RECEIVED_SENT) != GW__COLO_SECONDARY_STATES,
			from == GW__COLO_SECONDARY_SAFE);
}

/* Failover is possible wherever there is an epoch, and only once. */
static void failover_where_there_is_an_epoch(void **state)
{
	(void)state;
	for (unsigned from = 0; from < GW__COLO_SECONDARY_STATES; from++) {
		unsigned to = step(&sides[SECONDARY], from, GW__COLO_SECONDARY_EV_FAILOVER);
		assert_int_equal(to != GW__COLO_SECONDARY_STATES, gw__colo_secondary_has_epoch(from));
		if (to != GW__COLO_SECONDARY_STATES)
			assert_int_equal(to, GW__COLO_SECONDARY_FAILED_OVER);
	}
	for (unsigned e = 0; e < GW__COLO_SECONDARY_EVENTS; e++)
		assert_int_equal(step(&sides[SECONDARY], GW__COLO_SECONDARY_FAILED_OVER, e), GW__COLO_SECONDARY_STATES);
}

/* A primary whose secondary is lost says truly whether its guest was stopped, and runs a stopped one only when that was decided. */
static void a_lost_secondary_runs_nothing(void **state)
{
	(void)state;
	for (unsigned from = 0; from < GW__COLO_PRIMARY_STATES; from++) {
		unsigned to = step(&sides[PRIMARY], from, GW__COLO_PRIMARY_EV_BROKEN);
		if (to != GW__COLO_PRIMARY_STATES)
			assert_int_equal(gw__colo_primary_guest_is_stopped(to), gw__colo_primary_guest_is_stopped(from));
		for (unsigned e = 0; e < GW__COLO_PRIMARY_EVENTS; e++) {
			to = step(&sides[PRIMARY], from, e);
			if (to == GW__COLO_PRIMARY_STATES || !gw__colo_primary_guest_is_stopped(from) ||
				gw__colo_primary_guest_is_stopped(to))
				continue;
			assert_true(e == GW__COLO_PRIMARY_EV_READY || e == GW__COLO_PRIMARY_EV_LOADED || e == GW__COLO_PRIMARY_EV_RELEASE);
		}
	}
}

/* Both walk together, message by message, through two checkpoints; each side's view of the primary's guest is the same at each message. */
static void the_two_sides_fit(void **state)
{
	(void)state;
	static const struct {
		int primary, secondary; /* -1: nothing happens there */
	} way[] = {
		{GW__COLO_PRIMARY_EV_GUEST_SENT, GW__COLO_SECONDARY_EV_GUEST_SAFE},
		{GW__COLO_PRIMARY_EV_SHUT, -1},
		{GW__COLO_PRIMARY_EV_READY, GW__COLO_SECONDARY_EV_READY_SENT},
		{GW__COLO_PRIMARY_EV_REQUEST_SENT, GW__COLO_SECONDARY_EV_REQUEST},
		{GW__COLO_PRIMARY_EV_REPLY, GW__COLO_SECONDARY_EV_REPLY_SENT},
		{GW__COLO_PRIMARY_EV_SEND_SENT, GW__COLO_SECONDARY_EV_SEND},
		{GW__COLO_PRIMARY_EV_RAM_SENT, GW__COLO_SECONDARY_EV_RAM_END},
		{-1, GW__COLO_SECONDARY_EV_SIZE},
		{GW__COLO_PRIMARY_EV_DEVICES_SENT, GW__COLO_SECONDARY_EV_EPOCH_SAFE},
		{GW__COLO_PRIMARY_EV_RECEIVED, GW__COLO_SECONDARY_EV_RECEIVED_SENT},
		{GW__COLO_PRIMARY_EV_LOADED, GW__COLO_SECONDARY_EV_LOADED_SENT},
	};
	unsigned p = GW__COLO_PRIMARY_SETUP, s = GW__COLO_SECONDARY_SETUP;
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = round ? 3 : 0; i < sizeof way / sizeof way[0]; i++) {
			p = way[i].primary < 0 ? p : step(&sides[PRIMARY], p, (unsigned)way[i].primary);
			s = way[i].secondary < 0 ? s : step(&sides[SECONDARY], s, (unsigned)way[i].secondary);
			assert_true(p < GW__COLO_PRIMARY_STATES && s < GW__COLO_SECONDARY_STATES);
			assert_int_equal(gw__colo_primary_guest_is_stopped(p), gw__colo_secondary_holds_primary(s));
		}
	assert_int_equal(p, GW__COLO_PRIMARY_IDLE);
	assert_int_equal(s, GW__COLO_SECONDARY_IDLE);
}

static void the_old_dialect_has_no_shut(void **state)
{
	(void)state;
	unsigned p = step(&sides[PRIMARY], GW__COLO_PRIMARY_SETUP, GW__COLO_PRIMARY_EV_GUEST_SENT_OLD);
	assert_int_equal(p, GW__COLO_PRIMARY_AWAIT_READY);
	assert_int_equal(step(&sides[PRIMARY], p, GW__COLO_PRIMARY_EV_SHUT), GW__COLO_PRIMARY_STATES);
	/* READY before SHUT, in the new one */
	p = step(&sides[PRIMARY], GW__COLO_PRIMARY_SETUP, GW__COLO_PRIMARY_EV_GUEST_SENT);
	assert_int_equal(step(&sides[PRIMARY], p, GW__COLO_PRIMARY_EV_READY), GW__COLO_PRIMARY_STATES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_state_is_reached_and_leads_to_an_end),
		cmocka_unit_test(names_are_there_and_differ),
		cmocka_unit_test(a_broken_link_has_a_row),
		cmocka_unit_test(one_message_at_a_time),
		cmocka_unit_test(each_message_has_one_direction),
		cmocka_unit_test(no_part_of_an_epoch_is_used),
		cmocka_unit_test(failover_where_there_is_an_epoch),
		cmocka_unit_test(a_lost_secondary_runs_nothing),
		cmocka_unit_test(the_two_sides_fit),
		cmocka_unit_test(the_old_dialect_has_no_shut),
	};
	return cmocka_run_group_tests_name("colo_states", tests, NULL, NULL);
}
