/* SPDX-License-Identifier: MIT */
/*
 * Who may run a guest while it is handed over: both ends, the bytes between them, and every interleaving of what each does with a link that is lost,
 * an end that crashes, a cancel, a new attempt with another destination, and an operator who decides. In no reachable state two of them run it.
 */
#include "error_text.h"

#include <errno.h>

#include "plan/handover.h"

#define AT(name) GW__HANDOVER_##name
#define EV(name) GW__HANDOVER_EV_##name

enum { ATTEMPTS = 2, MESSAGES = 4, DEAD = 0x7f };
enum message { NONE, PING, END, PACKAGE, PONG, RUNS, SHUT_OK, SHUT_ERROR };

/* Bytes only, so that two worlds can be compared. */
struct link {
	uint8_t destination, lost, postcopy, shut_sent;
	uint8_t out[MESSAGES], in[MESSAGES]; /* under way; the oldest first */
};
struct world {
	uint8_t source, place, attempt, crashed;
	struct link link[ATTEMPTS];
};

/* A row of the table that is other than it should be, to see that this would be found. */
struct mutation {
	enum gw__handover_state state;
	enum gw__handover_event event;
	enum gw__handover_state next;
};

struct explorer {
	struct world *seen;
	size_t slots, count;
	const struct mutation *mutation;
	bool two_running, guest_vanished, place_wrong;
	unsigned reached[GW__HANDOVER_STATES];
};

static int step(const struct explorer *x, uint8_t *state, enum gw__handover_event event, uint8_t *place)
{
	struct gw__location l = gw__location_at(place ? *place : 0);
	enum gw__handover_state next;
	struct gw__error error = {0};
	const struct mutation *m = x->mutation;
	int r = 0;
	if (m && m->state == *state && m->event == event)
		next = m->next;
	else
		r = gw__handover_step(*state, event, &next, place ? &l : NULL, &error);
	if (r < 0)
		return r;
	*state = (uint8_t)next;
	if (place)
		*place = (uint8_t)l.place;
	return 0;
}

static void put(struct link *l, uint8_t queue[MESSAGES], enum message m)
{
	for (unsigned i = 0; !l->lost && i < MESSAGES; i++)
		if (queue[i] == NONE) {
			queue[i] = (uint8_t)m;
			return;
		}
}

static enum message take(uint8_t queue[MESSAGES])
{
	enum message m = queue[0];
	memmove(queue, queue + 1, MESSAGES - 1);
	queue[MESSAGES - 1] = NONE;
	return m;
}

static bool runs(const struct world *w)
{
	unsigned n = w->source != DEAD && gw__handover_may_run(w->source);
	for (unsigned i = 0; i < ATTEMPTS; i++)
		n += w->link[i].destination != DEAD && gw__handover_may_run(w->link[i].destination);
	return n > 1;
}

static bool somewhere(const struct world *w)
{
	bool there = w->source != DEAD && w->source != AT(GONE);
	for (unsigned i = 0; i < ATTEMPTS; i++)
		there |= w->link[i].destination == AT(RUNS_HERE);
	return there || w->crashed;
}

/* The place, as the source knows it, is never one where it runs the guest and it does not, or the other way round. */
static bool place_fits(const struct world *w)
{
	switch (w->source) {
	case AT(RUNS):
	case AT(RETURNED):
		return w->place == GW__PLACE_SOURCE_RUNS;
	case AT(HELD):
		return w->place == GW__PLACE_SPLIT;
	case AT(IN_DOUBT):
		return w->place == GW__PLACE_BOTH_POSSIBLE;
	case AT(GONE):
		return w->place == GW__PLACE_DESTINATION_RUNS;
	default:
		return w->source == DEAD || w->place == GW__PLACE_SOURCE_PAUSED;
	}
}

static size_t hash_of(const struct world *w)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	for (size_t i = 0; i < sizeof *w; i++)
		h = (h ^ ((const uint8_t *)w)[i]) * UINT64_C(0x100000001b3);
	return (size_t)(h ^ h >> 32);
}

/* False: it was seen already. */
static bool note(struct explorer *x, const struct world *w)
{
	static const struct world none;
	size_t at = hash_of(w) % x->slots;
	for (; memcmp(&x->seen[at], &none, sizeof none) != 0; at = (at + 1) % x->slots)
		if (memcmp(&x->seen[at], w, sizeof *w) == 0)
			return false;
	x->seen[at] = *w;
	assert_true(++x->count < x->slots / 2);
	return true;
}

static void explore(struct explorer *x, struct world w);

/* --- What the source may do ---------------------------------------------------------------------------------------- */

static void source_does(struct explorer *x, struct world w, enum gw__handover_event event, enum message m)
{
	struct link *l = &w.link[w.attempt];
	if (step(x, &w.source, event, &w.place) < 0)
		return;
	if (m == PACKAGE)
		l->postcopy = true;
	if (m != NONE)
		put(l, l->out, m);
	if (w.source == AT(RETURNED)) /* it closes the link; what is under way may still arrive */
		l->lost = true;
	explore(x, w);
}

