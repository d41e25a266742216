/* SPDX-License-Identifier: MIT */
/*
 * Two participants of a lease, one store, every order of events: never do two guests run. Explored exhaustively: until there is no
 * world that was not seen before.
 *
 * What may happen: each participant acts, or does not (it is frozen) for as long as it likes; the store applies a swap whenever it likes or never, also when the
 * participant has given it up (answer lost, applied but unknown, applied much later); each answer comes late; the two clocks differ as much as is allowed, either
 * way; a protection ends and begins again, a guest ends by itself. A guest is dead `kill` after its deadline and not a moment earlier. It is run by whoever takes the lease, at once.
 *
 * `test_lease --expect-two`, of a copy of plan/lease.c that has a fault: it must find two guests that run (tests/unit/meson.build has the faults).
 */
#include "unit.h"

#include <stdio.h>
#include <xxhash.h>

#include "plan/lease.h"

#ifndef TERM_MS
#define TERM_MS 50 /* with 40 a second beat after one of unknown outcome always comes too late */
#endif
enum { TICK_MS = 10, LIMBO = 1, RATES = 3, PAST_MS = 70, FEW_TICKS = 4 };
static const struct gw__lease_bounds BOUNDS = {.term_ms = TERM_MS, .beat_ms = 10, .kill_ms = 10, .drift_ppm = 100000};
static unsigned ticks = 1000; /* enough for all of them */

enum op_state { NO_OP, UNDER_WAY, APPLIED, FAILED };

struct op {
	struct gw__lease_record from, to;
	uint8_t is_swap;
};

struct side {
	struct gw__lease lease;
	struct op op;
	struct gw__lease_record answer;
	uint8_t op_state, op_ticks;
	struct op limbo[LIMBO];                /* given up, and may be applied yet */
	uint64_t now_ns, armed_ns, kill_in_ms; /* kill_in_ms: of a guest whose deadline is over, in true time, and one more */
	uint8_t runs;
};

struct world {
	struct gw__lease_record store;
	struct side side[2];
};

static unsigned with_wishes = 1, rates_n = RATES - 1; /* by hand: all */
static unsigned rates;                                /* which clock is fast */
static uint64_t visited_n, visited_size, *visited;
static struct world *later; /* the worlds of the next tick */
static size_t later_n, later_size;
static bool found_two, is_complete = true;
static uint64_t takeovers, stopped;

static uint64_t tick_ns(unsigned side)
{
	static const unsigned per_mille[RATES][2] = {{900, 1100}, {1100, 900}, {1000, 1000}};
	return (uint64_t)TICK_MS * 1000 * per_mille[rates][side];
}

/* --- the set of the worlds that were seen, by their hash --- */

static void add(uint64_t hash);

static void grow(void)
{
	uint64_t *old = visited, n = visited_size;
	visited_size = n ? 2 * n : 1 << 16;
	visited = calloc(visited_size, sizeof *visited);
	assert_non_null(visited);
	visited_n = 0;
	for (uint64_t i = 0; i < n; i++)
		if (old[i])
			add(old[i]);
	free(old);
}

static uint64_t *find(uint64_t hash)
{
	uint64_t i = hash & (visited_size - 1);
	while (visited[i] && visited[i] != hash)
		i = (i + 1) & (visited_size - 1);
	return &visited[i];
}

static void add(uint64_t hash)
{
	if (2 * visited_n >= visited_size)
		grow();
	*find(hash) = hash;
	visited_n++;
}

/*
 * Two worlds are the same if they differ in the names of generations and beats, or in time that is over, only. Owner texts are one letter here, so a record is a
 * few numbers.
 */
struct names {
	uint64_t of[64];
	unsigned n;
};

static uint64_t key_of(const struct gw__lease_record *r) { return (uint64_t)r->owner[0] << 56 | r->generation << 32 | r->beat; }

static void collect(struct names *names, uint64_t key)
{
	unsigned i = names->n;
	for (unsigned j = 0; j < names->n; j++)
		if (names->of[j] == key)
			return;
	assert_true(names->n < 64);
	for (; i && names->of[i - 1] > key; i--)
		names->of[i] = names->of[i - 1];
	names->of[i] = key;
	names->n++;
}

