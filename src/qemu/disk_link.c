/* SPDX-License-Identifier: MIT */
/* Lines about disks; see disk_link.h. */
#include "qemu/disk_link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "qmp/sleep.h"

enum { CONNECT_MS = 5000, OPEN_MS = 30000, LINE_BYTES = 4096 };

int gw__disk_link_server(const char *address, char *server, size_t n, struct gw__error *error)
{
	const char *colon = strrchr(address, ':');
	if (!strncmp(address, "unix:", strlen("unix:")) && address[strlen("unix:")]) {
		snprintf(server, n, "%s.nbd", address);
		return 0;
	}
	char *end = NULL;
	long port = colon && colon[1] ? strtol(colon + 1, &end, 10) : 0;
	if (strncmp(address, "tcp:", strlen("tcp:")) || colon < address + strlen("tcp:") || !end || *end || port < 1 || port > 65534)
		return gw__error_set(error, -EINVAL, "%s: disks are at unix:PATH or tcp:HOST:PORT", address);
	snprintf(server, n, "%.*s:%ld", (int)(colon - address), address, port + 1);
	return 0;
}

int gw__disk_link_read(int fd, char *line, size_t n, int ms)
{
	struct timespec start = gw__monotonic_now();
	for (size_t used = 0; used + 1 < n;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int left = ms - (int)(gw__monotonic_seconds_since(&start) * 1e3);
		if (left <= 0)
			return -ETIMEDOUT;
		ssize_t got = poll(&p, 1, left) > 0 ? recv(fd, line + used, 1, MSG_DONTWAIT) : -1;
		if (got == 0)
			return -ECONNRESET;
		if (got < 0 && errno != EINTR && errno != EAGAIN && p.revents)
			return -errno;
		if (got != 1)
			continue;
		if (line[used] == '\n') {
			line[used] = 0;
			return 0;
		}
		used++;
	}
	return -EPROTO;
}

int gw__disk_link_write(int fd, const char *line)
{
	size_t n = strlen(line); /* short, into an empty socket */
	return send(fd, line, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n ? 0 : -EPIPE;
}

static int ask(int fd, const char *address, const struct gw__mirror *m, char prefix[16], struct gw__error *error)
{
	char line[LINE_BYTES] = "disks";
	size_t n = strlen(line);
	for (unsigned i = 0; i < m->n; i++)
		n += (size_t)snprintf(line + n, n < sizeof line ? sizeof line - n : 0, " %llu %s", (unsigned long long)m->disks[i].bytes,
			m->disks[i].id);
	if (n + 2 > sizeof line)
		return gw__error_set(error, -E2BIG, "it has too many disks");
	strcat(line, "\n");
	int r = gw__disk_link_write(fd, line);
	if (!r)
		r = gw__disk_link_read(fd, line, sizeof line, OPEN_MS);
	if (r)
		return gw__error_set(error, r, "the standby at %s does not answer: %s", address, strerror(-r));
	if (sscanf(line, "ok %15[0-9]", prefix) != 1)
		return gw__error_set(error, -EIO, "the standby at %s does not accept its disks: %.300s", address,
			!strncmp(line, "error ", 6) ? line + 6 : line);
	return 0;
}

int gw__disk_link_open(const char *address, const struct gw__mirror *m, int *fd, char prefix[16], struct gw__error *error)
{
	struct gw__error ignored = {0};
	int r = gw__qmp_dial(address, CONNECT_MS, fd, &ignored);
	if (r)
		return gw__error_set(error, r, "the standby at %s was not reached: %s", address, strerror(-r));
	r = ask(*fd, address, m, prefix, error);
	if (r) {
		close(*fd);
		*fd = -1;
	}
	return r;
}
