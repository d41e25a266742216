/* SPDX-License-Identifier: MIT */
/*
 * A wire tap: whatever goes through is also written to one channel per direction. A tap that fails fails the
 * channel, because a record with a hole is worse than none. Owned as the channel is.
 */
#include "io/parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS_MAX = 64, COPY_BYTES = 65536 };

struct tap {
	struct gw__filter f;
	struct gw__chan *reads, *writes; /* either may be NULL */
	char copy[COPY_BYTES];
};

static struct tap *tap(struct gw__chan *c) { return (struct tap *)c; }

static int say_not_recorded(struct gw__chan *c, int code, struct gw__error *error)
{
	gw__error_where(error, "%s: recording", c->name);
	return code;
}

static ssize_t read_and_record(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	struct iovec part[PARTS_MAX];
	n = n < PARTS_MAX ? n : PARTS_MAX;
	ssize_t got = gw__chan_readv(gw__filter_inner(c), iov, n, error);
	if (got <= 0 || !tap(c)->reads)
		return got;
	n = gw__iov_clip(iov, n, (uint64_t)got, part, PARTS_MAX);
	int r = gw__chan_write_allv(tap(c)->reads, part, n, error);
	return r ? say_not_recorded(c, r, error) : got;
}

static size_t gather(const struct iovec *iov, int n, char *to, size_t max)
{
	size_t used = 0;
	for (int i = 0; i < n && used < max; i++) {
		size_t bytes = iov[i].iov_len < max - used ? iov[i].iov_len : max - used;
		if (bytes)
			memcpy(to + used, iov[i].iov_base, bytes);
		used += bytes;
	}
	return used;
}

/* Sent and recorded from one copy: the memory of a running guest may change between the two. */
static ssize_t write_and_record(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	struct tap *t = tap(c);
	if (!t->writes)
		return gw__chan_writev(gw__filter_inner(c), iov, n, error);
	struct iovec part = {.iov_base = t->copy, .iov_len = gather(iov, n, t->copy, sizeof t->copy)};
	ssize_t put = gw__chan_writev(gw__filter_inner(c), &part, 1, error);
	if (put <= 0)
		return put;
	int r = gw__chan_write_all(t->writes, t->copy, (size_t)put, error);
	return r ? say_not_recorded(c, r, error) : put;
}

static int end_record(struct gw__chan **to, struct gw__error *error)
{
	int ended = *to ? gw__chan_end_writes(*to, error) : 0;
	int closed = gw__chan_close(to, error);
	return ended ? ended : closed;
}

static int close_tap(struct gw__chan *c, struct gw__error *error)
{
	int reads = end_record(&tap(c)->reads, error), writes = end_record(&tap(c)->writes, error);
	int r = gw__filter_close(c, error);
	if (r == 0)
		r = reads ? reads : writes;
	return r;
}

static const struct gw__chan_ops tap_ops = {
	.readv = read_and_record,
	.writev = write_and_record,
	.has_input = gw__filter_has_input,
	.end_writes = gw__filter_end_writes,
	.close = close_tap,
};

int gw__chan_tap(struct gw__chan **inner, struct gw__chan **reads, struct gw__chan **writes, struct gw__error *error)
{
	struct tap *t = calloc(1, sizeof *t);
	if (!t)
		return gw__error_set(error, -ENOMEM, "%s: no memory for a wire tap", (*inner)->name);
	if (reads) {
		t->reads = *reads;
		*reads = NULL;
	}
	if (writes) {
		t->writes = *writes;
		*writes = NULL;
	}
	gw__filter_init(&t->f, &tap_ops, inner);
	return 0;
}