/* In their order; the beats of each generation and the generations of each owner are counted from 0. */
static uint64_t name_of(const struct names *names, uint64_t key)
{
	unsigned i = 0;
	while (names->of[i] != key)
		i++;
	return i;
}

static void collect_side(struct names *names, const struct side *s)
{
	const struct gw__lease *l = &s->lease;
	const struct gw__lease_record *all[] = {&l->current, &l->sent, &s->op.from, &s->op.to, &s->answer, &s->limbo[0].from,
		&s->limbo[0].to};
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
		collect(names, key_of(all[i]));
}

static uint64_t *put_record(uint64_t *to, const struct names *names, const struct gw__lease_record *r)
{
	*to++ = name_of(names, key_of(r)) | (uint64_t)r->owner[0] << 8 | (r->term_ms & 0xffff) << 16;
	return to;
}

static uint64_t since(const struct side *s, uint64_t ns, uint64_t past_ms)
{
	return ns == GW__LEASE_NO_LIMIT ? ns : ns + past_ms * 1000000 < s->now_ns ? 0 : ns + past_ms * 1000000 - s->now_ns + 1;
}

static uint64_t *put_side(uint64_t *to, const struct names *names, const struct side *s)
{
	const struct gw__lease *l = &s->lease;
	const struct gw__lease_record *all[] = {&l->current, &l->sent, &s->op.from, &s->op.to, &s->answer, &s->limbo[0].from,
		&s->limbo[0].to};
	for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
		to = put_record(to, names, all[i]);
	const uint64_t fields[] = {(uint64_t)l->wish << 8 | l->state, since(s, l->seen_ns, PAST_MS), since(s, l->take_ns, 0),
		since(s, l->look_ns, 0), since(s, l->sent_ns, PAST_MS), since(s, l->deadline_ns, 0), (uint64_t)l->asked << 1 | l->unknown,
		(uint64_t)s->op_state << 16 | s->op.is_swap << 8 | s->limbo[0].is_swap, s->op_ticks, since(s, s->armed_ns, TICK_MS),
		s->kill_in_ms, s->runs};
	memcpy(to, fields, sizeof fields);
	return to + sizeof fields / sizeof *fields;
}

static bool is_same(const struct gw__lease_record *a, const struct gw__lease_record *b)
{
	return a->owner[0] == b->owner[0] && a->generation == b->generation && a->beat == b->beat && a->term_ms == b->term_ms;
}

/* What nothing will ever depend on. */
static void forget(struct side *s, const struct gw__lease_record *store)
{
	struct gw__lease *l = &s->lease;
	if (l->state == GW__LEASE_LOST)
		*l = (struct gw__lease){.state = l->state, .wish = l->wish};
	if (l->state == GW__LEASE_LOOKING || l->state == GW__LEASE_WAITING) {
		l->sent = (struct gw__lease_record){0};
		l->sent_ns = 0;
	} else {
		l->seen_ns = l->take_ns = 0;
		l->look_ns = l->unknown ? l->look_ns : 0;
	}
	if (s->op_state != UNDER_WAY)
		s->op.from = s->op.to = (struct gw__lease_record){0};
	for (unsigned i = 0; i < LIMBO; i++)
		if (!is_same(&s->limbo[i].from, store)) /* no text comes twice */
			s->limbo[i] = (struct op){0};
	if (l->state == GW__LEASE_LOST)
		s->answer = (struct gw__lease_record){0};
}

static bool is_new(const struct world *full)
{
	struct world copy = *full, *w = &copy;
	forget(&copy.side[0], &copy.store);
	forget(&copy.side[1], &copy.store);
	struct names names = {0};
	uint64_t words[64], *to = words;
	collect(&names, key_of(&w->store));
	collect_side(&names, &w->side[0]);
	collect_side(&names, &w->side[1]);
	to = put_record(to, &names, &w->store);
	to = put_side(to, &names, &w->side[0]);
	to = put_side(to, &names, &w->side[1]);
	assert_true(to - words <= 64);
	uint64_t hash = XXH3_64bits(words, (size_t)(to - words) * sizeof *words);
	hash += !hash;
	if (!visited)
		grow();
	if (*find(hash) == hash)
		return false;
	add(hash);
	return true;
}

