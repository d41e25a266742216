/* SPDX-License-Identifier: MIT */
/*
 * Channels over files: a plain stream from (or to) an offset, with QEMU's treatment of what is there already
 * (docs/spec/mapped-ram.md 5). Whole-or-nothing files are the image room's work, not ours. Files never make
 * anybody wait, so the idle limit has no meaning here. Called by the one thread that owns the channel.
 */
#include "io/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/owner.h"

static ssize_t read_file(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	ssize_t got;
	do
		got = readv(c->fd, iov, n);
	while (got < 0 && errno == EINTR);
	return got < 0 ? gw__error_errno(error, errno, "%s: reading", c->name) : got;
}

static ssize_t write_file(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	ssize_t put;
	do
		put = writev(c->fd, iov, n);
	while (put < 0 && errno == EINTR);
	return put < 0 ? gw__error_errno(error, errno, "%s: writing", c->name) : put;
}

static int sync_file(struct gw__chan *c, struct gw__error *error) { return gw__fd_sync(c->fd, c->name, error); }

static int close_file(struct gw__chan *c, struct gw__error *error)
{
	int r = 0;
	if (close(c->fd) < 0 && errno != EINTR) /* network file systems report late */
		r = gw__error_errno(error, errno, "%s: closing", c->name);
	free(c);
	return r;
}

static ssize_t refuse_read(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	return gw__error_set(error, -EBADF, "%s: open for writing only; a file cannot answer", c->name);
}

static ssize_t refuse_write(struct gw__chan *c, const struct iovec *iov, int n, struct gw__error *error)
{
	return gw__error_set(error, -EBADF, "%s: open for reading only", c->name);
}

static int nothing_to_end(struct gw__chan *c, struct gw__error *error) { return 0; }

static const struct gw__chan_ops out_ops = {.readv = refuse_read, .writev = write_file, .end_writes = sync_file, .close = close_file};
static const struct gw__chan_ops in_ops = {.readv = read_file, .writev = refuse_write, .end_writes = nothing_to_end, .close = close_file};

/* A FIFO would wait for ever and a folder fails later with a riddle. Devices are fine: disks, /dev/null. */
static int check_type(const struct stat *st, const struct gw__uri *uri, struct gw__error *error)
{
	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode) || S_ISCHR(st->st_mode))
		return 0;
	if (S_ISDIR(st->st_mode))
		return gw__error_set(error, -EISDIR, "%.200s: a folder; expected a file", uri->text);
	return gw__error_set(error, -EINVAL, "%.200s: not a file; for a FIFO open it and use fd:N, or use exec:", uri->text);
}

/* Bytes before the offset are somebody's header and stay; what is after it is of an earlier stream and goes.
 */
static int prepare(int fd, const struct gw__uri *uri, bool out, struct gw__error *error)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return gw__error_errno(error, errno, "%.200s: cannot look at it", uri->text);
	int r = check_type(&st, uri, error);
	if (r)
		return r;
	if (out && S_ISREG(st.st_mode) && ftruncate(fd, (off_t)uri->offset) < 0)
		return gw__error_errno(error, errno, "%.200s: cannot cut it to its first %llu bytes", uri->text,
			(unsigned long long)uri->offset);
	if (!out && S_ISREG(st.st_mode) && (uint64_t)st.st_size < uri->offset)
		return gw__error_set(error, -EINVAL, "%.200s: the file ends after %lld bytes, before the offset", uri->text,
			(long long)st.st_size);
	if (uri->offset && lseek(fd, (off_t)uri->offset, SEEK_SET) < 0)
		return gw__error_errno(error, errno, "%.200s: cannot go to the offset", uri->text);
	return 0;
}

bool gw__io_is_foreign(const char *path, const struct stat *st)
{
	char folder[GW__URI_TEXT_MAX];
	struct stat dir;
	if (!gw__path_folder(path, folder, sizeof folder) || stat(folder, &dir))
		return true;
	return S_ISLNK(st->st_mode) ? gw__link_is_foreign(geteuid(), GW__OWNED(*st), GW__OWNED(dir))
				    : gw__file_is_foreign(geteuid(), GW__OWNED(*st), GW__OWNED(dir));
}

/* What is there already, if it is safe to put a guest's memory into it. 0 with the descriptor, or -1 and errno; or a sentence. */
static int open_existing(const struct gw__uri *uri, int flags, int *fd, struct gw__error *error)
{
	struct stat st;
	bool link = lstat(uri->target, &st) == 0 && S_ISLNK(st.st_mode);
	if (link && gw__io_is_foreign(uri->target, &st))
		return gw__error_set(error, -EPERM,
			"%.200s: a link of user %u in a folder where others may write, so it is not followed; give the path of the file itself",
			uri->text, (unsigned)st.st_uid);
	*fd = open(uri->target, flags | (link ? O_CREAT : O_NOFOLLOW), 0600);
	if (*fd < 0 || link || fstat(*fd, &st) || !S_ISREG(st.st_mode) || !gw__io_is_foreign(uri->target, &st))
		return 0;
	close(*fd);
	return gw__error_set(error, -EPERM,
		"%.200s: a file of user %u in a folder where others may write, who would get the guest's memory; remove it, or choose another folder",
		uri->text, (unsigned)st.st_uid);
}

static int open_fd(const struct gw__uri *uri, bool out, struct gw__error *error)
{
	/* Not blocking, so that a FIFO comes back to be refused; it means nothing to files. */
	int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (out ? O_WRONLY : O_RDONLY), r = 0;
	int fd = open(uri->target, flags | (out ? O_CREAT | O_EXCL : 0), 0600);
	if (out && fd < 0 && errno == EEXIST)
		r = open_existing(uri, flags, &fd, error);
	if (r)
		return r;
	if (fd < 0 && errno == ENXIO)
		return gw__error_set(error, -ENXIO, "%.200s: not a file; for a FIFO open it and use fd:N, or use exec:", uri->text);
	if (fd < 0)
		return gw__error_errno(error, errno, out ? "%.200s: cannot create it" : "%.200s: cannot open it", uri->text);
	r = prepare(fd, uri, out, error);
	if (r) {
		close(fd);
		return r;
	}
	return fd;
}

int gw__file_open(const struct gw__uri *uri, bool out, const struct gw__io_opts *o, struct gw__chan **c, struct gw__error *error)
{
	struct gw__chan *made = calloc(1, sizeof *made);
	if (!made)
		return gw__error_set(error, -ENOMEM, "%.200s: no memory for a channel", uri->text);
	int fd = open_fd(uri, out, error);
	if (fd < 0) {
		free(made);
		return fd;
	}
	gw__chan_init(made, out ? &out_ops : &in_ops, uri->text, fd, o);
	*c = made;
	return 0;
}