static void source_reads(struct explorer *x, struct world w)
{
	static const enum gw__handover_event events[] =
		{[PONG] = EV(PONG), [RUNS] = EV(RUNS_THERE), [SHUT_OK] = EV(SHUT_OK), [SHUT_ERROR] = EV(SHUT_ERROR)};
	struct link *l = &w.link[w.attempt];
	if (l->in[0] == NONE || w.source == AT(RETURNED) || w.source == AT(GONE) || w.source == AT(IN_DOUBT))
		return;
	enum gw__handover_event event = events[take(l->in)];
	if (step(x, &w.source, event, &w.place) < 0) { /* it has no place: a failure like any other */
		l->lost = true;
		if (step(x, &w.source, EV(BROKEN), &w.place) < 0)
			return;
	}
	if (w.source == AT(RETURNED))
		l->lost = true;
	explore(x, w);
}

/* Somebody looked: at each destination there was. */
static void operator_decides(struct explorer *x, struct world w)
{
	bool none_can = true, one_runs = false;
	for (unsigned i = 0; i < ATTEMPTS; i++) {
		one_runs |= w.link[i].destination == AT(RUNS_HERE);
		none_can &= w.link[i].destination == DEAD || w.link[i].destination == AT(EMPTY) || i > w.attempt;
	}
	if (none_can)
		source_does(x, w, EV(OURS), NONE);
	if (one_runs)
		source_does(x, w, EV(THEIRS), NONE);
}

static void source_acts(struct explorer *x, struct world w)
{
	if (w.source == DEAD)
		return;
	source_does(x, w, EV(PAUSED), NONE);
	source_does(x, w, EV(ASKED), PING);
	source_does(x, w, EV(NOT_ASKED), NONE);
	source_does(x, w, EV(END_BEGUN), END);
	source_does(x, w, EV(PACKAGE_BEGUN), PACKAGE);
	source_does(x, w, EV(CANCEL), NONE);
	if (w.link[w.attempt].lost)
		source_does(x, w, EV(BROKEN), NONE);
	source_reads(x, w);
	if (w.source == AT(IN_DOUBT) || w.source == AT(HELD))
		operator_decides(x, w);
	if (w.source == AT(RETURNED) && w.attempt + 1 < ATTEMPTS) { /* to another destination, or the same, restarted */
		w.attempt++;
		w.source = AT(RUNS);
		explore(x, w);
	}
}

/* --- What a destination may do ------------------------------------------------------------------------------------- */

static void destination_does(struct explorer *x, struct world w, unsigned i, enum gw__handover_event event, enum message answer)
{
	struct link *l = &w.link[i];
	if (step(x, &l->destination, event, NULL) < 0)
		return;
	if (answer != NONE)
		put(l, l->in, answer);
	l->shut_sent |= answer == SHUT_OK || answer == SHUT_ERROR;
	if (l->destination == AT(EMPTY)) /* it closes the link; its answer may still arrive */
		l->lost = true;
	explore(x, w);
}

static void destination_acts(struct explorer *x, struct world w, unsigned i)
{
	struct link *l = &w.link[i];
	if (l->destination == DEAD)
		return;
	if (l->lost)
		destination_does(x, w, i, EV(BROKEN), NONE);
	if (l->destination == AT(RUNS_HERE) && l->postcopy && !l->shut_sent) { /* it needs no page any more */
		struct world ended = w;
		ended.link[i].shut_sent = true;
		put(&ended.link[i], ended.link[i].in, SHUT_OK);
		explore(x, ended);
	}
	if (l->out[0] == NONE || l->destination == AT(EMPTY) || l->destination == AT(RUNS_HERE))
		return;
	enum message m = take(l->out);
	destination_does(x, w, i, EV(LOAD_FAILED), SHUT_ERROR);
	if (m == PING)
		destination_does(x, w, i, EV(PING), PONG);
	if (m == END)
		destination_does(x, w, i, EV(END), SHUT_OK);
	if (m == PACKAGE)
		destination_does(x, w, i, EV(PACKAGE), RUNS);
}

/* --- All of it ----------------------------------------------------------------------------------------------------- */

static void accidents(struct explorer *x, struct world w)
{
	for (unsigned i = 0; i < ATTEMPTS; i++) {
		struct world lost = w, crashed = w, dropped = w;
		lost.link[i].lost = true;
		explore(x, lost);
		crashed.link[i].destination = DEAD;
		crashed.link[i].lost = crashed.crashed = true;
		explore(x, crashed);
		if (w.link[i].lost) { /* what was under way is gone, either way */
			memset(dropped.link[i].in, 0, MESSAGES);
			explore(x, dropped);
			dropped = w;
			memset(dropped.link[i].out, 0, MESSAGES);
			explore(x, dropped);
		}
	}
	w.source = DEAD; /* restarted, its process has no guest */
	w.link[w.attempt].lost = w.crashed = true;
	explore(x, w);
}