/* --- the store --- */

static bool apply(struct world *w, const struct op *o)
{
	if (!is_same(&w->store, &o->from))
		return false;
	w->store = o->to;
	return true;
}

/* --- a participant --- */

static void born(struct side *s, unsigned number)
{
	const char name[] = {(char)('A' + number), 0};
	gw__lease_init(&s->lease, name, &BOUNDS);
	gw__lease_set_wish(&s->lease, GW__LEASE_WISH_BEAT);
	s->armed_ns = GW__LEASE_NO_LIMIT;
	s->runs = 0;
	s->kill_in_ms = 0;
}

/* What the process does when it is let: hand the deadline to the deadman, run the guest of a lease that is held. */
static void follow(struct side *s)
{
	if (s->kill_in_ms) /* the deadman is at it */
		return;
	if (s->lease.state == GW__LEASE_HELD && s->lease.wish != GW__LEASE_WISH_FREE && !s->runs) {
		s->runs = 1;
		takeovers++;
	}
	if (s->runs)
		s->armed_ns = gw__lease_deadline_ns(&s->lease);
}

/* False: it has nothing to do now. What is read is of the moment of the question: what comes late cannot be older. */
static bool act(struct world *w, struct side *s)
{
	struct gw__lease_action a = gw__lease_next(&s->lease, s->now_ns);
	if (a.what == GW__LEASE_WAIT)
		return false;
	s->op = (struct op){a.from, a.to, a.what == GW__LEASE_SWAP};
	s->op_state = s->op.is_swap ? UNDER_WAY : FAILED;
	s->op_ticks = 0;
	if (!s->op.is_swap)
		s->answer = w->store;
	follow(s);
	return true;
}

static void finish_op(struct side *s)
{
	s->op_state = NO_OP;
	s->op_ticks = 0;
	s->op = (struct op){0};
	s->answer = (struct gw__lease_record){0};
	follow(s);
}

static void into_limbo(struct side *s, const struct op *o)
{
	memmove(&s->limbo[1], &s->limbo[0], (LIMBO - 1) * sizeof s->limbo[0]);
	s->limbo[0] = *o;
}

static void be_answered(struct side *s)
{
	if (!s->op.is_swap)
		gw__lease_on_read(&s->lease, s->now_ns, &s->answer, false);
	else if (s->op_state == APPLIED)
		gw__lease_on_swap(&s->lease, s->now_ns, GW__LEASE_CONFIRMED, NULL);
	else
		gw__lease_on_swap(&s->lease, s->now_ns, GW__LEASE_REFUSED, &s->answer);
	finish_op(s);
}

static void give_up(struct side *s)
{
	if (s->op_state == UNDER_WAY)
		into_limbo(s, &s->op);
	if (s->op.is_swap)
		gw__lease_on_swap(&s->lease, s->now_ns, GW__LEASE_UNKNOWN, NULL);
	else
		gw__lease_on_read(&s->lease, s->now_ns, NULL, false);
	finish_op(s);
}

/* The guest is gone, and its owner comes back as somebody who waits. */
static void die(struct side *s, unsigned number)
{
	struct side new = {.now_ns = s->now_ns};
	memcpy(new.limbo, s->limbo, sizeof new.limbo);
	if (s->op_state == UNDER_WAY)
		into_limbo(&new, &s->op);
	*s = new;
	born(s, number);
	stopped++;
}

