/* SPDX-License-Identifier: MIT */
/* Connections to a standby; see standby_address.h. */
#include "qemu/standby_address.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "qmp/sleep.h"

enum { RETRY_MS = 20 /* at a unix socket whose queue is full: there is nothing to poll for */ };

/* --- what is where --- */

static void add(struct gw__standby_address *a, const void *to, size_t bytes)
{
	if (a->n == GW__STANDBY_ADDRESSES || bytes > sizeof a->one[0].to)
		return;
	memcpy(&a->one[a->n].to, to, bytes);
	a->one[a->n++].bytes = (socklen_t)bytes;
}

static int look_up_unix(const char *path, struct gw__standby_address *a, struct gw__error *error)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t n = strlen(path);
	if (!n || n >= sizeof to.sun_path)
		return gw__error_set(error, -EINVAL, "unix:%s: the path of a socket has 1 to %zu bytes, this one has %zu", path,
			sizeof to.sun_path - 1, n);
	memcpy(to.sun_path, path, n);
	add(a, &to, sizeof to);
	return 0;
}

static int look_up_vsock(const char *at, struct gw__standby_address *a, struct gw__error *error)
{
	unsigned cid, port;
	char rest;
	if (sscanf(at, "%u:%u%c", &cid, &port, &rest) != 2)
		return gw__error_set(error, -EINVAL, "vsock:%s: a vsock address is vsock:CID:PORT", at);
	const struct sockaddr_vm to = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
	add(a, &to, sizeof to);
	return 0;
}

/* "HOST:PORT" or "[HOST]:PORT"; an empty host is this machine. */
static int split_host(const char *at, char host[256], const char **port)
{
	const char *colon = strrchr(at, ':');
	if (!colon || !colon[1])
		return -EINVAL;
	size_t bracketed = colon - at >= 2 && *at == '[' && colon[-1] == ']', n = (size_t)(colon - at) - 2 * bracketed;
	if (n >= 256)
		return -EINVAL;
	memcpy(host, at + bracketed, n);
	host[n] = 0;
	*port = colon + 1;
	return 0;
}

static int look_up_tcp(const char *at, struct gw__standby_address *a, struct gw__error *error)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *list;
	char host[256];
	const char *port = NULL;
	if (split_host(at, host, &port))
		return gw__error_set(error, -EINVAL, "tcp:%.300s: a TCP address is tcp:HOST:PORT", at);
	int r = getaddrinfo(host[0] ? host : NULL, port, &hints, &list);
	if (r)
		return gw__error_set(error, -EHOSTUNREACH, "the standby at tcp:%.300s was not reached: %s", at,
			r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
	for (const struct addrinfo *i = list; i; i = i->ai_next)
		add(a, i->ai_addr, i->ai_addrlen);
	freeaddrinfo(list);
	return 0;
}

int gw__standby_address_look_up(const char *uri, struct gw__standby_address *a, struct gw__error *error)
{
	*a = (struct gw__standby_address){0};
	if (!strncmp(uri, "unix:", strlen("unix:")))
		return look_up_unix(uri + strlen("unix:"), a, error);
	if (!strncmp(uri, "vsock:", strlen("vsock:")))
		return look_up_vsock(uri + strlen("vsock:"), a, error);
	if (!strncmp(uri, "tcp:", strlen("tcp:")))
		return look_up_tcp(uri + strlen("tcp:"), a, error);
	return gw__error_set(error, -EINVAL, "%.300s: a standby is reached at tcp:, unix: or vsock:", uri);
}

/* --- connecting --- */

struct limit {
	struct timespec start;
	int ms, quit_fd;
};

static int left_ms(const struct limit *l)
{
	int left = l->ms - (int)(gw__monotonic_seconds_since(&l->start) * 1e3);
	return left > 0 ? left : 0;
}

/* 0: the socket may be written to (-1: the time is over); else -ETIMEDOUT or -ECANCELED. */
static int await(int fd, const struct limit *l, int ms)
{
	struct pollfd p[2] = {{.fd = fd, .events = POLLOUT}, {.fd = l->quit_fd, .events = POLLIN}};
	for (;;) {
		int left = left_ms(l), n = poll(p, 2, ms < left ? ms : left);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			return p[1].revents ? -ECANCELED : 0;
		if (!left)
			return -ETIMEDOUT;
		if (n == 0 && fd < 0)
			return 0;
	}
}

static int await_connected(int fd, const struct limit *l)
{
	int failure = 0, r = await(fd, l, l->ms);
	socklen_t n = sizeof failure;
	if (!r && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &n))
		return -errno;
	return r ? r : -failure;
}

static int connect_within(int fd, const struct sockaddr *to, socklen_t bytes, const struct limit *l)
{
	int r = 0;
	while (!r && connect(fd, to, bytes)) {
		if (errno == EINPROGRESS || errno == EALREADY)
			return await_connected(fd, l);
		if (errno == EAGAIN)
			r = await(-1, l, RETRY_MS);
		else if (errno != EINTR)
			r = -errno;
	}
	return r;
}

static int dial_one(const struct sockaddr_storage *to, socklen_t bytes, const struct limit *l)
{
	int fd = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int r = connect_within(fd, (const struct sockaddr *)to, bytes, l);
	if (r) {
		close(fd);
		return r;
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* where it is tcp: a word must not wait for the next */
	return fd;
}

int gw__standby_address_dial(const struct gw__standby_address *a, int quit_fd, int timeout_ms)
{
	const struct limit l = {gw__monotonic_now(), timeout_ms, quit_fd};
	int fd = -EHOSTUNREACH;
	for (unsigned i = 0; i < a->n && fd < 0 && fd != -ECANCELED; i++)
		fd = dial_one(&a->one[i].to, a->one[i].bytes, &l);
	return fd;
}
