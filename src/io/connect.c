/* SPDX-License-Identifier: MIT */
/*
 * Connecting to a destination: tcp (every address of the host in turn), unix, vsock. Bounded by connect_ms,
 * ended by cancel_fd. No listening (listen.c). Called by the thread that will own the channel.
 */
#include "io/parts.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "io/wait.h"

enum { FULL_QUEUE_MS = 10 };

/* Until the connection that was begun stands: 0 or negative errno. */
static int await_connection(int fd, int cancel_fd, uint64_t deadline)
{
	int err = 0;
	socklen_t bytes = sizeof err;
	int r = gw__io_wait(fd, POLLOUT, cancel_fd, deadline);
	if (r <= 0)
		return r < 0 ? r : -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &bytes) < 0)
		return -errno;
	return -err;
}

static int connect_fd(int fd, const struct gw__addr *addr, int cancel_fd, uint64_t deadline)
{
	while (connect(fd, &addr->any, addr->bytes) < 0) {
		if (errno == EINPROGRESS || errno == EINTR || errno == EALREADY)
			return await_connection(fd, cancel_fd, deadline);
		if (errno != EAGAIN || addr->any.sa_family != AF_UNIX)
			return -errno;
		/* The listener's queue is full; poll does not tell when it has room again. */
		uint64_t soon = gw__io_deadline(FULL_QUEUE_MS);
		if (gw__io_pause(cancel_fd, soon < deadline ? soon : deadline))
			return -ECANCELED;
		if (gw__io_is_over(deadline))
			return -ETIMEDOUT;
	}
	return 0;
}

/* The connected descriptor, or negative errno. */
static int connect_addr(const struct gw__addr *addr, const struct gw__io_opts *o, uint64_t deadline)
{
	int fd = gw__addr_socket(addr);
	if (fd < 0)
		return fd;
	if (o->on_socket)
		o->on_socket(o->ctx, fd);
	int r = connect_fd(fd, addr, o->cancel_fd, deadline);
	if (r) {
		close(fd);
		return r;
	}
	gw__addr_set_no_delay(addr, fd);
	return fd;
}

static int say_failed(const struct gw__uri *uri, int err, struct gw__error *error)
{
	const char *to = uri->text;
	switch (err) {
	case ECANCELED:
		return gw__error_set(error, -err, "%.200s: cancelled while connecting", to);
	case ECONNREFUSED:
		return gw__error_set(error, -err, "nobody listens at %.200s; start the destination first", to);
	case ENOENT:
		return gw__error_set(error, -err, "nobody listens at %.200s, there is no such socket; start the destination first", to);
	case ETIMEDOUT:
		if (uri->kind == GW__URI_UNIX)
			return gw__error_set(error, -err, "no answer from %.200s; its listener hangs, or takes no more connections", to);
		if (uri->kind == GW__URI_VSOCK)
			return gw__error_set(error, -err, "no answer from %.200s; is the CID right and that machine up?", to);
		return gw__error_set(error, -err, "no answer from %.200s; is the address right and no firewall between?", to);
	case EHOSTUNREACH:
	case ENETUNREACH:
		return gw__error_errno(error, err, "no way from here to %.200s; check the address and the network", to);
	case EAFNOSUPPORT:
	case ENODEV:
		return gw__error_errno(error, err, "%.200s: this machine does not offer such sockets%s", to,
			uri->kind == GW__URI_VSOCK ? " (a host needs the module vhost_vsock, loopback vsock_loopback)" : "");
	default:
		return gw__error_errno(error, err, "cannot connect to %.200s", to);
	}
}

/* An address that swallows packets must leave time for the ones after it. */
static uint64_t share_of(uint64_t deadline, int addresses)
{
	uint64_t now = gw__io_now_ns();
	if (deadline == UINT64_MAX || now >= deadline)
		return deadline;
	return now + (deadline - now) / (uint64_t)addresses;
}

/* The first address that answers. Of several failures "refused" says most: the host is there. */
static int connect_any(const struct gw__addrs *addrs, const struct gw__io_opts *o)
{
	uint64_t deadline = gw__io_deadline(o->connect_ms);
	int failure = -EHOSTUNREACH;
	for (int i = 0; i < addrs->n; i++) {
		int fd = connect_addr(&addrs->list[i], o, share_of(deadline, addrs->n - i));
		if (fd >= 0 || fd == -ECANCELED)
			return fd;
		if (i == 0 || failure != -ECONNREFUSED)
			failure = fd;
	}
	return failure;
}

int gw__connect(const struct gw__uri *uri, const struct gw__io_opts *o, struct gw__chan **c, struct gw__error *error)
{
	struct gw__addrs addrs;
	int r = gw__addrs_find(uri, false, &addrs, error);
	if (r)
		return r;
	int fd = connect_any(&addrs, o);
	if (fd < 0)
		return say_failed(uri, -fd, error);
	return gw__chan_take_fd(fd, uri->text, o, c, error);
}
