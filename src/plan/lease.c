/* SPDX-License-Identifier: MIT */
/* One participant of a lease; see lease.h. tests/unit/test_lease.c explores two of them, and faulty copies of this file in which it must find two owners. */
#include "plan/lease.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)
#define MS_MAX    UINT64_C(86400000) /* of a term: a day */
#define S(x)      GW__LEASE_##x

/* --- the record --- */

static bool is_owner(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (text[i] <= ' ' || text[i] > '~' || text[i] == ':')
			return false;
	return n > 0 && n < GW__LEASE_OWNER_BYTES;
}

/* Digits, and no more than fit; NULL: there are none. */
static const char *read_number(const char *text, uint64_t *value)
{
	const char *p = text;
	for (*value = 0; *p >= '0' && *p <= '9'; p++) {
		if (*value > (UINT64_MAX - 9) / 10)
			return NULL;
		*value = *value * 10 + (uint64_t)(*p - '0');
	}
	return p == text ? NULL : p;
}

static bool read_term(const char *text, uint64_t *term_ms)
{
	*term_ms = GW__LEASE_FOREVER;
	if (!strcmp(text, "forever"))
		return true;
	const char *end = read_number(text, term_ms);
	return end && !*end && *term_ms <= MS_MAX;
}

static bool read_record(const char *text, struct gw__lease_record *r)
{
	const char *p = strchr(text, ':');
	if (!p || !is_owner(text, (size_t)(p - text)))
		return false;
	memcpy(r->owner, text, (size_t)(p - text));
	p = read_number(p + 1, &r->generation);
	if (!p || *p != ':' || !r->generation)
		return false;
	p = read_number(p + 1, &r->beat);
	return p && *p == '+' && read_term(p + 1, &r->term_ms);
}

int gw__lease_record_parse(const char *text, struct gw__lease_record *record, struct gw__error *error)
{
	*record = (struct gw__lease_record){0};
	if (read_record(text, record))
		return 0;
	*record = (struct gw__lease_record){0};
	return gw__error_set(error, -EPROTO, "\"%.60s\" is not a lease: expected OWNER:GENERATION:BEAT+TERM", text);
}

void gw__lease_record_format(const struct gw__lease_record *r, char text[GW__LEASE_TEXT_BYTES])
{
	int n = snprintf(text, GW__LEASE_TEXT_BYTES, "%s:%" PRIu64 ":%" PRIu64 "+", r->owner, r->generation, r->beat);
	if (r->term_ms == GW__LEASE_FOREVER)
		snprintf(text + n, GW__LEASE_TEXT_BYTES - (size_t)n, "forever");
	else
		snprintf(text + n, GW__LEASE_TEXT_BYTES - (size_t)n, "%" PRIu64, r->term_ms);
}

static bool is_same(const struct gw__lease_record *a, const struct gw__lease_record *b)
{
	return !strcmp(a->owner, b->owner) && a->generation == b->generation && a->beat == b->beat && a->term_ms == b->term_ms;
}

/* --- the bounds --- */

/*
 * The owner's guest is dead at most own/(1 - d) + kill after the beat was sent, and whoever waits has counted term/(1 + d) at least, from a later moment:
 * own = (1 - d) * (term/(1 + d) - kill), rounded down.
 */
uint64_t gw__lease_own_ns(const struct gw__lease_bounds *b)
{
	uint64_t million = 1000000, term_ns = b->term_ms * million / (million + b->drift_ppm) * NS_PER_MS;
	uint64_t kill_ns = b->kill_ms * NS_PER_MS;
	return term_ns > kill_ns ? (term_ns - kill_ns) / million * (million - b->drift_ppm) : 0;
}

static uint64_t after(uint64_t ns, uint64_t ms) { return ms >= MS_MAX * 2 ? GW__LEASE_NO_LIMIT : ns + ms * NS_PER_MS; }

/* --- what comes --- */

void gw__lease_init(struct gw__lease *l, const char *owner, const struct gw__lease_bounds *b)
{
	memset(l, 0, sizeof *l);
	snprintf(l->owner, sizeof l->owner, "%s", owner);
	l->bounds = *b;
	l->deadline_ns = GW__LEASE_NO_LIMIT;
}

