/* SPDX-License-Identifier: MIT */
/*
 * An address becomes a connected socket, or a sentence an operator can act on.
 *
 * Knows unix and tcp, nothing of QMP. Called by the thread that opens a connection; the socket belongs to the
 * caller.
 */
#include "qmp/parts.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { RETRY_MS = 20 };

int gw__qmp_say_busy(const char *address, int timeout_ms, struct gw__error *error)
{
	return gw__error_set(error, -ETIMEDOUT,
		"nobody answered at %s within %d ms: QEMU serves one QMP client at a time, another one "
		"probably holds this "
		"socket; close it or give QEMU a second -qmp socket",
		address, timeout_ms);
}

static bool is_socket(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static int say_unix_failure(const char *path, int err, struct gw__error *error)
{
	switch (err) {
	case ENOENT:
		return gw__error_set(error, -err, "there is no QMP socket %s: QEMU makes one with -qmp unix:%s,server=on,wait=off", path,
			path);
	case ECONNREFUSED:
		if (!is_socket(path))
			return gw__error_set(error, -ENOTSOCK, "%s is not a socket", path);
		return gw__error_set(error, -err,
			"nobody listens at %s: the QEMU that made this socket is gone, or never finished "
			"starting",
			path);
	case EACCES:
	case EPERM:
		return gw__error_set(error, -err,
			"not allowed to connect to %s: that takes write permission on the socket and search "
			"permission "
			"on the folders above it; run as the user that QEMU runs as",
			path);
	case EPROTOTYPE:
		return gw__error_set(error, -err, "%s is a socket, but not a stream socket: not QMP", path);
	}
	return gw__error_errno(error, err, "cannot connect to QMP at %s", path);
}

/* One address, within the limit: 0, GW__NOTHING_CAME, -errno. */
static int connect_within(int fd, const struct sockaddr *to, socklen_t n, uint64_t deadline_ns)
{
	for (;;) {
		if (connect(fd, to, n) == 0)
			return 0;
		if (errno == EINPROGRESS || errno == EALREADY)
			break;
		/* A unix listener whose queue is full: there is nothing to poll for. */
		if (errno == EAGAIN) {
			int left = gw__qmp_left_ms(deadline_ns);
			if (left == 0)
				return GW__NOTHING_CAME;
			poll(NULL, 0, left < 0 || left > RETRY_MS ? RETRY_MS : left);
			continue;
		}
		if (errno != EINTR)
			return -errno;
	}
	int err = gw__qmp_wait(fd, POLLOUT, deadline_ns);
	if (err)
		return err;
	int failure = 0;
	socklen_t len = sizeof failure;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &len) != 0)
		return -errno;
	return -failure;
}

static int connect_unix(const char *path, int timeout_ms, uint64_t deadline_ns, int *fd, struct gw__error *error)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t n = strlen(path);
	if (n == 0)
		return gw__error_set(error, -EINVAL, "the path of the QMP socket is empty");
	if (n >= sizeof to.sun_path)
		return gw__error_set(error, -ENAMETOOLONG, "the path of a socket may have %zu bytes, %s has %zu", sizeof to.sun_path - 1,
			path, n);
	memcpy(to.sun_path, path, n);
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return gw__error_errno(error, errno, "cannot make a socket");
	int err = connect_within(s, (struct sockaddr *)&to, sizeof to, deadline_ns);
	if (err == 0) {
		*fd = s;
		return 0;
	}
	close(s);
	return err == GW__NOTHING_CAME ? gw__qmp_say_busy(path, timeout_ms, error) : say_unix_failure(path, -err, error);
}

/* "HOST:PORT" or "[HOST]:PORT"; an empty host is this machine. */
static int split_host(const char *at, char *host, size_t room, const char **port, struct gw__error *error)
{
	const char *colon = strrchr(at, ':');
	if (!colon || !colon[1])
		return gw__error_set(error, -EINVAL, "a QMP address over TCP is tcp:HOST:PORT, not tcp:%s", at);
	const char *from = at, *to = colon;
	if (to - from >= 2 && *from == '[' && to[-1] == ']') {
		from++;
		to--;
	}
	if ((size_t)(to - from) >= room)
		return gw__error_set(error, -EINVAL, "the host name in tcp:%.40s... is too long", at);
	memcpy(host, from, (size_t)(to - from));
	host[to - from] = 0;
	*port = colon + 1;
	return 0;
}

static int try_each(const struct addrinfo *list, uint64_t deadline_ns, int *fd)
{
	int err = -EHOSTUNREACH;
	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		int s = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
		if (s < 0) {
			err = -errno;
			continue;
		}
		err = connect_within(s, a->ai_addr, a->ai_addrlen, deadline_ns);
		if (err == 0) {
			*fd = s;
			return 0;
		}
		close(s);
	}
	return err == GW__NOTHING_CAME ? -ETIMEDOUT : err;
}

static int connect_tcp(const char *at, uint64_t deadline_ns, int *fd, struct gw__error *error)
{
	char host[256];
	const char *port = NULL;
	int err = split_host(at, host, sizeof host, &port, error);
	if (err)
		return err;
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list;
	int gai = getaddrinfo(host[0] ? host : NULL, port, &hints, &list);
	if (gai)
		return gw__error_set(error, -EHOSTUNREACH, "cannot look up tcp:%s: %s", at,
			gai == EAI_SYSTEM ? strerror(errno) : gai_strerror(gai));
	err = try_each(list, deadline_ns, fd);
	freeaddrinfo(list);
	if (err == -ECONNREFUSED)
		return gw__error_set(error, err, "nobody listens at tcp:%s: QEMU does with -qmp tcp:%s,server=on,wait=off", at, at);
	return err ? gw__error_errno(error, -err, "cannot connect to QMP at tcp:%s", at) : 0;
}

int gw__qmp_connect(const char *address, int timeout_ms, uint64_t deadline_ns, int *fd, struct gw__error *error)
{
	if (strncmp(address, "tcp:", 4) == 0)
		return connect_tcp(address + 4, deadline_ns, fd, error);
	const char *path = strncmp(address, "unix:", 5) == 0 ? address + 5 : address;
	return connect_unix(path, timeout_ms, deadline_ns, fd, error);
}
