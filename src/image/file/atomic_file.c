/* SPDX-License-Identifier: MIT */
/* The unnamed or partial file and its way to its name; see atomic_file.h. */
#include "image/file/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "image/file/fileio.h"

enum { NAME_TRIES = 100, NAME_EXTRA = sizeof "..01234567.partial" - 1, COPY_ROOM = 65536 };

typedef char fd_path[32];

static void proc_path(int fd, fd_path path) { snprintf(path, sizeof(fd_path), "/proc/self/fd/%d", fd); }

static void make_partial_name(struct gw__atomic_file *f, char name[NAME_MAX + 1])
{
	uint32_t random = 0;
	if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
		random = (uint32_t)getpid() * 2654435761u; /* a name that is taken is tried again anyway */
	static uint32_t step;
	random += __atomic_fetch_add(&step, 1, __ATOMIC_RELAXED);
	snprintf(name, NAME_MAX + 1, ".%.*s.%08x.partial", NAME_MAX - NAME_EXTRA, f->dest.name, random);
}

/* An unnamed file, if it will be possible to name it later. False: not here. */
static bool open_unnamed(struct gw__atomic_file *f)
{
	f->fd = openat(f->dest.dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (f->fd < 0)
		return false;
	fd_path path;
	proc_path(f->fd, path);
	if (access(path, F_OK) == 0)
		return true;
	close(f->fd);
	f->fd = -1;
	return false;
}

static int open_partial(struct gw__atomic_file *f, struct gw__error *error)
{
	for (int i = 0; i < NAME_TRIES; i++) {
		char name[NAME_MAX + 1];
		make_partial_name(f, name);
		f->fd = openat(f->dest.dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (f->fd >= 0) {
			memcpy(f->partial, name, sizeof name);
			return 0;
		}
		if (errno != EEXIST)
			break;
	}
	return gw__error_errno(error, errno, "cannot create a file beside %s", f->dest.path);
}

int gw__atomic_file_open(const char *path, bool visible, struct gw__atomic_file *f, struct gw__error *error)
{
	memset(f, 0, sizeof *f);
	f->fd = -1;
	int r = gw__destination_path_find(path, &f->dest, error);
	if (r)
		return r;
	if (!visible && open_unnamed(f))
		return 0;
	return open_partial(f, error);
}

static int link_unnamed(const struct gw__atomic_file *f, const char *name)
{
	fd_path path;
	proc_path(f->fd, path);
	if (linkat(AT_FDCWD, path, f->dest.dir_fd, name, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	if (errno == EEXIST || linkat(f->fd, "", f->dest.dir_fd, name, AT_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

/*
 * Another name for what has one, and nothing is replaced. NFS, 9p and FUSE cannot promise that of a rename, and of a link only where they
 * have links; where nothing can promise it, a look has to do.
 */
static int change_name(const struct gw__atomic_file *f, const char *name)
{
	int dir = f->dest.dir_fd;
	if (renameat2(dir, f->partial, dir, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
		return -errno;
	if (linkat(dir, f->partial, dir, name, 0) == 0)
		return unlinkat(dir, f->partial, 0) ? -errno : 0;
	if (errno == EEXIST || faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return errno == ENOENT && renameat(dir, f->partial, dir, name) == 0 ? 0 : -errno;
}

int gw__atomic_file_name_partial(struct gw__atomic_file *f, const char *name, struct gw__error *error)
{
	int r = f->partial[0] ? change_name(f, name) : link_unnamed(f, name);
	if (r == -EEXIST)
		return gw__error_set(error, r, "%s.partial is there already; move it away if nobody needs it", f->dest.path);
	if (r)
		return gw__error_errno(error, -r, "cannot give a partly received image the name %s.partial", f->dest.path);
	snprintf(f->partial, sizeof f->partial, "%s", name);
	return 0;
}

int gw__atomic_file_find(const char *path, struct gw__atomic_file *f, struct gw__error *error)
{
	f->fd = -1;
	return gw__destination_path_find(path, &f->dest, error);
}

int gw__atomic_file_reopen_partial(struct gw__atomic_file *f, struct gw__error *error)
{
	char name[NAME_MAX + 1], state[NAME_MAX + 1];
	int r = gw__destination_path_partial_names(&f->dest, name, state, error);
	if (r)
		return r;
	f->fd = openat(f->dest.dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (f->fd < 0)
		return gw__error_errno(error, errno, "cannot open %s.partial", f->dest.path);
	snprintf(f->partial, sizeof f->partial, "%s", name);
	return 0;
}

/* One more descriptor, whether it has a name or not. -1 with errno. */
static int open_once_more(const struct gw__atomic_file *f, int flags)
{
	fd_path path;
	proc_path(f->fd, path);
	if (f->partial[0])
		return openat(f->dest.dir_fd, f->partial, flags | O_CLOEXEC | O_NOFOLLOW);
	return open(path, flags | O_CLOEXEC);
}

static int no_direct_io(const struct gw__atomic_file *f, struct gw__error *error)
{
	if (errno == EINVAL)
		return gw__error_set(error, -EINVAL, "the file system of %s has no direct I/O; leave --direct-io out", f->dest.path);
	return gw__error_errno(error, errno, "cannot open %s for direct I/O; leave --direct-io out", f->dest.path);
}

int gw__atomic_file_open_direct(const struct gw__atomic_file *f, int *fd, struct gw__error *error)
{
	*fd = open_once_more(f, O_RDWR | O_DIRECT);
	return *fd >= 0 ? 0 : no_direct_io(f, error);
}

int gw__atomic_file_open_writer(const struct gw__atomic_file *f, bool direct, int *fd, struct gw__error *error)
{
	*fd = open_once_more(f, direct ? O_WRONLY | O_DIRECT : O_WRONLY);
	if (*fd >= 0)
		return 0;
	return direct ? no_direct_io(f, error) : gw__error_errno(error, errno, "cannot open the new %s for its writer", f->dest.path);
}

int gw__atomic_file_open_witness(const struct gw__atomic_file *f)
{
	return openat(f->dest.dir_fd, f->partial, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

static int copy_head(struct gw__atomic_file *f, int from, uint64_t n, struct gw__error *error)
{
	const char *path = f->dest.path;
	struct stat st;
	uint8_t buf[COPY_ROOM];
	if (fstat(from, &st))
		return gw__error_errno(error, errno, "cannot look at %s", path);
	n = gw__min(n, (uint64_t)st.st_size);
	for (uint64_t at = 0; at < n; at += sizeof buf) {
		size_t step = gw__min(sizeof buf, n - at);
		int r = gw__file_read(from, path, at, buf, step, error);
		if (!r)
			r = gw__file_write(f->fd, path, at, buf, step, error);
		if (r)
			return r;
	}
	return 0;
}

int gw__atomic_file_keep_head(struct gw__atomic_file *f, uint64_t n, struct gw__error *error)
{
	const struct gw__destination_path *t = &f->dest;
	if (n == 0 || !t->exists)
		return 0;
	int from = openat(t->dir_fd, t->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (from < 0)
		return gw__error_errno(error, errno, "cannot read the first %llu bytes of %s, which are to be kept", (unsigned long long)n,
			t->path);
	int r = copy_head(f, from, n, error);
	close(from);
	return r;
}

/* A name of its own beside the target: only from one can a rename replace what is there. */
static int name_beside(struct gw__atomic_file *f)
{
	int r = -EEXIST;
	for (int i = 0; i < NAME_TRIES && r == -EEXIST; i++) {
		char name[NAME_MAX + 1];
		make_partial_name(f, name);
		r = link_unnamed(f, name);
		if (!r)
			memcpy(f->partial, name, sizeof name);
	}
	return r;
}

static int take_the_name(struct gw__atomic_file *f, struct gw__error *error)
{
	const struct gw__destination_path *t = &f->dest;
	int r = 0;
	if (!f->partial[0]) {
		r = link_unnamed(f, t->name);
		f->renamed = r == 0;
		if (r == 0)
			return 0; /* the name was free: nothing to replace, and no moment with two names */
		r = r == -EEXIST ? name_beside(f) : r;
	}
	if (r)
		return gw__error_errno(error, -r, "cannot give the finished image its name %s", t->path);
	if (renameat(t->dir_fd, f->partial, t->dir_fd, t->name))
		return gw__error_errno(error, errno, "cannot rename the finished image to %s", t->path);
	f->partial[0] = 0;
	f->renamed = true;
	return 0;
}

int gw__atomic_file_sync_folder(const struct gw__atomic_file *f, struct gw__error *error)
{
	if (fsync(f->dest.dir_fd) == 0 || errno == EINVAL) /* a file system without the notion */
		return 0;
	return gw__error_errno(error, errno, "%s is in place, but its folder cannot be made safe on its disk", f->dest.path);
}

int gw__atomic_file_commit(struct gw__atomic_file *f, bool unsynced, struct gw__error *error)
{
	gw__destination_path_keep_rights(&f->dest, f->fd);
	if (!unsynced && fsync(f->fd))
		return gw__error_errno(error, errno, "cannot make %s safe on its disk", f->dest.path);
	int r = take_the_name(f, error);
	return r || unsynced ? r : gw__atomic_file_sync_folder(f, error);
}

void gw__atomic_file_close_file(struct gw__atomic_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	if (f->partial[0] && !f->keep_partial)
		unlinkat(f->dest.dir_fd, f->partial, 0);
	f->partial[0] = 0;
}

void gw__atomic_file_drop(struct gw__atomic_file *f)
{
	gw__atomic_file_close_file(f);
	gw__destination_path_fini(&f->dest);
}
