/* SPDX-License-Identifier: MIT */
/* Where the guest is, as a graph: every place and event, what can be reached from where, and what no way leads to. */
#include "error_text.h"

#include <ctype.h>
#include <errno.h>

#include "plan/guest_location.h"

static const char LETTERS[] = "RPDWKHSBL"; /* of the places, in their order; "-": no row */
#define EV(name) GW__LOCATION_EV_##name
#define AT(name) GW__PLACE_##name

/* The whole graph once more, by hand: no event is undefined by accident, and none is defined by one. */
static const char *const GRAPH[GW__LOCATION_EVENTS] = {
	[EV(WRONG_USE)] = "RPDWKHSBL",
	[EV(REFUSED)] = "RPDWKHSBL",
	[EV(UNCHANGED)] = "RPDWKHSB-",
	[EV(SWITCH_BEGUN)] = "PP-------",
	[EV(PERSISTED)] = "-H-------",
	[EV(COMMITTED)] = "KK--KKW--",
	[EV(NOT_NOTIFIED)] = "----B----",
	[EV(UNCONFIRMED)] = "PP--B--B-",
	[EV(BROKEN)] = "RPDWKHSBL",
	[EV(BROKEN_UNSURE)] = "R--------",
	[EV(BROKEN_AT_END)] = "PP--K----",
	[EV(NOTHING_MISSING)] = "-----B---",
	[EV(COMMITTED_UNSAFE)] = "BB--KBSB-",
	[EV(SOURCE_RUNS)] = "RR--RR-R-",
	[EV(SOURCE_STANDS)] = "PP--PP-P-",
	[EV(SAVED_RUNS)] = "----R----",
	[EV(SAVED_STANDS)] = "----P----",
	[EV(SAVED_STOPPED)] = "----K----",
	[EV(SOURCE_UNREPAIRED)] = "PP--BB-B-",
	[EV(SOURCE_WAITS)] = "HH---H-H-",
	[EV(SOURCE_UNCLEAR)] = "BB--BB-B-",
	[EV(SOURCE_GONE)] = "BB--BB-B-",
	[EV(SOURCE_HANGS)] = "HH---H-H-",
	[EV(GIVEN_BACK)] = "-R---R-R-",
	[EV(NOT_GIVEN_BACK)] = "-B---B-B-",
	[EV(FILES_LEFT)] = "RP-------",
	[EV(ALSO_KEPT)] = "RP-------",
	[EV(GIVEN)] = "---WW--W-",
	[EV(ARRIVED)] = "DDDDD-DD-",
	[EV(SENT)] = "BB--B--B-",
	[EV(SENT_UNANSWERED)] = "BB--K----",
	[EV(DESTINATION_FAILED)] = "---LK--KL",
	[EV(DESTINATION_WAITS)] = "---WW--W-",
	[EV(DESTINATION_UNCLEAR)] = "---BB--B-",
	[EV(DESTINATION_SHUT_DOWN)] = "--LL--LLL",
	[EV(DESTINATION_HANGS)] = "---KK--K-",
	[EV(DRAINED_UNSAFE)] = "------S--",
	[EV(DRAINED_UNREAD)] = "---S--S--",
	[EV(DRAINED_UNCONFIRMED)] = "---S--S--",
	[EV(SPLIT)] = "SS----SS-",
	[EV(EPOCH_KEPT)] = "B--------",
	[EV(RELEASED)] = "R--------",
	[EV(PRIMARY_SHUT_DOWN)] = "L--------",
	[EV(PRIMARY_GONE)] = "B--------",
};

/* The new location; its place is GW__PLACES where the table has no row. */
static struct gw__location step(enum gw__place from, enum gw__location_event event)
{
	struct gw__error error = {0};
	struct gw__location l = gw__location_at(from), before = l;
	int r = gw__location_step(&l, event, &error);
	if (r == 0) {
		assert_true(l.place < GW__PLACES && l.next_step < GW__NEXT_STEPS);
		return l;
	}
	assert_says(&error, -EPROTO, gw__place_name(from), gw__location_event_name(event));
	assert_memory_equal(&l, &before, sizeof l);
	l.place = GW__PLACES;
	return l;
}

