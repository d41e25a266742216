/* SPDX-License-Identifier: MIT */
/*
 * A store that is a file of this host: the text is its content, and changes under an exclusive lock (flock). It is not synced: whoever could be misled is gone
 * with the host. Not for network file systems, whose locks may be forgotten.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/store_private.h"

enum { POLL_MS = 5 };

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int gw__store_open_file(const char *rest, void **engine, struct gw__error *error)
{
	if (!*rest)
		return gw__error_set(error, -EINVAL, "file: needs the path of a file");
	*engine = strdup(rest);
	return *engine ? 0 : gw__error_set(error, -ENOMEM, "no memory");
}

static int open_locked(const char *path, int timeout_ms, struct gw__error *error)
{
	struct stat st;
	int64_t end = now_ms() + timeout_ms;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return gw__error_errno(error, errno, "cannot open %s", path);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return gw__error_set(error, -EINVAL, "%s is no file", path);
	}
	while (flock(fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK || now_ms() >= end) {
			int err = errno == EWOULDBLOCK ? ETIMEDOUT : errno;
			close(fd);
			return gw__error_errno(error, err, "cannot lock %s", path);
		}
		nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
	}
	return fd;
}

static int read_text(int fd, const char *path, char *text, struct gw__error *error)
{
	ssize_t n = pread(fd, text, GW__STORE_TEXT_BYTES, 0);
	if (n < 0)
		return gw__error_errno(error, errno, "cannot read %s", path);
	if (n == GW__STORE_TEXT_BYTES)
		return gw__error_set(error, -EPROTO, "%s has more than %d bytes: it is not a lease", path, GW__STORE_TEXT_BYTES - 1);
	text[n] = 0;
	text[strcspn(text, "\n")] = 0;
	return 0;
}

static int get(void *engine, int timeout_ms, char *text, struct gw__error *error)
{
	int fd = open_locked(engine, timeout_ms, error);
	if (fd < 0)
		return fd;
	int r = read_text(fd, engine, text, error);
	close(fd);
	return r;
}

/* Of a write that fails in the middle nobody knows what is stored; a text this short is written whole or not at all. */
static int write_text(int fd, const char *path, const char *text, struct gw__error *error)
{
	char line[GW__STORE_TEXT_BYTES];
	size_t n = strlen(text);
	if (n + 1 >= sizeof line)
		return gw__error_set(error, -EINVAL, "the text for %s is too long", path);
	memcpy(line, text, n);
	line[n++] = '\n';
	if (pwrite(fd, line, n, 0) != (ssize_t)n || ftruncate(fd, (off_t)n))
		return gw__error_errno(error, errno ? errno : EIO, "cannot write %s", path);
	return 0;
}

static int swap(void *engine, int timeout_ms, const char *from, const char *to, char *found, struct gw__error *error)
{
	int fd = open_locked(engine, timeout_ms, error);
	if (fd < 0)
		return fd;
	int r = read_text(fd, engine, found, error);
	if (!r)
		r = strcmp(found, from) ? GW__STORE_REFUSED : write_text(fd, engine, to, error);
	close(fd);
	return r;
}

const struct gw__store_ops gw__store_file_ops = {get, swap, free};
