/* SPDX-License-Identifier: MIT */
/*
 * A rate limit: what went through takes its time, and the next transfer waits until that time is over.
 * Nothing is saved up beyond one slice, so a pause is not followed by a burst. Each direction has its own
 * account, which all channels of the limit share, from any thread: an idle channel leaves its part to the others.
 * The filter is owned as the channel is; the limit lives until the last of its channels and its maker have let it go.
 */
#include "io/parts.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/math.h"
#include "io/wait.h"

enum { NS_PER_S = 1000000000, SLICES_PER_S = 20, SLICE_MIN_BYTES = 1024, SLICE_MAX_BYTES = 1 << 30, PARTS_MAX = 64 };

struct gw__rate {
	struct gw__pace pace;
	uint64_t bytes_per_s, slice_bytes;
	_Atomic uint64_t paid_in_ns, paid_out_ns; /* when what was transferred is paid for */
	_Atomic uint32_t channels, holders;
};

struct limited {
	struct gw__filter f;
	struct gw__rate *rate;
};

static struct gw__rate *rate(struct gw__chan *c) { return ((struct limited *)c)->rate; }

static int await_turn(struct gw__chan *c, const _Atomic uint64_t *rate_free_at_ns, struct gw__error *error)
{
	const struct gw__pace *pace = &rate(c)->pace;
	for (;;) {
		uint64_t now = gw__clock_now_ns(&pace->clock), paid = atomic_load(rate_free_at_ns);
		if (now >= paid)
			return 0;
		int r = pace->wait_ns(pace->clock.ctx, paid - now, c->cancel_fd);
		if (r)
			return gw__error_set(error, r, "%s: cancelled while keeping to the rate limit", c->name);
	}
}

/* As many channels may transfer at the same moment as there are, before any of them has paid: together a slice. */
static uint64_t step_bytes(const struct gw__rate *t)
{
	uint64_t bytes = t->slice_bytes / gw__max(1, atomic_load(&t->channels));
	return gw__max(bytes, SLICE_MIN_BYTES);
}

/* Unused time counts up to one slice. Rounded up, so that many small transfers do not beat the limit. */
static void pay(const struct gw__rate *t, uint64_t bytes, _Atomic uint64_t *rate_free_at_ns)
{
	uint64_t slice_ns = t->slice_bytes * NS_PER_S / t->bytes_per_s;
	uint64_t cost_ns = (bytes * NS_PER_S + t->bytes_per_s - 1) / t->bytes_per_s;
	uint64_t now = gw__clock_now_ns(&t->pace.clock), before = atomic_load(rate_free_at_ns), after;
	do
		after = gw__max(before, now > slice_ns ? now - slice_ns : 0) + cost_ns;
	while (!atomic_compare_exchange_weak(rate_free_at_ns, &before, after));
}

static ssize_t read_slowly(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	struct gw__rate *t = rate(c);
	struct iovec part[PARTS_MAX];
	int r = await_turn(c, &t->paid_in_ns, error);
	if (r)
		return r;
	n = gw__iov_clip(iov, n, step_bytes(t), part, PARTS_MAX);
	ssize_t got = gw__chan_readv(gw__filter_inner(c), part, n, error);
	if (got > 0)
		pay(t, (uint64_t)got, &t->paid_in_ns);
	return got;
}

static ssize_t write_slowly(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	struct gw__rate *t = rate(c);
	struct iovec part[PARTS_MAX];
	int r = await_turn(c, &t->paid_out_ns, error);
	if (r)
		return r;
	n = gw__iov_clip(iov, n, step_bytes(t), part, PARTS_MAX);
	ssize_t put = gw__chan_writev(gw__filter_inner(c), part, n, error);
	if (put > 0)
		pay(t, (uint64_t)put, &t->paid_out_ns);
	return put;
}

void gw__rate_free(struct gw__rate *t)
{
	if (t && atomic_fetch_sub(&t->holders, 1) == 1)
		free(t);
}

static int close_limited(struct gw__chan *c, struct gw__error *error)
{
	struct gw__rate *t = rate(c);
	atomic_fetch_sub(&t->channels, 1);
	gw__rate_free(t);
	return gw__filter_close(c, error);
}

static const struct gw__chan_ops rate_ops = {
	.readv = read_slowly,
	.writev = write_slowly,
	.has_input = gw__filter_has_input,
	.end_writes = gw__filter_end_writes,
	.close = close_limited,
};

static uint64_t real_now_ns(void *ctx)
{
	(void)ctx;
	return gw__io_now_ns();
}

static int real_wait_ns(void *ctx, uint64_t ns, int cancel_fd)
{
	(void)ctx;
	return gw__io_pause(cancel_fd, gw__io_now_ns() + ns);
}

int gw__rate_new(uint64_t bytes_per_s, const struct gw__pace *pace, struct gw__rate **rate, struct gw__error *error)
{
	static const struct gw__pace real = {.clock = {.now_ns = real_now_ns}, .wait_ns = real_wait_ns};
	struct gw__rate *t = calloc(1, sizeof *t);
	*rate = t;
	if (!t)
		return gw__error_set(error, -ENOMEM, "no memory for a rate limit");
	t->pace = pace ? *pace : real;
	t->bytes_per_s = bytes_per_s;
	t->slice_bytes = gw__max(gw__min(bytes_per_s / SLICES_PER_S, SLICE_MAX_BYTES), SLICE_MIN_BYTES);
	t->paid_in_ns = t->paid_out_ns = gw__clock_now_ns(&t->pace.clock);
	t->holders = 1;
	return 0;
}

int gw__chan_share_rate(struct gw__chan **inner, struct gw__rate *rate, struct gw__error *error)
{
	struct limited *l = calloc(1, sizeof *l);
	if (!l)
		return gw__error_set(error, -ENOMEM, "%s: no memory for a rate limit", (*inner)->name);
	l->rate = rate;
	atomic_fetch_add(&rate->holders, 1);
	atomic_fetch_add(&rate->channels, 1);
	gw__filter_init(&l->f, &rate_ops, inner);
	return 0;
}

int gw__chan_limit_rate_paced(struct gw__chan **inner, uint64_t bytes_per_s, const struct gw__pace *pace, struct gw__error *error)
{
	struct gw__rate *rate;
	if (bytes_per_s == 0)
		return 0;
	int r = gw__rate_new(bytes_per_s, pace, &rate, error);
	if (!r)
		r = gw__chan_share_rate(inner, rate, error);
	gw__rate_free(rate);
	return r;
}

int gw__chan_limit_rate(struct gw__chan **inner, uint64_t bytes_per_s, struct gw__error *error)
{
	return gw__chan_limit_rate_paced(inner, bytes_per_s, NULL, error);
}