static void each_event_at_each_place_is_as_written(void **state)
{
	(void)state;
	for (unsigned e = 0; e < GW__LOCATION_EVENTS; e++) {
		assert_non_null(GRAPH[e]);
		assert_int_equal(strlen(GRAPH[e]), GW__PLACES);
		for (unsigned p = 0; p < GW__PLACES; p++) {
			enum gw__place to = step(p, e).place;
			char got = '-';
			if (to < GW__PLACES)
				got = LETTERS[to];
			if (got != GRAPH[e][p])
				fail_msg("%s at %s: %c, expected %c", gw__location_event_name(e), gw__place_name(p), got, GRAPH[e][p]);
		}
	}
}

static void mark_from(enum gw__place from, bool reached[GW__PLACES])
{
	if (from == GW__PLACES || reached[from])
		return;
	reached[from] = true;
	for (unsigned e = 0; e < GW__LOCATION_EVENTS; e++)
		mark_from(step(from, e).place, reached);
}

/* A guest begins at its source, in an image, or split between two that lost each other. */
static void every_place_is_reached(void **state)
{
	(void)state;
	bool reached[GW__PLACES] = {0};
	mark_from(AT(SOURCE_RUNS), reached);
	mark_from(AT(KEPT_WHOLE), reached);
	mark_from(AT(SPLIT), reached);
	for (unsigned p = 0; p < GW__PLACES; p++)
		if (!reached[p])
			fail_msg("nothing leads to %s", gw__place_name(p));
}

/* Nothing breaks unforeseen, and a break alone moves no guest: at most less is known of it. */
static void a_break_has_a_row_everywhere_and_moves_nothing(void **state)
{
	(void)state;
	for (unsigned p = 0; p < GW__PLACES; p++)
		assert_int_equal(step(p, EV(BROKEN)).place, p);
}

/* Somebody looked, and saw it. */
static bool is_proof(enum gw__location_event e)
{
	return e == EV(SOURCE_RUNS) || e == EV(SOURCE_STANDS) || e == EV(SOURCE_WAITS) || e == EV(SOURCE_HANGS) || e == EV(GIVEN_BACK) ||
	       e == EV(GIVEN) || e == EV(ARRIVED) || e == EV(DESTINATION_FAILED) || e == EV(DESTINATION_WAITS) ||
	       e == EV(DESTINATION_SHUT_DOWN) || e == EV(DESTINATION_HANGS) || e == EV(SPLIT);
}

static void doubt_ends_by_proof_alone(void **state)
{
	(void)state;
	for (unsigned e = 0; e < GW__LOCATION_EVENTS; e++) {
		enum gw__place to = step(AT(BOTH_POSSIBLE), e).place;
		if (to != GW__PLACES && to != AT(BOTH_POSSIBLE))
			assert_true(is_proof(e));
		if (to == AT(SOURCE_RUNS))
			assert_true(e == EV(SOURCE_RUNS) || e == EV(GIVEN_BACK));
	}
}

/* Whom the destination has, its source gets back by nothing but a look at the source while both are possible. */
static void never_two_running(void **state)
{
	(void)state;
	const enum gw__place gone[] = {AT(DESTINATION_RUNS), AT(DESTINATION_WAITS), AT(SPLIT), AT(LOST)};
	for (unsigned i = 0; i < sizeof gone / sizeof gone[0]; i++)
		for (unsigned e = 0; e < GW__LOCATION_EVENTS; e++) {
			enum gw__place to = step(gone[i], e).place;
			assert_true(to != AT(SOURCE_RUNS) && to != AT(SOURCE_PAUSED) && to != AT(KEPT_IN_PART));
			/* and the image is what it was, only for a destination that never ran */
			if (to == AT(KEPT_WHOLE))
				assert_int_equal(e, EV(DESTINATION_HANGS));
		}
}