void gw__lease_set_wish(struct gw__lease *l, enum gw__lease_wish wish) { l->wish = wish; }

static void lose(struct gw__lease *l)
{
	l->state = S(LOST);
	l->deadline_ns = 0;
	l->unknown = false;
}

static bool owns(const struct gw__lease *l) { return l->state == S(HELD) || l->state == S(BEATING); }

static bool is_over(struct gw__lease *l, uint64_t now_ns)
{
	if (l->state != S(LOST) && now_ns >= l->deadline_ns)
		lose(l);
	return l->state == S(LOST);
}

/* The store has `sent`, whoever says so; it was not there before it was sent. */
static void confirm(struct gw__lease *l)
{
	l->current = l->sent;
	l->unknown = false;
	l->deadline_ns = GW__LEASE_NO_LIMIT;
	l->state = S(HELD);
	if (l->sent.term_ms == 0)
		l->state = S(FREED);
	else if (l->sent.term_ms != GW__LEASE_FOREVER) {
		l->state = S(BEATING);
		l->deadline_ns = l->sent_ns + gw__lease_own_ns(&l->bounds);
	}
}

/* Another's, or nobody's. What was seen before is counted on; what is new is counted from now. */
static void watch(struct gw__lease *l, uint64_t now_ns, const struct gw__lease_record *r, bool owner_is_dead)
{
	if (l->state == S(LOOKING) || !is_same(&l->current, r))
		l->seen_ns = now_ns;
	l->state = S(WAITING);
	l->unknown = false;
	l->current = *r;
	l->take_ns = owner_is_dead || !r->owner[0] || !strcmp(r->owner, l->owner) ? now_ns : after(l->seen_ns, r->term_ms);
	l->look_ns = after(now_ns, l->bounds.beat_ms);
}

/* In the middle of a swap of ours, or after one. */
static void learn_own(struct gw__lease *l, const struct gw__lease_record *r)
{
	if (is_same(r, &l->sent))
		confirm(l);
	else if (!strcmp(r->owner, l->owner) && r->generation == l->sent.generation)
		l->current = *r; /* an earlier swap: it prolongs nothing */
	else
		lose(l);
}

static void learn(struct gw__lease *l, uint64_t now_ns, const struct gw__lease_record *r, bool owner_is_dead)
{
	if (owns(l))
		learn_own(l, r);
	else if (l->state == S(TAKING) && is_same(r, &l->sent))
		confirm(l);
	else if (l->state != S(TAKING) || !is_same(r, &l->current))
		watch(l, now_ns, r, owner_is_dead);
}

void gw__lease_on_read(struct gw__lease *l, uint64_t now_ns, const struct gw__lease_record *record, bool owner_is_dead)
{
	l->asked = false;
	l->look_ns = after(now_ns, l->bounds.beat_ms / 4);
	if (is_over(l, now_ns) || !record)
		return;
	l->unknown = false; /* what is still under way fails, or is learnt by the next swap */
	learn(l, now_ns, record, owner_is_dead);
}

void gw__lease_on_swap(struct gw__lease *l, uint64_t now_ns, enum gw__lease_answer answer, const struct gw__lease_record *record)
{
	l->asked = false;
	if (is_over(l, now_ns))
		return;
	if (answer == GW__LEASE_CONFIRMED)
		confirm(l);
	else if (answer == GW__LEASE_REFUSED && record)
		learn(l, now_ns, record, false);
	else {
		l->unknown = true;
		l->look_ns = now_ns;
	}
}

/* --- what is to be done --- */

static struct gw__lease_action wait_until(uint64_t ns) { return (struct gw__lease_action){.what = GW__LEASE_WAIT, .until_ns = ns}; }

static struct gw__lease_action read_now(struct gw__lease *l)
{
	l->asked = true;
	return (struct gw__lease_action){.what = GW__LEASE_READ};
}

