/* SPDX-License-Identifier: MIT */
/*
 * A link that breaks at a chosen byte, for tests and for godwit proxy. The bytes before it arrive; the other
 * direction is not touched, and the peer learns of it when the channel is closed. Owned as the channel is.
 */
#include "io/parts.h"

#include <errno.h>
#include <stdlib.h>

enum { PARTS_MAX = 64 };

struct cut {
	struct gw__filter f;
	uint64_t read_left, write_left; /* UINT64_MAX: no limit */
};

static struct cut *cut(struct gw__chan *c) { return (struct cut *)c; }

static void use_up(uint64_t *left, ssize_t bytes)
{
	if (*left != UINT64_MAX && bytes > 0)
		*left -= (uint64_t)bytes;
}

static ssize_t read_before_cut(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	struct iovec part[PARTS_MAX];
	if (cut(c)->read_left == 0)
		return 0;
	n = gw__iov_clip(iov, n, cut(c)->read_left, part, PARTS_MAX);
	ssize_t got = gw__chan_readv(gw__filter_inner(c), part, n, error);
	use_up(&cut(c)->read_left, got);
	return got;
}

static ssize_t write_before_cut(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	struct iovec part[PARTS_MAX];
	if (cut(c)->write_left == 0)
		return gw__error_set(error, -EPIPE, "%s: cut on purpose after %llu bytes", c->name, (unsigned long long)c->out_bytes);
	n = gw__iov_clip(iov, n, cut(c)->write_left, part, PARTS_MAX);
	ssize_t put = gw__chan_writev(gw__filter_inner(c), part, n, error);
	use_up(&cut(c)->write_left, put);
	return put;
}

static bool has_input(struct gw__chan *c) { return cut(c)->read_left == 0 || gw__filter_has_input(c); }

static const struct gw__chan_ops cut_ops = {
	.readv = read_before_cut,
	.writev = write_before_cut,
	.has_input = has_input,
	.end_writes = gw__filter_end_writes,
	.close = gw__filter_close,
};

int gw__chan_cut_after(struct gw__chan **inner, uint64_t read_bytes, uint64_t write_bytes, struct gw__error *error)
{
	struct cut *x = calloc(1, sizeof *x);
	if (!x)
		return gw__error_set(error, -ENOMEM, "%s: no memory for a filter", (*inner)->name);
	x->read_left = read_bytes;
	x->write_left = write_bytes;
	gw__filter_init(&x->f, &cut_ops, inner);
	return 0;
}