static void pass_time(struct world *w)
{
	for (unsigned i = 0; i < 2; i++) {
		struct side *s = &w->side[i];
		uint64_t before_ns = s->now_ns;
		s->now_ns += tick_ns(i);
		s->op_ticks += s->op_state != NO_OP && s->op_ticks < 2;
		if (s->kill_in_ms > TICK_MS)
			s->kill_in_ms -= TICK_MS;
		else if (s->kill_in_ms)
			die(s, i);
		else if (s->runs && s->now_ns >= s->armed_ns) {
			/* how much of this tick was over when its deadline was, in true time */
			uint64_t late_ms = s->armed_ns <= before_ns ? TICK_MS : (s->now_ns - s->armed_ns) * TICK_MS / tick_ns(i);
			if (late_ms >= BOUNDS.kill_ms)
				die(s, i);
			else
				s->kill_in_ms = BOUNDS.kill_ms - late_ms + 1;
		}
	}
}

/* --- every order of them --- */

static void explore(const struct world *w);

static void explore_store(const struct world *w, unsigned number)
{
	const struct side *s = &w->side[number];
	if (s->op_state == UNDER_WAY) {
		struct world next = *w;
		struct side *t = &next.side[number];
		t->op_state = apply(&next, &t->op) ? APPLIED : FAILED;
		if (t->op_state == FAILED)
			t->answer = next.store;
		explore(&next);
	}
	for (unsigned i = 0; i < LIMBO; i++)
		if (s->limbo[i].is_swap) {
			struct world next = *w;
			next.side[number].limbo[i] = (struct op){0};
			if (apply(&next, &s->limbo[i]))
				explore(&next);
		}
}

static void explore_side(const struct world *w, unsigned number)
{
	const struct side *s = &w->side[number];
	struct world next = *w;
	if (s->op_state == NO_OP && act(&next, &next.side[number]))
		explore(&next);
	if (s->op_state == APPLIED || s->op_state == FAILED) {
		next = *w;
		be_answered(&next.side[number]);
		explore(&next);
	}
	if (s->op_state != NO_OP && s->op_ticks) {
		next = *w;
		give_up(&next.side[number]);
		explore(&next);
	}
}

/* Its user changes his mind, or its guest ends, of which the lease is told. */
static void explore_wishes(const struct world *w, unsigned number)
{
	const struct side *s = &w->side[number];
	if (!s->runs || s->kill_in_ms || s->lease.state == GW__LEASE_LOST || number >= with_wishes)
		return;
	struct world next = *w;
	gw__lease_set_wish(&next.side[number].lease, s->lease.wish == GW__LEASE_WISH_BEAT ? GW__LEASE_WISH_HOLD : GW__LEASE_WISH_BEAT);
	explore(&next);
	next = *w;
	gw__lease_set_wish(&next.side[number].lease, GW__LEASE_WISH_FREE);
	next.side[number].runs = 0;
	next.side[number].armed_ns = GW__LEASE_NO_LIMIT;
	explore(&next);
}

/* Whoever has nothing more to do begins anew. */
static void explore_end(const struct world *w, unsigned number)
{
	const struct side *s = &w->side[number];
	if (s->runs || s->op_state != NO_OP || (s->lease.state != GW__LEASE_LOST && s->lease.state != GW__LEASE_FREED))
		return;
	struct world next = *w;
	die(&next.side[number], number);
	explore(&next);
}

static void keep_for_later(const struct world *w)
{
	if (later_n == later_size) {
		later_size = later_size ? 2 * later_size : 1024;
		later = realloc(later, later_size * sizeof *later);
		assert_non_null(later);
	}
	later[later_n] = *w;
	pass_time(&later[later_n++]);
}

/* All that can happen at this moment. */
static void explore(const struct world *w)
{
	if (found_two || !is_new(w))
		return;
	if (w->side[0].runs && w->side[1].runs) {
		found_two = true;
		return;
	}
	for (unsigned i = 0; i < 2; i++) {
		explore_side(w, i);
		explore_store(w, i);
		explore_wishes(w, i);
		explore_end(w, i);
	}
	keep_for_later(w);
}

static void explore_ticks(void)
{
	struct world first = {0};
	born(&first.side[0], 0);
	born(&first.side[1], 1);
	explore(&first);
	for (unsigned t = 0; t < ticks && later_n && !found_two; t++) {
		struct world *now = later;
		size_t n = later_n;
		later = NULL;
		later_n = later_size = 0;
		for (size_t i = 0; i < n; i++)
			explore(&now[i]);
		free(now);
		if (getenv("LEASE_TICKS"))
			printf("tick %u: %zu worlds go on, %ju seen\n", t, later_n, (uintmax_t)visited_n);
	}
}

