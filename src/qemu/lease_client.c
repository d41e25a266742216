/* SPDX-License-Identifier: MIT */
/* The machine of a lease, its store and its clock; see lease_client.h. */
#include "qemu/lease_client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "qemu/deadman.h"
#include "qemu/process_identity.h"

enum {
	BEATS_PER_TERM = 5,
	ANSWERS_PER_TERM = 8,
	PAUSE_MS = 50, /* after an answer that did not come */
	STEP_MS = 200,
	SILENCE_MS = 8000, /* of the store, while it is asked for a lease */
	DEATH_MS = 3000,   /* for a process whose term is over */
};
#define NS_PER_MS UINT64_C(1000000)

int gw__lease_client_open(struct gw__lease_client *c, const char *url, const char *owner, unsigned term_ms, struct gw__error *error)
{
	unsigned ms = term_ms ? term_ms : GW__LEASE_TERM_MS;
	const struct gw__lease_bounds bounds = {.term_ms = ms,
		.beat_ms = ms / BEATS_PER_TERM,
		.kill_ms = GW__LEASE_KILL_MS,
		.drift_ppm = GW__LEASE_DRIFT_PPM};
	if (ms < GW__LEASE_TERM_MIN_MS)
		return gw__error_set(error, -EINVAL, "a lease of %u ms is too short: at least %d ms", ms, GW__LEASE_TERM_MIN_MS);
	if (ms > GW__LEASE_TERM_MAX_MS)
		return gw__error_set(error, -EINVAL, "a lease of %u ms is too long: at most %d ms, a day", ms, GW__LEASE_TERM_MAX_MS);
	gw__lease_init(&c->lease, owner, &bounds);
	c->answer_ms = (int)ms / ANSWERS_PER_TERM;
	return gw__store_open(url, &c->store, error);
}

void gw__lease_client_close(struct gw__lease_client *c)
{
	gw__store_close(c->store);
	c->store = NULL;
}

static void sleep_ms(int ms, int wake_fd)
{
	struct pollfd p = {.fd = wake_fd, .events = POLLIN};
	poll(&p, 1, ms);
}

static bool tell(struct gw__lease_client *c)
{
	uint64_t ns = gw__lease_deadline_ns(&c->lease);
	if (!c->on_deadline || (c->is_told && c->told_ns == ns))
		return true;
	c->told_ns = ns;
	c->is_told = c->on_deadline(c->ctx, ns);
	return c->is_told;
}

/* What cannot be read is no answer: nobody may go on from it. */
static bool parse(struct gw__lease_client *c, const char *text, struct gw__lease_record *record)
{
	*record = (struct gw__lease_record){0};
	return !*text || !gw__lease_record_parse(text, record, &c->trouble);
}

static bool has_mark(const char *owner, const char *mark)
{
	size_t n = strlen(owner), m = strlen(mark);
	return n > m && !strcmp(owner + n - m, mark);
}

/* The same QEMU, protected before with another level of enforcement: its lock says that nobody else keeps its lease. */
static bool is_same_process(const char *a, const char *b)
{
	size_t mark = strlen(GW__LEASE_WATCHDOG);
	size_t na = strlen(a) - (has_mark(a, GW__LEASE_WATCHDOG) ? mark : 0), nb = strlen(b) - (has_mark(b, GW__LEASE_WATCHDOG) ? mark : 0);
	return na == nb && !strncmp(a, b, na);
}

static void read_record(struct gw__lease_client *c, int wake_fd)
{
	char text[GW__STORE_TEXT_BYTES];
	struct gw__lease_record record;
	gw__error_clear(&c->trouble);
	bool got = !gw__store_get(c->store, c->answer_ms, text, &c->trouble) && parse(c, text, &record);
	bool may_take = got && record.owner[0] &&
			(c->is_dead || gw__process_look(record.owner) == GW__PROCESS_DEAD || is_same_process(record.owner, c->lease.owner));
	gw__lease_on_read(&c->lease, gw__boottime_ns(), got ? &record : NULL, may_take);
	if (!got)
		sleep_ms(PAUSE_MS, wake_fd);
}

static void swap_record(struct gw__lease_client *c, const struct gw__lease_action *a, int wake_fd)
{
	char from[GW__LEASE_TEXT_BYTES] = "", to[GW__LEASE_TEXT_BYTES], text[GW__STORE_TEXT_BYTES];
	struct gw__lease_record found;
	if (!tell(c)) { /* nobody would end the guest in time: as if the swap were lost, and it is not sent */
		gw__error_set(&c->trouble, -ECHILD, "the process that ends the guest in time is not there");
		gw__lease_on_swap(&c->lease, gw__boottime_ns(), GW__LEASE_UNKNOWN, NULL);
		return;
	}
	gw__error_clear(&c->trouble);
	if (a->from.owner[0])
		gw__lease_record_format(&a->from, from);
	gw__lease_record_format(&a->to, to);
	int r = gw__store_swap(c->store, c->answer_ms, from, to, text, &c->trouble);
	if (r == GW__STORE_REFUSED && !parse(c, text, &found))
		r = -EPROTO;
	enum gw__lease_answer answer = !r ? GW__LEASE_CONFIRMED : r == GW__STORE_REFUSED ? GW__LEASE_REFUSED : GW__LEASE_UNKNOWN;
	c->swap_failed = answer == GW__LEASE_UNKNOWN;
	gw__lease_on_swap(&c->lease, gw__boottime_ns(), answer, answer == GW__LEASE_REFUSED ? &found : NULL);
	if (r < 0)
		sleep_ms(PAUSE_MS, wake_fd);
}