static struct gw__lease_action swap(struct gw__lease *l, uint64_t now_ns, struct gw__lease_record to)
{
	l->sent = to;
	l->sent_ns = now_ns;
	l->last_beat = to.beat;
	l->asked = true;
	return (struct gw__lease_action){.what = GW__LEASE_SWAP, .from = l->current, .to = to};
}

static struct gw__lease_action take(struct gw__lease *l, uint64_t now_ns)
{
	struct gw__lease_record to = {.generation = l->current.generation + 1, .term_ms = GW__LEASE_FOREVER};
	memcpy(to.owner, l->owner, sizeof to.owner);
	l->state = S(TAKING);
	return swap(l, now_ns, to);
}

/* Our next record: never a beat that was sent before, as that swap may be applied yet. */
static struct gw__lease_action change(struct gw__lease *l, uint64_t now_ns, uint64_t term_ms)
{
	struct gw__lease_record to = l->current;
	to.beat = l->last_beat + 1;
	to.term_ms = term_ms;
	if (term_ms && term_ms != GW__LEASE_FOREVER && l->deadline_ns == GW__LEASE_NO_LIMIT) {
		l->state = S(BEATING);
		l->deadline_ns = now_ns + gw__lease_own_ns(&l->bounds);
	}
	return swap(l, now_ns, to);
}

static struct gw__lease_action next_of_owner(struct gw__lease *l, uint64_t now_ns)
{
	if (l->wish == GW__LEASE_WISH_FREE)
		return change(l, now_ns, 0);
	if (l->wish == GW__LEASE_WISH_HOLD)
		return l->state == S(HELD) ? wait_until(GW__LEASE_NO_LIMIT) : change(l, now_ns, GW__LEASE_FOREVER);
	uint64_t beat_ns = after(l->sent_ns, l->bounds.beat_ms);
	bool is_beaten = l->state == S(BEATING) && is_same(&l->current, &l->sent);
	if (is_beaten && now_ns < beat_ns)
		return wait_until(beat_ns);
	return change(l, now_ns, l->bounds.term_ms);
}

static struct gw__lease_action next_of_waiter(struct gw__lease *l, uint64_t now_ns)
{
	if (now_ns >= l->take_ns)
		return take(l, now_ns);
	return now_ns >= l->look_ns ? read_now(l) : wait_until(l->take_ns < l->look_ns ? l->take_ns : l->look_ns);
}

struct gw__lease_action gw__lease_next(struct gw__lease *l, uint64_t now_ns)
{
	if (is_over(l, now_ns) || l->asked || l->state == S(FREED))
		return wait_until(l->state == S(LOST) ? GW__LEASE_NO_LIMIT : l->deadline_ns);
	if (l->state == S(LOOKING) || l->unknown)
		return now_ns < l->look_ns ? wait_until(l->look_ns) : read_now(l);
	if (l->state == S(WAITING))
		return next_of_waiter(l, now_ns);
	return l->state == S(TAKING) ? take(l, now_ns) : next_of_owner(l, now_ns);
}

/* --- what is so --- */

uint64_t gw__lease_deadline_ns(const struct gw__lease *l) { return l->deadline_ns; }

bool gw__lease_is_settled(const struct gw__lease *l)
{
	static const enum gw__lease_state wished[] =
		{[GW__LEASE_WISH_HOLD] = S(HELD), [GW__LEASE_WISH_BEAT] = S(BEATING), [GW__LEASE_WISH_FREE] = S(FREED)};
	return l->state == wished[l->wish] && is_same(&l->current, &l->sent) && !l->asked && !l->unknown;
}

bool gw__lease_in_doubt(const struct gw__lease *l)
{
	return l->state != S(LOST) && l->state != S(FREED) && l->state != S(WAITING) && l->state != S(LOOKING) &&
	       !is_same(&l->current, &l->sent);
}

const char *gw__lease_state_name(enum gw__lease_state state)
{
	static const char *const names[S(STATES)] = {"looking", "waiting", "taking", "held", "beating", "freed", "lost"};
	return state < S(STATES) ? names[state] : "?";
}
