/* SPDX-License-Identifier: MIT */
/* The unnamed or partial file and its way to its name; see outfile.h. */
#include "image/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "image/fileio.h"
#include "image/partial.h"

enum { NAME_TRIES = 100, NAME_EXTRA = sizeof "..01234567.partial" - 1, COPY_ROOM = 65536 };

typedef char fd_path[32];

static void proc_path(int fd, fd_path path) { snprintf(path, sizeof(fd_path), "/proc/self/fd/%d", fd); }

static void make_partial_name(struct gw__outfile *f, char name[NAME_MAX + 1])
{
	uint32_t random = 0;
	if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
		random = (uint32_t)getpid() * 2654435761u; /* a name that is taken is tried again anyway */
	static uint32_t step;
	random += __atomic_fetch_add(&step, 1, __ATOMIC_RELAXED);
	snprintf(name, NAME_MAX + 1, ".%.*s.%08x.partial", NAME_MAX - NAME_EXTRA, f->target.name, random);
}

/* An unnamed file, if it will be possible to name it later. False: not here. */
static bool open_unnamed(struct gw__outfile *f)
{
	f->fd = openat(f->target.dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
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

static int open_partial(struct gw__outfile *f, struct gw__why *why)
{
	for (int i = 0; i < NAME_TRIES; i++) {
		char name[NAME_MAX + 1];
		make_partial_name(f, name);
		f->fd = openat(f->target.dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (f->fd >= 0) {
			memcpy(f->partial, name, sizeof name);
			return 0;
		}
		if (errno != EEXIST)
			break;
	}
	return gw__why_errno(why, errno, "cannot create a file beside %s", f->target.path);
}

int gw__outfile_open(const char *path, bool visible, struct gw__outfile *f, struct gw__why *why)
{
	memset(f, 0, sizeof *f);
	f->fd = -1;
	int r = gw__target_find(path, &f->target, why);
	if (r)
		return r;
	if (!visible && open_unnamed(f))
		return 0;
	return open_partial(f, why);
}

static int link_unnamed(const struct gw__outfile *f, const char *name)
{
	fd_path path;
	proc_path(f->fd, path);
	if (linkat(AT_FDCWD, path, f->target.dir_fd, name, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	if (errno == EEXIST || linkat(f->fd, "", f->target.dir_fd, name, AT_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

/*
 * Another name for what has one, and nothing is replaced. NFS, 9p and FUSE cannot promise that of a rename, and of a link only where they
 * have links; where nothing can promise it, a look has to do.
 */
static int change_name(const struct gw__outfile *f, const char *name)
{
	int dir = f->target.dir_fd;
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

int gw__outfile_name_partial(struct gw__outfile *f, const char *name, struct gw__why *why)
{
	int r = f->partial[0] ? change_name(f, name) : link_unnamed(f, name);
	if (r == -EEXIST)
		return gw__why_set(why, r, "%s.partial is there already; move it away if nobody needs it", f->target.path);
	if (r)
		return gw__why_errno(why, -r, "cannot give a partly received image the name %s.partial", f->target.path);
	snprintf(f->partial, sizeof f->partial, "%s", name);
	return 0;
}

int gw__outfile_find(const char *path, struct gw__outfile *f, struct gw__why *why)
{
	f->fd = -1;
	return gw__target_find(path, &f->target, why);
}

int gw__outfile_reopen_partial(struct gw__outfile *f, struct gw__why *why)
{
	char name[NAME_MAX + 1], state[NAME_MAX + 1];
	int r = gw__partial_names(&f->target, name, state, why);
	if (r)
		return r;
	f->fd = openat(f->target.dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (f->fd < 0)
		return gw__why_errno(why, errno, "cannot open %s.partial", f->target.path);
	snprintf(f->partial, sizeof f->partial, "%s", name);
	return 0;
}

int gw__outfile_open_direct(const struct gw__outfile *f, int *fd, struct gw__why *why)
{
	fd_path path;
	proc_path(f->fd, path);
	if (f->partial[0])
		*fd = openat(f->target.dir_fd, f->partial, O_RDWR | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
	else
		*fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (*fd >= 0)
		return 0;
	if (errno == EINVAL)
		return gw__why_set(why, -EINVAL, "the file system of %s has no direct I/O; leave --direct-io out", f->target.path);
	return gw__why_errno(why, errno, "cannot open %s for direct I/O; leave --direct-io out", f->target.path);
}

int gw__outfile_open_witness(const struct gw__outfile *f)
{
	return openat(f->target.dir_fd, f->partial, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

static int copy_head(struct gw__outfile *f, int from, uint64_t n, struct gw__why *why)
{
	const char *path = f->target.path;
	struct stat st;
	uint8_t buf[COPY_ROOM];
	if (fstat(from, &st))
		return gw__why_errno(why, errno, "cannot look at %s", path);
	n = gw__min(n, (uint64_t)st.st_size);
	for (uint64_t at = 0; at < n; at += sizeof buf) {
		size_t step = gw__min(sizeof buf, n - at);
		int r = gw__file_read(from, path, at, buf, step, why);
		if (!r)
			r = gw__file_write(f->fd, path, at, buf, step, why);
		if (r)
			return r;
	}
	return 0;
}

int gw__outfile_keep_head(struct gw__outfile *f, uint64_t n, struct gw__why *why)
{
	const struct gw__target *t = &f->target;
	if (n == 0 || !t->exists)
		return 0;
	int from = openat(t->dir_fd, t->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (from < 0)
		return gw__why_errno(why, errno, "cannot read the first %llu bytes of %s, which are to be kept", (unsigned long long)n,
			t->path);
	int r = copy_head(f, from, n, why);
	close(from);
	return r;
}

/* A name of its own beside the target: only from one can a rename replace what is there. */
static int name_beside(struct gw__outfile *f)
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

static int take_the_name(struct gw__outfile *f, struct gw__why *why)
{
	const struct gw__target *t = &f->target;
	int r = 0;
	if (!f->partial[0]) {
		r = link_unnamed(f, t->name);
		f->in_place = r == 0;
		if (r == 0)
			return 0; /* the name was free: nothing to replace, and no moment with two names */
		r = r == -EEXIST ? name_beside(f) : r;
	}
	if (r)
		return gw__why_errno(why, -r, "cannot give the finished image its name %s", t->path);
	if (renameat(t->dir_fd, f->partial, t->dir_fd, t->name))
		return gw__why_errno(why, errno, "cannot rename the finished image to %s", t->path);
	f->partial[0] = 0;
	f->in_place = true;
	return 0;
}

int gw__outfile_sync_folder(const struct gw__outfile *f, struct gw__why *why)
{
	if (fsync(f->target.dir_fd) == 0 || errno == EINVAL) /* a file system without the notion */
		return 0;
	return gw__why_errno(why, errno, "%s is in place, but its folder cannot be made safe on its disk", f->target.path);
}

int gw__outfile_commit(struct gw__outfile *f, bool unsynced, struct gw__why *why)
{
	gw__target_keep_rights(&f->target, f->fd);
	if (!unsynced && fsync(f->fd))
		return gw__why_errno(why, errno, "cannot make %s safe on its disk", f->target.path);
	int r = take_the_name(f, why);
	return r || unsynced ? r : gw__outfile_sync_folder(f, why);
}

void gw__outfile_drop_file(struct gw__outfile *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	if (f->partial[0] && !f->lasting)
		unlinkat(f->target.dir_fd, f->partial, 0);
	f->partial[0] = 0;
}

void gw__outfile_drop(struct gw__outfile *f)
{
	gw__outfile_drop_file(f);
	gw__target_fini(&f->target);
}