/* A part in an image is of use as long as its source waits: what ends that was seen, or leaves doubt. */
static void a_part_is_not_dropped_by_a_guess(void **state)
{
	(void)state;
	for (unsigned e = 0; e < GW__LOCATION_EVENTS; e++) {
		enum gw__place to = step(AT(KEPT_IN_PART), e).place;
		if (to == GW__PLACES || to == AT(KEPT_IN_PART) || to == AT(BOTH_POSSIBLE) || e == EV(COMMITTED))
			continue;
		assert_true(is_proof(e));
		assert_true(to == AT(SOURCE_RUNS) || to == AT(SOURCE_PAUSED));
	}
}

static void a_lost_guest_stays_lost(void **state)
{
	(void)state;
	bool reached[GW__PLACES] = {0};
	mark_from(AT(LOST), reached);
	for (unsigned p = 0; p < GW__PLACES; p++)
		assert_int_equal(reached[p], p == AT(LOST));
}

/* 0: nothing is to be asked. 1: the guest is where it was, or its end is known. 5: somebody waits. */
static bool status_fits(enum gw__location_event e, const struct gw__location *l)
{
	switch (l->status) {
	case GW__STATUS_DONE:
		return l->place != AT(KEPT_IN_PART) && l->place != AT(SPLIT) &&
		       (l->place != AT(BOTH_POSSIBLE) || e == EV(SENT_UNANSWERED)) &&
		       (l->next_step == GW__NEXT_NOTHING || l->next_step == GW__NEXT_SERVE || l->next_step == GW__NEXT_CONTINUE_SOURCE);
	case GW__STATUS_FAILED:
		return e == EV(UNCHANGED) || l->place == AT(SOURCE_RUNS) || l->place == AT(SOURCE_PAUSED) || l->place == AT(KEPT_WHOLE) ||
		       l->place == AT(LOST);
	case GW__STATUS_USAGE:
		return e == EV(WRONG_USE);
	case GW__STATUS_REFUSED:
		return e == EV(REFUSED);
	case GW__STATUS_IN_DOUBT:
		return l->place != AT(DESTINATION_RUNS) && l->place != AT(DESTINATION_WAITS) && l->place != AT(LOST);
	case GW__STATUS_RECOVERABLE:
		return l->place == AT(DESTINATION_WAITS) || l->place == AT(KEPT_IN_PART) || l->place == AT(SPLIT) ||
		       l->place == AT(BOTH_POSSIBLE);
	}
	return false;
}

static void the_exit_status_fits_the_place(void **state)
{
	(void)state;
	for (unsigned p = 0; p < GW__PLACES; p++) {
		struct gw__location l = gw__location_at(p);
		assert_int_equal(l.place, p);
		assert_true(status_fits(EV(BROKEN), &l));
		for (unsigned e = 0; e < GW__LOCATION_EVENTS; e++) {
			l = step(p, e);
			if (l.place != GW__PLACES && !status_fits(e, &l))
				fail_msg("%s at %s: %s with status %d", gw__location_event_name(e), gw__place_name(p),
					gw__place_name(l.place), l.status);
		}
	}
}

/* Who waits for pages, or for a rest, is never told that nothing is to be done; nor where two may have it. */
static void the_next_step_fits_the_place(void **state)
{
	(void)state;
	for (unsigned p = 0; p < GW__PLACES; p++)
		for (unsigned e = 0; e < GW__LOCATION_EVENTS; e++) {
			struct gw__location l = step(p, e);
			bool owes = l.place == AT(DESTINATION_WAITS) || l.place == AT(KEPT_IN_PART) || l.place == AT(SPLIT) ||
				    l.place == AT(BOTH_POSSIBLE);
			if (l.place != GW__PLACES && owes && e != EV(SENT_UNANSWERED))
				assert_true(l.next_step != GW__NEXT_NOTHING);
			if (l.next_step == GW__NEXT_CONTINUE_SOURCE) /* "cont": only where nobody else can have it */
				assert_true(l.place == AT(SOURCE_RUNS) || l.place == AT(SOURCE_PAUSED));
		}
}