static void explore_all(void)
{
	for (rates = 0; rates < rates_n && !found_two; rates++) {
		visited_n = visited_size = 0;
		free(visited);
		visited = NULL;
		explore_ticks();
		printf("clocks %u: %ju worlds%s\n", rates, (uintmax_t)visited_n, later_n ? "" : ", and no others");
		fflush(stdout);
		is_complete &= !later_n;
		free(later);
		later = NULL;
		later_n = later_size = 0;
	}
	free(visited);
	visited = NULL;
}

/* To the end without a change of mind, and with it as far as there is time for. */
static void never_two_owners(void **state)
{
	(void)state;
	with_wishes = 0;
	explore_all();
	assert_true(is_complete);
	with_wishes = 1;
	ticks = FEW_TICKS;
	explore_all();
	assert_false(found_two);
	assert_true(takeovers > 1000);
	assert_true(stopped > 1000);
	printf("%ju takings, %ju guests stopped\n", (uintmax_t)takeovers, (uintmax_t)stopped);
}

/* By hand: LEASE_WISHES=2 for both participants. */
static void never_two_owners_whatever_they_wish(void **state)
{
	(void)state;
	with_wishes = (unsigned)atoi(getenv("LEASE_WISHES"));
	rates_n = RATES;
	explore_all();
	assert_true(is_complete);
	assert_false(found_two);
}

static void a_record_is_read_as_it_was_written(void **state)
{
	static const char *const good[] = {"a:1:0+forever", "b/c.1:18446744073709551609:42+10000", "-:7:1+0"};
	static const char *const bad[] = {"", "a", ":1:0+0", "a:0:0+0", "a:1:0", "a:1:0+", "a:1:0+1x", "a:1:+1", "a:-1:0+1", "a b:1:0+1",
		"a:1:0+86400001", "a:1:99999999999999999999+1", "aaaaaaaaaaaaaaaa:1:0+1", "a:1:0+forever "};
	struct gw__lease_record r;
	char text[GW__LEASE_TEXT_BYTES];
	(void)state;
	for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
		struct gw__error error = {0};
		assert_int_equal(gw__lease_record_parse(good[i], &r, &error), 0);
		gw__lease_record_format(&r, text);
		assert_string_equal(text, good[i]);
	}
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct gw__error error = {0};
		assert_int_equal(gw__lease_record_parse(bad[i], &r, &error), -71 /* EPROTO */);
		assert_non_null(strstr(error.text, "is not a lease"));
	}
}

static void bounds_that_leave_no_time(void **state)
{
	const struct gw__lease_bounds good = {.term_ms = 10000, .beat_ms = 2000, .kill_ms = 1000, .drift_ppm = 5000};
	const struct gw__lease_bounds bad = {.term_ms = 1000, .beat_ms = 200, .kill_ms = 1000, .drift_ppm = 5000};
	(void)state;
	assert_in_range(gw__lease_own_ns(&good), 8900000000, 8910000000);
	assert_int_equal(gw__lease_own_ns(&bad), 0);
}

int main(int argc, char **argv)
{
	if (getenv("LEASE_TICKS"))
		ticks = (unsigned)atoi(getenv("LEASE_TICKS"));
	if (argc > 1 && !strncmp(argv[1], "--expect-two", 12)) {
		with_wishes = !strcmp(argv[1], "--expect-two-released");
		explore_all();
		printf("two guests that run were %sfound\n", found_two ? "" : "not ");
		return !found_two;
	}
	const struct CMUnitTest by_hand[] = {cmocka_unit_test(never_two_owners_whatever_they_wish)};
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_record_is_read_as_it_was_written),
		cmocka_unit_test(bounds_that_leave_no_time), cmocka_unit_test(never_two_owners)};
	return getenv("LEASE_WISHES") ? cmocka_run_group_tests(by_hand, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
}
