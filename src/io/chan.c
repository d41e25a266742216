/* SPDX-License-Identifier: MIT */
/*
 * What all channels share: counting, writing everything, waiting with a sentence. It does not know what a
 * channel is made of. Called by the one thread that owns the channel.
 */
#include "io/parts.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>

#include "io/wait.h"

enum {
	CALLS_PER_LOOK = 32, /* a look at cancel_fd costs a system call */
	AHEAD_BYTES = 1 << 20,
	NEAR_BYTES = 104 << 10, /* what systems begin with */
};

void gw__chan_init(struct gw__chan *c, const struct gw__chan_ops *ops, const char *name, int fd, const struct gw__io_opts *o)
{
	*c = (struct gw__chan){.ops = ops, .fd = fd, .idle_ms = o->idle_ms, .cancel_fd = o->cancel_fd};
	snprintf(c->name, sizeof c->name, "%s", name);
}

static int say_cancelled(const struct gw__chan *c, struct gw__error *error)
{
	return gw__error_set(error, -ECANCELED, "%s: cancelled", c->name);
}

/* Only where there is a network: the other end of a unix socket, of a pipe or of vsock is on this machine. */
static const char *and_network(const struct gw__chan *c)
{
	int family = 0;
	socklen_t n = sizeof family;
	bool network =
		c->fd >= 0 && getsockopt(c->fd, SOL_SOCKET, SO_DOMAIN, &family, &n) == 0 && (family == AF_INET || family == AF_INET6);
	return network ? " and the network up" : "";
}

int gw__chan_say_stuck(const struct gw__chan *c, struct gw__error *error)
{
	return gw__error_set(error, -ETIMEDOUT, "%s: the peer took nothing for %d ms; is it alive%s?", c->name, c->idle_ms, and_network(c));
}

static bool is_over(const struct gw__chan *c) { return c->until_ns && gw__io_is_over(c->until_ns); }

static int say_over(const struct gw__chan *c, struct gw__error *error)
{
	return gw__error_set(error, -ETIMEDOUT, "%s: the peer did not finish this step of the exchange in time", c->name);
}

int gw__chan_wait(struct gw__chan *c, short events, uint64_t deadline, struct gw__error *error)
{
	if (c->until_ns && c->until_ns < deadline)
		deadline = c->until_ns;
	int r = gw__io_wait(c->fd, events, c->cancel_fd, deadline);
	if (r > 0)
		return 0;
	if (r == -ECANCELED)
		return say_cancelled(c, error);
	if (r < 0)
		return gw__error_errno(error, -r, "%s: waiting for the peer", c->name);
	if (is_over(c))
		return say_over(c, error);
	if (events == POLLIN)
		return gw__error_set(error, -ETIMEDOUT, "%s: nothing came for %d ms; is the peer alive%s?", c->name, c->idle_ms,
			and_network(c));
	return gw__chan_say_stuck(c, error);
}

/* A fast peer must not keep a cancelled job alive, nor the one that it delays. */
static int check_limits(struct gw__chan *c, struct gw__error *error)
{
	if (is_over(c))
		return say_over(c, error);
	if (++c->calls < CALLS_PER_LOOK)
		return 0;
	c->calls = 0;
	return gw__io_cancelled(c->cancel_fd) ? say_cancelled(c, error) : 0;
}

ssize_t gw__chan_readv(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	int r = check_limits(c, error);
	if (r)
		return r;
	ssize_t got = c->ops->readv(c, iov, n < IOV_MAX ? n : IOV_MAX, error);
	if (got > 0)
		c->in_bytes += (uint64_t)got;
	return got;
}

ssize_t gw__chan_read(struct gw__chan *c, void *to, size_t n, struct gw__error *error)
{
	return gw__chan_readv(c, &(struct iovec){.iov_base = to, .iov_len = n}, 1, error);
}