static void explore(struct explorer *x, struct world w)
{
	if (!note(x, &w))
		return;
	x->two_running |= runs(&w);
	x->guest_vanished |= !somewhere(&w);
	x->place_wrong |= !place_fits(&w);
	if (w.source != DEAD)
		x->reached[w.source]++;
	for (unsigned i = 0; i < ATTEMPTS; i++)
		if (w.link[i].destination != DEAD)
			x->reached[w.link[i].destination]++;
	source_acts(x, w);
	for (unsigned i = 0; i <= w.attempt; i++)
		destination_acts(x, w, i);
	accidents(x, w);
}

static struct explorer explored(const struct mutation *m)
{
	struct explorer x = {.slots = 1 << 17, .mutation = m};
	struct world w = {.source = AT(RUNS), .place = GW__PLACE_SOURCE_RUNS};
	x.seen = calloc(x.slots, sizeof *x.seen);
	assert_non_null(x.seen);
	for (unsigned i = 0; i < ATTEMPTS; i++)
		w.link[i].destination = AT(LOADING);
	explore(&x, w);
	free(x.seen);
	return x;
}

static void never_two_running(void **state)
{
	(void)state;
	struct explorer x = explored(NULL);
	print_message("%zu states\n", x.count);
	assert_false(x.two_running);
	assert_false(x.guest_vanished);
	assert_false(x.place_wrong);
	for (unsigned i = 0; i < GW__HANDOVER_STATES; i++)
		if (!x.reached[i])
			fail_msg("no way leads to \"%s\"", gw__handover_state_name(i));
}

/* Each of these rows, if it were so, would let two run it, or none: the exploration finds it. */
static void a_wrong_row_is_found(void **state)
{
	(void)state;
	static const struct mutation rows[] = {
		{AT(ENDING), EV(BROKEN), AT(RETURNED)},
		{AT(ENDING), EV(CANCEL), AT(RETURNED)},
		{AT(ENDING), EV(BROKEN), AT(GONE)},
		{AT(PACKAGE), EV(BROKEN), AT(RETURNED)},
		{AT(PACKAGE), EV(CANCEL), AT(RETURNED)},
		{AT(HELD), EV(BROKEN), AT(RETURNED)},
		{AT(ASKED), EV(PONG), AT(GONE)},
		{AT(CONFIRMED), EV(BROKEN), AT(GONE)},
		{AT(LOADING), EV(PING), AT(RUNS_HERE)},
		{AT(LOADED), EV(BROKEN), AT(RUNS_HERE)},
		{AT(LOADED), EV(LOAD_FAILED), AT(RUNS_HERE)},
		{AT(RUNS_HERE), EV(BROKEN), AT(EMPTY)},
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct explorer x = explored(&rows[i]);
		if (!x.two_running && !x.guest_vanished)
			fail_msg("%s, %s: not found", gw__handover_state_name(rows[i].state), gw__handover_event_name(rows[i].event));
	}
}

/* In doubt is only who began to send the last bytes. */
static void doubt_begins_with_the_last_bytes(void **state)
{
	(void)state;
	for (unsigned s = 0; s < GW__HANDOVER_STATES; s++)
		for (unsigned e = 0; e < GW__HANDOVER_EVENTS; e++) {
			enum gw__handover_state next;
			struct gw__error error = {0};
			struct gw__location l = gw__location_at(GW__PLACE_SOURCE_RUNS);
			if (gw__handover_step(s, e, &next, &l, &error) < 0) {
				assert_says(&error, -EPROTO, gw__handover_state_name(s), gw__handover_event_name(e));
				assert_int_equal(l.place, GW__PLACE_SOURCE_RUNS);
			} else if (next == AT(IN_DOUBT)) {
				assert_true(s == AT(ENDING) || s == AT(PACKAGE) || s == AT(IN_DOUBT));
			}
		}
}

static void names_are_there_and_differ(void **state)
{
	(void)state;
	for (unsigned a = 0; a < GW__HANDOVER_STATES; a++)
		for (unsigned b = 0; b < a; b++)
			assert_string_not_equal(gw__handover_state_name(a), gw__handover_state_name(b));
	for (unsigned a = 0; a < GW__HANDOVER_EVENTS; a++)
		for (unsigned b = 0; b < a; b++)
			assert_string_not_equal(gw__handover_event_name(a), gw__handover_event_name(b));
	assert_string_equal(gw__handover_state_name(GW__HANDOVER_STATES), "?");
	assert_string_equal(gw__handover_event_name(GW__HANDOVER_EVENTS), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(never_two_running),
		cmocka_unit_test(a_wrong_row_is_found),
		cmocka_unit_test(doubt_begins_with_the_last_bytes),
		cmocka_unit_test(names_are_there_and_differ),
	};
	return cmocka_run_group_tests_name("handover", tests, NULL, NULL);
}
