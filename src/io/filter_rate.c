/* SPDX-License-Identifier: MIT */
/*
 * A rate limit: what went through takes its time, and the next transfer waits until that time is over.
 * Nothing is saved up beyond one slice, so a pause is not followed by a burst. Each direction has its own
 * account. Owned as the channel is.
 */
#include "io/parts.h"

#include <errno.h>
#include <stdlib.h>

#include "base/math.h"
#include "io/wait.h"

enum { NS_PER_S = 1000000000, SLICES_PER_S = 20, SLICE_MIN_BYTES = 1024, SLICE_MAX_BYTES = 1 << 30, PARTS_MAX = 64 };

struct rate {
	struct gw__filter f;
	struct gw__pace pace;
	uint64_t bytes_per_s, slice_bytes;
	uint64_t paid_in_ns, paid_out_ns; /* when what was transferred is paid for */
};

static struct rate *rate(struct gw__chan *c) { return (struct rate *)c; }

static int await_turn(struct rate *t, uint64_t paid_ns, struct gw__why *why)
{
	for (;;) {
		uint64_t now = gw__clock_now_ns(&t->pace.clock);
		if (now >= paid_ns)
			return 0;
		int r = t->pace.wait_ns(t->pace.clock.ctx, paid_ns - now, t->f.chan.cancel_fd);
		if (r)
			return gw__why_set(why, r, "%s: cancelled while keeping to the rate limit", t->f.chan.name);
	}
}

/* Unused time counts up to one slice. Rounded up, so that many small transfers do not beat the limit. */
static void pay(const struct rate *t, uint64_t bytes, uint64_t *paid_ns)
{
	uint64_t slice_ns = t->slice_bytes * NS_PER_S / t->bytes_per_s;
	uint64_t now = gw__clock_now_ns(&t->pace.clock);
	if (*paid_ns + slice_ns < now)
		*paid_ns = now - slice_ns;
	*paid_ns += (bytes * NS_PER_S + t->bytes_per_s - 1) / t->bytes_per_s;
}

static ssize_t read_slowly(struct gw__chan *c, const struct iovec *iov, int n, struct gw__why *why)
{
	struct rate *t = rate(c);
	struct iovec part[PARTS_MAX];
	int r = await_turn(t, t->paid_in_ns, why);
	if (r)
		return r;
	n = gw__iov_clip(iov, n, t->slice_bytes, part, PARTS_MAX);
	ssize_t got = gw__chan_readv(gw__filter_inner(c), part, n, why);
	if (got > 0)
		pay(t, (uint64_t)got, &t->paid_in_ns);
	return got;
}

static ssize_t write_slowly(struct gw__chan *c, const struct iovec *iov, int n, struct gw__why *why)
{
	struct rate *t = rate(c);
	struct iovec part[PARTS_MAX];
	int r = await_turn(t, t->paid_out_ns, why);
	if (r)
		return r;
	n = gw__iov_clip(iov, n, t->slice_bytes, part, PARTS_MAX);
	ssize_t put = gw__chan_writev(gw__filter_inner(c), part, n, why);
	if (put > 0)
		pay(t, (uint64_t)put, &t->paid_out_ns);
	return put;
}

static const struct gw__chan_ops rate_ops = {
	.readv = read_slowly,
	.writev = write_slowly,
	.has_input = gw__filter_has_input,
	.end_writes = gw__filter_end_writes,
	.close = gw__filter_close,
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

int gw__chan_limit_rate_paced(struct gw__chan **inner, uint64_t bytes_per_s, const struct gw__pace *pace, struct gw__why *why)
{
	if (bytes_per_s == 0)
		return 0;
	struct rate *t = calloc(1, sizeof *t);
	if (!t)
		return gw__why_set(why, -ENOMEM, "%s: no memory for a rate limit", (*inner)->name);
	t->pace = *pace;
	t->bytes_per_s = bytes_per_s;
	t->slice_bytes = gw__min(bytes_per_s / SLICES_PER_S, SLICE_MAX_BYTES);
	if (t->slice_bytes < SLICE_MIN_BYTES)
		t->slice_bytes = SLICE_MIN_BYTES;
	t->paid_in_ns = t->paid_out_ns = gw__clock_now_ns(&t->pace.clock);
	gw__filter_init(&t->f, &rate_ops, inner);
	return 0;
}

int gw__chan_limit_rate(struct gw__chan **inner, uint64_t bytes_per_s, struct gw__why *why)
{
	static const struct gw__pace real = {.clock = {.now_ns = real_now_ns}, .wait_ns = real_wait_ns};
	return gw__chan_limit_rate_paced(inner, bytes_per_s, &real, why);
}
