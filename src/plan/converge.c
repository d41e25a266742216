/* SPDX-License-Identifier: MIT */
/* When a guest is stopped for its last round; see converge.h. */
#include "plan/converge.h"

#include <stddef.h>

enum {
	SAMPLE_NS = 100000000,
	PERCENTILE = 20,
	LOOKS_MAX = 3,
	PATIENCE = 3,
	PEEK_WITHIN = 4, /* limits */
	THROTTLE_MAX = 99,
	THROTTLE_STEP = 10,
	PAGE_HEAD_BYTES = 9, /* in a stream of plain pages (docs/spec/stream.md) */
};
static const uint64_t SECOND_NS = 1000000000, STALLED_NS = 60000000000;

static uint64_t lesser(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* a * b / c without overflow in between; what does not fit is UINT64_MAX. */
static uint64_t share(uint64_t a, uint64_t b, uint64_t c)
{
	long double x = c ? (long double)a * (long double)b / (long double)c : 0;
	return !c || x >= 1.8e19L ? UINT64_MAX : (uint64_t)x;
}

static uint64_t plus(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

/* --- What was measured --------------------------------------------------------------------------------------------- */

void gw__converge_init(struct gw__converge *c, const struct gw__converge_limits *limits)
{
	*c = (struct gw__converge){.limits = *limits, .best_dirty = UINT64_MAX};
	if (!c->limits.patience)
		c->limits.patience = PATIENCE;
	if (!c->limits.stalled_ns)
		c->limits.stalled_ns = STALLED_NS;
	if ((limits->policy == GW__CONVERGE_SWITCH && !limits->can_switch) ||
		(limits->policy == GW__CONVERGE_THROTTLE && !limits->can_throttle))
		c->limits.policy = GW__CONVERGE_GIVE_UP;
}

/* A sample is 100 ms in which there was something to send; a round that was shorter gives one only if there is none yet. */
static void take_sample(struct gw__converge *c, const struct gw__converge_now *n, bool end_of_round)
{
	uint64_t busy = n->busy_ns - c->sampled_busy_ns, bytes = n->left_bytes - c->sampled_bytes;
	if (bytes)
		c->moved_ns = n->now_ns;
	if (busy < SAMPLE_NS && !(end_of_round && c->samples == 0 && busy))
		return;
	c->sample[c->next_sample] = share(bytes, SECOND_NS, busy);
	c->next_sample = (c->next_sample + 1) % GW__CONVERGE_SAMPLES;
	c->samples += c->samples < GW__CONVERGE_SAMPLES;
	c->sampled_busy_ns = n->busy_ns;
	c->sampled_bytes = n->left_bytes;
}

/* The sample below which a fifth of all is; 0: there is none. */
static uint64_t bandwidth_of(const struct gw__converge *c)
{
	uint64_t sorted[GW__CONVERGE_SAMPLES];
	for (unsigned i = 0; i < c->samples; i++) {
		unsigned at = i;
		for (; at > 0 && sorted[at - 1] > c->sample[i]; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = c->sample[i];
	}
	return c->samples ? sorted[c->samples * PERCENTILE / 100] : 0;
}

/* The first round has the pages that never were anything but zero: what it says of the cost of a page is too little. */
static uint64_t page_cost_of(const struct gw__converge *c, const struct gw__converge_now *n)
{
	return c->page_cost ? c->page_cost : n->page_bytes + PAGE_HEAD_BYTES;
}

static void end_round(struct gw__converge *c, const struct gw__converge_now *n)
{
	uint64_t pages = n->sent_pages - c->round_sent_pages, bytes = n->left_bytes - c->round_bytes;
	if (c->round > 0 && pages)
		c->page_cost = bytes / pages ? bytes / pages : 1;
	c->round++;
	c->round_begin_ns = n->now_ns;
	c->round_bytes = n->left_bytes;
	c->round_sent_pages = n->sent_pages;
	if (c->best_dirty == UINT64_MAX || n->dirty_pages < c->best_dirty - c->best_dirty / 10) {
		c->best_dirty = n->dirty_pages;
		c->since_best = 0;
	} else {
		c->since_best++;
	}
}

static void measure(struct gw__converge *c, enum gw__converge_at at, const struct gw__converge_now *n, struct gw__converge_verdict *v)
{
	uint64_t round_ns = n->now_ns - c->round_begin_ns;
	take_sample(c, n, at == GW__CONVERGE_AT_END);
	v->bandwidth = bandwidth_of(c);
	v->throttle = c->throttle;
	if (at == GW__CONVERGE_AT_SAMPLE)
		return;
	uint64_t cost = page_cost_of(c, n), bytes = share(plus(n->unsent_pages, n->dirty_pages), cost, 1);
	v->dirty_rate = round_ns ? share(share(n->dirty_pages, cost, 1), SECOND_NS, round_ns) : 0;
	v->expected_ns = plus(share(plus(bytes, n->device_bytes), SECOND_NS, v->bandwidth), n->pause_ns + n->round_trip_ns + n->load_ns);
	v->peek = v->expected_ns / PEEK_WITHIN <= c->limits.downtime_ns;
}

/* --- What is done -------------------------------------------------------------------------------------------------- */

static struct gw__converge_verdict decide(struct gw__converge_verdict v, enum gw__converge_decision decision,
	enum gw__converge_reason reason)
{
	v.decision = decision;
	v.reason = reason;
	return v;
}

/*
 * The share of its time that leaves the guest writing at half of what the link carries, judged by what it wrote at the present throttle; each time
 * more than before, as the pages it writes may be few and written often.
 */
static struct gw__converge_verdict throttle_more(struct gw__converge *c, struct gw__converge_verdict v)
{
	if (c->throttle == THROTTLE_MAX)
		return decide(v, GW__CONVERGE_FAIL, GW__CONVERGE_THROTTLED);
	uint64_t unthrottled = share(v.dirty_rate, 100, 100 - c->throttle);
	uint64_t keeps = unthrottled ? share(v.bandwidth, 50, unthrottled) : 100; /* percent */
	uint64_t percent = keeps >= 100 ? 0 : 100 - keeps;
	if (percent < c->throttle + THROTTLE_STEP)
		percent = c->throttle + THROTTLE_STEP;
	c->throttle = (unsigned)lesser(percent, THROTTLE_MAX);
	c->best_dirty = UINT64_MAX;
	c->since_best = 0;
	c->looks = 0;
	v.throttle = c->throttle;
	return decide(v, GW__CONVERGE_DO_THROTTLE, GW__CONVERGE_NO_PROGRESS);
}

static struct gw__converge_verdict act(struct gw__converge *c, struct gw__converge_verdict v, enum gw__converge_reason reason)
{
	switch (c->limits.policy) {
	case GW__CONVERGE_SWITCH:
		return decide(v, GW__CONVERGE_DO_SWITCH, reason);
	case GW__CONVERGE_STOP:
		return decide(v, GW__CONVERGE_FINISH, reason);
	case GW__CONVERGE_THROTTLE:
		if (reason != GW__CONVERGE_FIXED_COSTS)
			return throttle_more(c, v);
		break;
	case GW__CONVERGE_GIVE_UP:
		break;
	}
	return decide(v, GW__CONVERGE_FAIL, reason);
}

/* What a downtime costs without a page: no throttle helps against that. */
static bool fixed_costs_are_too_much(const struct gw__converge *c, const struct gw__converge_now *n, uint64_t bandwidth)
{
	return bandwidth &&
	       plus(share(n->device_bytes, SECOND_NS, bandwidth), n->pause_ns + n->round_trip_ns + n->load_ns) > c->limits.downtime_ns;
}

/* A guest that was paused in vain is paused again only with a quarter more of the limit in reserve, and so on. */
static bool fits(const struct gw__converge *c, uint64_t expected_ns)
{
	return expected_ns <= c->limits.downtime_ns - c->limits.downtime_ns / 4 * c->looks;
}

static struct gw__converge_verdict look(struct gw__converge *c, const struct gw__converge_now *n, struct gw__converge_verdict v)
{
	if (v.expected_ns <= c->limits.downtime_ns)
		return decide(v, GW__CONVERGE_FINISH, GW__CONVERGE_FITS);
	/* A blip is a downtime of its own: a pause that takes half the limit is not made in vain twice. */
	c->looks += n->pause_ns > c->limits.downtime_ns / 2 ? LOOKS_MAX : 1;
	if (c->looks >= LOOKS_MAX)
		return act(c, v, fixed_costs_are_too_much(c, n, v.bandwidth) ? GW__CONVERGE_FIXED_COSTS : GW__CONVERGE_NO_FIT);
	return decide(v, GW__CONVERGE_COPY, GW__CONVERGE_NO_FIT);
}

static struct gw__converge_verdict after_round(struct gw__converge *c, const struct gw__converge_now *n, struct gw__converge_verdict v)
{
	if (c->since_best >= c->limits.patience)
		return act(c, v, fixed_costs_are_too_much(c, n, v.bandwidth) ? GW__CONVERGE_FIXED_COSTS : GW__CONVERGE_NO_PROGRESS);
	if (c->limits.policy == GW__CONVERGE_SWITCH && c->round >= 2 && v.bandwidth && v.dirty_rate > v.bandwidth)
		return act(c, v, GW__CONVERGE_TOO_FAST);
	return decide(v, GW__CONVERGE_COPY, GW__CONVERGE_GOES_ON);
}

struct gw__converge_verdict gw__converge_ask(struct gw__converge *c, enum gw__converge_at at, const struct gw__converge_now *n)
{
	struct gw__converge_verdict v = {.expected_ns = UINT64_MAX};
	measure(c, at, n, &v);
	if (at == GW__CONVERGE_AT_END)
		end_round(c, n);
	if (at == GW__CONVERGE_AT_LOOK)
		return look(c, n, v);
	if (c->limits.give_up_ns && n->now_ns >= c->limits.give_up_ns)
		return decide(v, GW__CONVERGE_FAIL, GW__CONVERGE_TOO_LONG);
	if (n->now_ns - c->moved_ns >= c->limits.stalled_ns && n->unsent_pages)
		return decide(v, GW__CONVERGE_FAIL, GW__CONVERGE_STALLED);
	if (at != GW__CONVERGE_AT_SAMPLE && v.bandwidth && fits(c, v.expected_ns))
		return decide(v, GW__CONVERGE_LOOK, GW__CONVERGE_FITS);
	if (at == GW__CONVERGE_AT_END)
		return after_round(c, n, v);
	return decide(v, GW__CONVERGE_COPY, GW__CONVERGE_GOES_ON);
}

enum gw__converge_reason gw__converge_judge(const struct gw__converge_verdict *finish, uint64_t limit_ns, uint64_t downtime_ns,
	uint64_t bandwidth)
{
	if (finish->reason != GW__CONVERGE_FITS || downtime_ns <= limit_ns + limit_ns / 2)
		return finish->reason;
	return bandwidth < finish->bandwidth ? GW__CONVERGE_SLOWER_LINK : GW__CONVERGE_SLOWER_ENDS;
}

const char *gw__converge_reason_text(enum gw__converge_reason reason)
{
	static const char *const texts[GW__CONVERGE_REASONS] = {"it goes on", "the expected downtime is within the limit",
		"the guest was paused, and the exact count of its dirty pages does not fit the downtime limit",
		"rounds do not leave fewer dirty pages", "the guest writes faster than the link carries",
		"pausing the guest and moving its devices alone take longer than the downtime limit",
		"slowing the guest down to 1 % is not enough", "the time limit is over", "the link carries nothing",
		"the link carried less during the last round than before",
		"pausing the guest and loading its devices took longer than before"};
	return reason < GW__CONVERGE_REASONS ? texts[reason] : "?";
}
