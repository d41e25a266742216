/* SPDX-License-Identifier: MIT */
/* Both ends of the socket of a mem guest; see control.h. */
#include "cli/guest/control.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = 65536, REQUEST_MS = 5000 };

static int address_of(const char *path, struct sockaddr_un *a, struct gw__error *error)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof a->sun_path)
		return gw__error_set(error, -ENAMETOOLONG, "the path of a socket may have %zu bytes, %s has %zu", sizeof a->sun_path - 1,
			path, strlen(path));
	strcpy(a->sun_path, path);
	return 0;
}

static int connect_to(const char *path, struct gw__error *error)
{
	struct sockaddr_un a;
	int r = address_of(path, &a, error), fd = -1;
	if (r)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	r = errno;
	if (fd >= 0)
		close(fd);
	return gw__error_errno(error, r, "cannot reach a guest at %s", path);
}

int gw__control_listen(const char *path, struct gw__error *error)
{
	struct sockaddr_un a;
	int r = address_of(path, &a, error);
	if (r)
		return r;
	int other = connect_to(path, NULL);
	if (other >= 0) {
		close(other);
		return gw__error_set(error, -EADDRINUSE, "another guest already uses %s", path);
	}
	struct stat st;
	if (other == -ECONNREFUSED && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	mode_t mask = umask(0177);
	bool bound = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 16) == 0;
	r = errno;
	umask(mask);
	if (bound)
		return fd;
	if (fd >= 0)
		close(fd);
	return gw__error_errno(error, r, "cannot listen at %s", path);
}

/* A line, without its end, to be freed; NULL: there is none, or it does not come in time (-1: any). */
static char *read_line(int fd, int timeout_ms)
{
	size_t n = 0, room = 0;
	char *line = NULL;
	for (;;) {
		if (n + 1 >= room) {
			char *more = room < LINE_BYTES_MAX ? realloc(line, room += 4096) : NULL;
			if (!more)
				break;
			line = more;
		}
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int ready = poll(&p, 1, timeout_ms);
		if (ready < 0 && errno == EINTR && timeout_ms < 0)
			continue;
		ssize_t got = ready > 0 ? read(fd, line + n, room - n - 1) : -1;
		if (got <= 0)
			break;
		n += (size_t)got;
		line[n] = 0;
		if (strchr(line, '\n'))
			return line;
	}
	free(line);
	return NULL;
}

static void write_line(int fd, json_t *object)
{
	char *line = object ? json_dumps(object, JSON_COMPACT) : NULL;
	size_t n = line ? strlen(line) : 0;
	for (size_t at = 0; at <= n && line;) {
		ssize_t wrote = at < n ? send(fd, line + at, n - at, MSG_NOSIGNAL) : send(fd, "\n", 1, MSG_NOSIGNAL);
		if (wrote < 0 && errno != EINTR)
			break;
		at += wrote > 0 ? (size_t)wrote : 0;
	}
	free(line);
	json_decref(object);
}

json_t *gw__control_accept(int listening, int *connection)
{
	*connection = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	if (*connection < 0)
		return NULL;
	char *line = read_line(*connection, REQUEST_MS);
	json_t *request = line ? json_loads(line, 0, NULL) : NULL;
	free(line);
	if (!json_is_object(request)) {
		json_decref(request);
		close(*connection);
		return NULL;
	}
	return request;
}

void gw__control_answer(int connection, json_t *answer)
{
	write_line(connection, answer);
	close(connection);
}

int gw__control_ask(const char *path, json_t *request, json_t **answer, struct gw__error *error)
{
	*answer = NULL;
	int fd = connect_to(path, error);
	if (fd < 0) {
		json_decref(request);
		return fd;
	}
	write_line(fd, request);
	char *line = read_line(fd, -1);
	*answer = line ? json_loads(line, 0, NULL) : NULL;
	free(line);
	close(fd);
	return json_is_object(*answer) ? 0 : gw__error_set(error, -EPIPE, "the guest at %s ended before it answered", path);
}