void gw__lease_client_step(struct gw__lease_client *c, int ms, int wake_fd)
{
	uint64_t now_ns = gw__boottime_ns();
	struct gw__lease_action a = gw__lease_next(&c->lease, now_ns);
	if (a.what == GW__LEASE_READ)
		read_record(c, wake_fd);
	else if (a.what == GW__LEASE_SWAP)
		swap_record(c, &a, wake_fd);
	else {
		uint64_t left_ms = a.until_ns > now_ns ? (a.until_ns - now_ns) / NS_PER_MS + 1 : 0;
		sleep_ms(left_ms < (uint64_t)ms ? (int)left_ms : ms, wake_fd);
	}
	tell(c);
}

/* --- taking it --- */

struct taking {
	struct gw__lease_record first; /* another's, as it was seen first */
	uint64_t answered_ns;
	uint64_t swapped_ns; /* until then no swap of ours lacked its answer; a store that can be read answers all the same */
	struct gw__error trouble;
};

static void note_answers(struct taking *t, const struct gw__lease_client *c, uint64_t now_ns)
{
	bool swaps = !c->swap_failed || c->lease.state != GW__LEASE_TAKING;
	if (c->trouble.code)
		t->trouble = c->trouble;
	else if (swaps)
		gw__error_clear(&t->trouble);
	if (!c->trouble.code)
		t->answered_ns = now_ns;
	if (swaps)
		t->swapped_ns = now_ns;
}

static bool is_silent(const struct taking *t, uint64_t now_ns)
{
	uint64_t since_ns = t->answered_ns < t->swapped_ns ? t->answered_ns : t->swapped_ns;
	return now_ns - since_ns > SILENCE_MS * NS_PER_MS;
}

static int refuse(const struct gw__lease_record *r, int code, const char *why, struct gw__error *error)
{
	return gw__error_set(error, code, "the lease belongs to %s (generation %ju), %s", r->owner, (uintmax_t)r->generation, why);
}

/* Another's, which is not over yet, or which nobody may take as it is. */
static int judge(const struct gw__lease_client *c, struct taking *t, enum gw__lease_policy policy, struct gw__error *error)
{
	const struct gw__lease_record *r = &c->lease.current;
	if (has_mark(r->owner, GW__LEASE_UNFENCED) && !c->accepts_unfenced && !c->is_dead)
		return refuse(r, -EACCES, "whose fence has not succeeded: the primary before it may run the guest still", error);
	if (!r->owner[0] || !r->term_ms || c->lease.take_ns <= gw__boottime_ns())
		return 0;
	if (!t->first.owner[0])
		t->first = *r;
	if (r->term_ms == GW__LEASE_FOREVER)
		return refuse(r, -EPERM, "without a limit: it runs the guest, or did so last", error);
	if (t->first.beat != r->beat || t->first.generation != r->generation)
		return refuse(r, -EBUSY, "which prolongs it: the guest runs there", error);
	if (policy == GW__LEASE_NOT_BY_TIME && gw__process_look(r->owner) == GW__PROCESS_ELSEWHERE &&
		!has_mark(r->owner, GW__LEASE_WATCHDOG))
		return refuse(r, -EACCES, "on another host, and only its term would show that the guest has ended there", error);
	return 0;
}

static int give_up(const struct gw__lease_client *c, const struct taking *t, int code, const char *why, struct gw__error *error)
{
	const char *trouble = t->trouble.text[0] ? t->trouble.text : "no reason is known";
	if (gw__lease_in_doubt(&c->lease))
		return gw__error_set(error, -EINPROGRESS, "it is not known whether the lease was taken: %s", trouble);
	return gw__error_set(error, code, "%s: %s", why, trouble);
}

/* By time it must be dead by now; here it can be seen. */
static int await_death(const struct gw__lease_record *last, const char *own, struct gw__error *error)
{
	bool is_over = last->term_ms && !is_same_process(last->owner, own); /* with a term of 0 it has said so itself */
	for (int ms = 0; is_over && gw__process_look(last->owner) == GW__PROCESS_LIVES; ms += PAUSE_MS) {
		if (ms > DEATH_MS)
			return gw__error_set(error, -EINPROGRESS,
				"the lease of %s is over, but that process is still alive; end it by hand", last->owner);
		sleep_ms(PAUSE_MS, -1);
	}
	return 0;
}

int gw__lease_client_take(struct gw__lease_client *c, enum gw__lease_policy policy, bool (*stopped)(void *), void *ctx,
	struct gw__error *error)
{
	struct taking t = {.answered_ns = gw__boottime_ns()};
	t.swapped_ns = t.answered_ns;
	struct gw__lease_record last = {0};
	c->is_dead = policy == GW__LEASE_OWNER_IS_DEAD;
	gw__lease_set_wish(&c->lease, GW__LEASE_WISH_HOLD);
	while (!gw__lease_is_settled(&c->lease)) {
		gw__lease_client_step(c, STEP_MS, -1);
		uint64_t now_ns = gw__boottime_ns();
		note_answers(&t, c, now_ns);
		if (c->lease.state == GW__LEASE_WAITING) {
			int r = judge(c, &t, policy, error);
			if (r)
				return r;
			last = c->lease.current;
		}
		if (is_silent(&t, now_ns))
			return give_up(c, &t, -ETIMEDOUT, "the owner of the lease is unknown", error);
		if (stopped && stopped(ctx))
			return give_up(c, &t, -ECANCELED, "the lease was not taken", error);
	}
	return policy == GW__LEASE_OWNER_IS_DEAD ? 0 : await_death(&last, c->lease.owner, error);
}
