/* SPDX-License-Identifier: MIT */
/* What only a channel over a socket can: be read and written by two threads, be looked into, be broken. */
#include "io/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "io/wait.h"

enum { DRAIN_MS = 1000, LOOK_MS = 1 };

int gw__chan_dup(const struct gw__chan *c, struct gw__chan **copy, struct gw__error *error)
{
	const struct gw__io_opts o = {.idle_ms = c->idle_ms, .connect_ms = -1, .cancel_fd = c->cancel_fd};
	if (!c->two_way)
		return gw__error_set(error, -EOPNOTSUPP, "%s: not a socket, and only one can be spoken into and listened to", c->name);
	int fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return gw__error_errno(error, errno, "%s: no second descriptor", c->name);
	return gw__chan_take_fd(fd, c->name, &o, copy, error);
}

ssize_t gw__chan_peek(struct gw__chan *c, void *to, size_t n, struct gw__error *error)
{
	for (;;) {
		ssize_t got = recv(c->fd, to, n, MSG_PEEK | MSG_DONTWAIT);
		if (got >= 0)
			return got;
		if (errno != EAGAIN && errno != EINTR)
			return gw__error_errno(error, errno, "%s: reading", c->name);
		int r = gw__chan_wait(c, POLLIN, gw__io_deadline(c->idle_ms), error);
		if (r)
			return r;
	}
}

bool gw__chan_is_reset(struct gw__chan *c, int ms)
{
	int failed = 0;
	socklen_t bytes = sizeof failed;
	if (c->fd < 0 || gw__io_wait(c->fd, 0, c->cancel_fd, gw__io_deadline(ms)) != 1)
		return false;
	return getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &failed, &bytes) == 0 && failed;
}

/* A reset would overtake what is still in the kernel's queue (docs/spec/channels.md 3.3). */
static void drain(int fd)
{
	int left, failed, family;
	socklen_t bytes = sizeof family;
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &bytes) < 0 || (family != AF_INET && family != AF_INET6))
		return; /* elsewhere what was written is with the peer already */
	bytes = sizeof failed;
	for (uint64_t deadline = gw__io_deadline(DRAIN_MS); !gw__io_is_over(deadline);) {
		if (ioctl(fd, SIOCOUTQ, &left) < 0 || left == 0)
			return;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &bytes) < 0 || failed)
			return;
		gw__io_pause(-1, gw__io_deadline(LOOK_MS));
	}
}

void gw__sock_break(int fd)
{
	drain(fd);
	shutdown(fd, SHUT_RDWR);
}