ssize_t gw__chan_writev(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	int r = check_limits(c, error);
	if (r)
		return r;
	ssize_t put = c->ops->writev(c, iov, n < IOV_MAX ? n : IOV_MAX, error);
	if (put > 0)
		c->out_bytes += (uint64_t)put;
	return put;
}

int gw__chan_read_fullv(struct gw__chan *c, struct iovec *iov, int n, size_t *got, struct gw__error *error)
{
	*got = 0;
	for (int done = gw__iov_advance(iov, n, 0); done < n;) {
		ssize_t more = gw__chan_readv(c, iov + done, n - done, error);
		if (more < 0)
			return (int)more;
		if (more == 0)
			break;
		*got += (size_t)more;
		done += gw__iov_advance(iov + done, n - done, (size_t)more);
	}
	return 0;
}

int gw__chan_read_full(struct gw__chan *c, void *to, size_t n, size_t *got, struct gw__error *error)
{
	return gw__chan_read_fullv(c, &(struct iovec){.iov_base = to, .iov_len = n}, 1, got, error);
}

int gw__chan_write_allv(struct gw__chan *c, struct iovec *iov, int n, struct gw__error *error)
{
	int done = gw__iov_advance(iov, n, 0);
	while (done < n) {
		ssize_t put = gw__chan_writev(c, iov + done, n - done, error);
		if (put < 0)
			return (int)put;
		if (put == 0)
			return gw__error_set(error, -EIO, "%s: takes no more bytes", c->name);
		done += gw__iov_advance(iov + done, n - done, (size_t)put);
	}
	return 0;
}

int gw__chan_write_all(struct gw__chan *c, const void *from, size_t n, struct gw__error *error)
{
	return gw__chan_write_allv(c, &(struct iovec){.iov_base = (void *)from, .iov_len = n}, 1, error);
}

void gw__chan_set_deep_buffer(struct gw__chan *c, bool far)
{
	int family = 0, bytes = far ? AHEAD_BYTES : NEAR_BYTES;
	socklen_t n = sizeof family;
	if (c->fd >= 0 && getsockopt(c->fd, SOL_SOCKET, SO_DOMAIN, &family, &n) == 0 && family == AF_UNIX)
		setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

int gw__chan_end_writes(struct gw__chan *c, struct gw__error *error) { return c->ops->end_writes(c, error); }

int gw__chan_close(struct gw__chan **c, struct gw__error *error)
{
	if (!*c)
		return 0;
	struct gw__chan *gone = *c;
	*c = NULL;
	return gone->ops->close(gone, error);
}

int gw__chan_wait_readable(struct gw__chan *c, int ms, struct gw__error *error)
{
	if (c->ops->has_input && c->ops->has_input(c))
		return 1;
	int r = gw__io_wait(c->fd, POLLIN, c->cancel_fd, gw__io_deadline(ms));
	if (r == -ECANCELED)
		return say_cancelled(c, error);
	if (r < 0)
		return gw__error_errno(error, -r, "%s: waiting for the peer", c->name);
	return r;
}

int gw__chan_wait_either(struct gw__chan *c, bool room_too, uint64_t ns, struct gw__error *error)
{
	struct pollfd p[2] = {{.fd = c->fd, .events = (short)(POLLIN | (room_too ? POLLOUT : 0))}};
	if (c->ops->has_input && c->ops->has_input(c))
		return GW__CHAN_INPUT;
	int r = gw__io_poll(p, 1, c->cancel_fd, gw__io_now_ns() + ns);
	if (r == -ECANCELED)
		return say_cancelled(c, error);
	if (r < 0)
		return gw__error_errno(error, -r, "%s: waiting for the peer", c->name);
	if (p[0].revents & ~POLLOUT)
		return GW__CHAN_INPUT; /* a broken link too: reading tells */
	return p[0].revents & POLLOUT ? GW__CHAN_ROOM : 0;
}

void gw__chan_set_unsent_low_watermark(struct gw__chan *c, int bytes)
{
	setsockopt(c->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}