struct seen {
	const char *message;
	enum gw__status status;
};

static void note_message(struct seen seen[100], const struct gw__location *l)
{
	unsigned i = 0;
	for (const char *c = l->message; *c; c++)
		assert_true(islower((unsigned char)*c) || (*c == '-' && c != l->message && c[1]));
	while (seen[i].message && strcmp(seen[i].message, l->message))
		i++;
	assert_true(i < 99);
	if (seen[i].message && seen[i].status != l->status)
		fail_msg("\"%s\" is said with status %d and %d", l->message, seen[i].status, l->status);
	seen[i] = (struct seen){l->message, l->status};
}

/* One id, one exit status: who reads the one needs not ask for the other. */
static void ids_are_well_formed_and_mean_one_thing(void **state)
{
	(void)state;
	struct seen seen[100] = {0};
	for (unsigned p = 0; p < GW__PLACES; p++) {
		struct gw__location l = gw__location_at(p);
		note_message(seen, &l);
		for (unsigned e = 0; e < GW__LOCATION_EVENTS; e++) {
			l = step(p, e);
			if (l.place != GW__PLACES)
				note_message(seen, &l);
		}
	}
}

/* What cannot be, and was seen all the same, leaves doubt; what can be is a step as any. */
static void a_contradiction_leaves_doubt(void **state)
{
	(void)state;
	for (unsigned p = 0; p < GW__PLACES; p++)
		for (unsigned e = 0; e < GW__LOCATION_EVENTS; e++) {
			struct gw__location l = gw__location_at(p), stepped = step(p, e);
			gw__location_note(&l, e);
			if (stepped.place == GW__PLACES) {
				assert_int_equal(l.place, AT(BOTH_POSSIBLE));
				assert_int_equal(l.status, GW__STATUS_IN_DOUBT);
				assert_string_equal(l.message, "contradiction");
			} else {
				assert_int_equal(l.place, stepped.place);
			}
		}
}

static void names_are_there_and_differ(void **state)
{
	(void)state;
	for (unsigned a = 0; a < GW__PLACES; a++)
		for (unsigned b = 0; b < a; b++)
			assert_string_not_equal(gw__place_name(a), gw__place_name(b));
	for (unsigned a = 0; a < GW__NEXT_STEPS; a++)
		for (unsigned b = 0; b < a; b++)
			assert_string_not_equal(gw__next_step_name(a), gw__next_step_name(b));
	for (unsigned a = 0; a < GW__LOCATION_EVENTS; a++)
		for (unsigned b = 0; b < a; b++)
			assert_string_not_equal(gw__location_event_name(a), gw__location_event_name(b));
	assert_string_equal(gw__place_name(GW__PLACES), "?");
	assert_string_equal(gw__next_step_name(GW__NEXT_STEPS), "?");
	assert_string_equal(gw__location_event_name(GW__LOCATION_EVENTS), "?");
	assert_int_equal(gw__location_at(GW__PLACES).place, AT(BOTH_POSSIBLE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_event_at_each_place_is_as_written),
		cmocka_unit_test(every_place_is_reached),
		cmocka_unit_test(a_break_has_a_row_everywhere_and_moves_nothing),
		cmocka_unit_test(doubt_ends_by_proof_alone),
		cmocka_unit_test(never_two_running),
		cmocka_unit_test(a_part_is_not_dropped_by_a_guess),
		cmocka_unit_test(a_lost_guest_stays_lost),
		cmocka_unit_test(the_exit_status_fits_the_place),
		cmocka_unit_test(the_next_step_fits_the_place),
		cmocka_unit_test(ids_are_well_formed_and_mean_one_thing),
		cmocka_unit_test(a_contradiction_leaves_doubt),
		cmocka_unit_test(names_are_there_and_differ),
	};
	return cmocka_run_group_tests_name("guest_location", tests, NULL, NULL);
}
