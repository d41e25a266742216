/* SPDX-License-Identifier: MIT */
/*
 * Whole lines from and to a stream socket, within a limit of time and of length.
 *
 * It knows no JSON and writes no sentence. Owned by the connection, used by its thread. The buffer grows as
 * bytes arrive, up to the longest line; the socket's own flags are left alone, because it may be shared.
 */
#include "qmp/parts.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FIRST_ROOM_BYTES = 8 << 10 };

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t gw__qmp_deadline_ns(int timeout_ms) { return timeout_ms < 0 ? UINT64_MAX : now_ns() + (uint64_t)timeout_ms * 1000000u; }

int gw__qmp_left_ms(uint64_t deadline_ns)
{
	if (deadline_ns == UINT64_MAX)
		return -1;
	uint64_t now = now_ns();
	if (now >= deadline_ns)
		return 0;
	uint64_t ms = (deadline_ns - now + 999999) / 1000000;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

int gw__qmp_wait(int fd, short events, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		int left = gw__qmp_left_ms(deadline_ns);
		int r = poll(&p, 1, left);
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
		if (left == 0)
			return GW__NOTHING_CAME;
	}
}

/* Room for at least one more byte and the NUL after it. */
static int make_room(struct gw__qmp_line *l)
{
	if (l->start) {
		memmove(l->bytes, l->bytes + l->start, l->end - l->start);
		l->searched -= l->start;
		l->end -= l->start;
		l->start = 0;
	}
	if (l->end + 1 < l->room)
		return 0;
	if (l->room >= GW__QMP_LINE_MAX_BYTES)
		return -EMSGSIZE;
	size_t room = l->room ? 2 * l->room : FIRST_ROOM_BYTES;
	char *bytes = realloc(l->bytes, room);
	if (!bytes)
		return -ENOMEM;
	l->bytes = bytes;
	l->room = room;
	return 0;
}

static int receive_some(struct gw__qmp_line *l, uint64_t deadline_ns)
{
	int err = make_room(l);
	if (err)
		return err;
	for (;;) {
		err = gw__qmp_wait(l->fd, POLLIN, deadline_ns);
		if (err)
			return err;
		ssize_t n = recv(l->fd, l->bytes + l->end, l->room - l->end - 1, MSG_DONTWAIT);
		if (n > 0) {
			l->end += (size_t)n;
			return 0;
		}
		if (n == 0)
			return -ECONNRESET;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
}

int gw__qmp_line_next(struct gw__qmp_line *l, uint64_t deadline_ns, char **line, size_t *n)
{
	for (;;) {
		size_t fresh = l->end - l->searched;
		char *nl = fresh ? memchr(l->bytes + l->searched, '\n', fresh) : NULL; /* no bytes, maybe no buffer yet */
		if (nl) {
			*line = l->bytes + l->start;
			*n = (size_t)(nl - *line);
			l->start = l->searched = (size_t)(nl - l->bytes) + 1;
			if (*n && nl[-1] == '\r')
				(*n)--;
			(*line)[*n] = 0;
			return 0;
		}
		l->searched = l->end;
		int err = receive_some(l, deadline_ns);
		if (err)
			return err;
	}
}

size_t gw__qmp_line_partial(const struct gw__qmp_line *l) { return l->end - l->start; }

static ssize_t send_some(int socket, const char *bytes, size_t n, int fd)
{
	struct iovec iov = {.iov_base = (char *)bytes, .iov_len = n};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	union {
		char room[CMSG_SPACE(sizeof fd)];
		struct cmsghdr align;
	} control = {{0}};
	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof control.room;
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	return sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int gw__qmp_line_send(struct gw__qmp_line *l, const char *bytes, size_t n, int fd, uint64_t deadline_ns)
{
	while (n) {
		ssize_t sent = send_some(l->fd, bytes, n, fd);
		if (sent > 0) {
			bytes += sent;
			n -= (size_t)sent;
			fd = -1;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		int err = gw__qmp_wait(l->fd, POLLOUT, deadline_ns);
		if (err)
			return err == GW__NOTHING_CAME ? -ETIMEDOUT : err;
	}
	return 0;
}

void gw__qmp_line_close(struct gw__qmp_line *l)
{
	free(l->bytes);
	if (l->fd >= 0)
		close(l->fd);
	*l = (struct gw__qmp_line){.fd = -1};
}
