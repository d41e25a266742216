/* SPDX-License-Identifier: MIT */
/* A look at the guests of a standby; see standby_guests.h. */
#include "cli/cmd/standby_guests.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_MS = 1000 };

/* Through the folder's descriptor, as its name may be too long for a socket. */
static int connect_control(int folder)
{
	const struct timeval patience = {.tv_usec = ANSWER_MS % 1000 * 1000, .tv_sec = ANSWER_MS / 1000};
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/control", folder);
	if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	int err = errno;
	close(fd);
	return -err;
}

/* A whole line, without its end. */
static bool read_line(int fd, char *line, size_t n)
{
	size_t used = 0;
	while (used + 1 < n) {
		ssize_t got = recv(fd, line + used, n - 1 - used, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		used += (size_t)got;
		line[used] = 0;
		char *end = strchr(line, '\n');
		if (end) {
			*end = 0;
			return true;
		}
	}
	return false;
}

static void set_state(struct gw__cli_guest *g, const char *state) { snprintf(g->state, sizeof g->state, "%s", state); }

static bool ask(int folder, struct gw__cli_guest *g)
{
	char line[sizeof g->line];
	int fd = connect_control(folder);
	if (fd < 0)
		return false;
	bool answered = send(fd, "stats\n", 6, MSG_NOSIGNAL) == 6 && read_line(fd, line, sizeof line);
	close(fd);
	set_state(g, "busy");
	if (!answered)
		return true;
	size_t word = strcspn(line, " ");
	snprintf(g->state, sizeof g->state, "%.*s", (int)word, line);
	snprintf(g->line, sizeof g->line, "%s", line + word);
	return true;
}

/* False: no guest has been there. */
static bool look_at(int dir, const char *vm, struct gw__cli_guest *g)
{
	int folder = openat(dir, vm, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (folder < 0)
		return false;
	memset(g, 0, sizeof *g);
	snprintf(g->vm, sizeof g->vm, "%s", vm);
	if (!ask(folder, g)) {
		if (!faccessat(folder, "guest.img.standby", F_OK, 0))
			set_state(g, "died");
		else if (!faccessat(folder, "guest.img", F_OK, 0))
			set_state(g, "waiting");
	}
	close(folder);
	return g->state[0];
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct gw__cli_guest *)a)->vm, ((const struct gw__cli_guest *)b)->vm);
}

static struct gw__cli_guest *add(struct gw__cli_guests *g)
{
	struct gw__cli_guest *v = realloc(g->v, (g->n + 1) * sizeof *v);
	if (!v)
		return NULL;
	g->v = v;
	return &v[g->n];
}

int gw__cli_guests_look(const char *path, struct gw__cli_guests *g)
{
	*g = (struct gw__cli_guests){0};
	DIR *d = opendir(path);
	if (!d)
		return -errno;
	int r = 0;
	for (struct dirent *entry; !r && (entry = readdir(d));) {
		struct gw__cli_guest *next = entry->d_name[0] == '.' ? NULL : add(g);
		if (!next)
			r = entry->d_name[0] == '.' ? 0 : -ENOMEM;
		else if (look_at(dirfd(d), entry->d_name, next))
			g->n++;
	}
	closedir(d);
	if (g->n)
		qsort(g->v, g->n, sizeof *g->v, by_name);
	return r;
}

void gw__cli_guests_free(struct gw__cli_guests *g)
{
	free(g->v);
	*g = (struct gw__cli_guests){0};
}

static const char *find(const struct gw__cli_guest *g, const char *word)
{
	size_t n = strlen(word);
	for (const char *p = g->line; (p = strstr(p, word)); p += n)
		if (p > g->line && p[-1] == ' ' && p[n] == ' ')
			return p + n + 1;
	return NULL;
}

bool gw__cli_guest_number(const struct gw__cli_guest *g, const char *word, uint64_t *n)
{
	const char *p = find(g, word);
	char *end;
	if (!p || *p < '0' || *p > '9')
		return false;
	errno = 0;
	unsigned long long v = strtoull(p, &end, 10);
	*n = v;
	return !errno && (*end == ' ' || !*end);
}

bool gw__cli_guest_word(const struct gw__cli_guest *g, const char *word, char *to, size_t to_bytes)
{
	const char *p = find(g, word);
	if (!p)
		return false;
	snprintf(to, to_bytes, "%.*s", (int)strcspn(p, " "), p);
	return true;
}
