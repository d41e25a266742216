/* SPDX-License-Identifier: MIT */
/* Finding and judging the place of a new image; see target.h. */
#include "image/target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { LINKS_MAX = 40 }; /* as the kernel's own limit */

/* The folder part of a path; "." for a bare name. */
static int folder_of(const char *path, char folder[PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 1;
	if (n == 0)
		n = 1; /* the root */
	if (n >= PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(folder, slash ? path : ".", n);
	folder[n] = 0;
	return 0;
}

/* Replaces `path` by what the link there says. */
static int step_through_link(char path[PATH_MAX])
{
	char to[PATH_MAX], folder[PATH_MAX], joined[2 * PATH_MAX];
	ssize_t n = readlink(path, to, sizeof to);
	if (n < 0)
		return -errno;
	if (n == (ssize_t)sizeof to || folder_of(path, folder))
		return -ENAMETOOLONG;
	to[n] = 0;
	if (to[0] == '/')
		snprintf(joined, sizeof joined, "%s", to);
	else
		snprintf(joined, sizeof joined, "%s/%s", folder, to);
	if (strlen(joined) >= PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(path, joined, strlen(joined) + 1);
	return 0;
}

/* Follows links, also one that points at nothing yet. 0 with `*st`, or with st_mode 0 when nothing is there.
 */
static int follow_links(struct gw__target *t, struct stat *st, struct gw__why *why)
{
	for (int i = 0; i < LINKS_MAX; i++) {
		memset(st, 0, sizeof *st);
		if (lstat(t->path, st)) {
			if (errno == ENOENT)
				return 0;
			return gw__why_errno(why, errno, "cannot look at %s", t->path);
		}
		if (!S_ISLNK(st->st_mode))
			return 0;
		int r = step_through_link(t->path);
		if (r)
			return gw__why_errno(why, -r, "cannot follow the link %s", t->path);
	}
	return gw__why_errno(why, ELOOP, "cannot follow the link %s", t->path);
}

static const char *kind_of(mode_t mode)
{
	if (S_ISBLK(mode))
		return "a block device";
	if (S_ISCHR(mode))
		return "a character device";
	if (S_ISFIFO(mode))
		return "a pipe";
	return "a socket";
}

static int check_kind(const struct gw__target *t, const struct stat *st, struct gw__why *why)
{
	size_t n = strlen(t->path);
	if (S_ISDIR(st->st_mode) || n == 0 || t->path[n - 1] == '/')
		return gw__why_set(why, -EISDIR, "%s is a folder, expected the name of a file", n ? t->path : "\"\"");
	if (st->st_mode == 0 || S_ISREG(st->st_mode))
		return 0;
	return gw__why_set(why, -EINVAL, "%s is %s; an image replaces its target when it is whole, which needs a regular file", t->path,
		kind_of(st->st_mode));
}

static int open_folder(struct gw__target *t, struct gw__why *why)
{
	char folder[PATH_MAX];
	folder_of(t->path, folder);
	const char *slash = strrchr(t->path, '/');
	const char *name = slash ? slash + 1 : t->path;
	if (strlen(name) > NAME_MAX)
		return gw__why_errno(why, ENAMETOOLONG, "cannot create %s", t->path);
	memcpy(t->name, name, strlen(name) + 1);
	t->dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dir_fd < 0 && errno == ENOENT)
		return gw__why_set(why, -ENOENT, "the folder %s does not exist, so %s cannot be created", folder, t->path);
	if (t->dir_fd < 0)
		return gw__why_errno(why, errno, "cannot open the folder %s", folder);
	if (faccessat(t->dir_fd, ".", W_OK | X_OK, AT_EACCESS))
		return gw__why_errno(why, errno, "the folder %s is not writable, so %s cannot be created", folder, t->path);
	return 0;
}

/* In a sticky folder (/tmp) only the owner of a file, or of the folder, may replace it. */
static int check_sticky(const struct gw__target *t, const struct stat *st, struct gw__why *why)
{
	struct stat dir;
	uid_t me = geteuid();
	if (fstat(t->dir_fd, &dir) || !(dir.st_mode & S_ISVTX))
		return 0;
	if (me == 0 || me == st->st_uid || me == dir.st_uid)
		return 0;
	return gw__why_set(why, -EPERM, "%s belongs to user %u and its folder is sticky, so user %u cannot replace it", t->path,
		(unsigned)st->st_uid, (unsigned)me);
}

int gw__target_find(const char *path, struct gw__target *t, struct gw__why *why)
{
	struct stat st;
	memset(t, 0, sizeof *t);
	t->dir_fd = -1;
	if (strlen(path) >= sizeof t->path)
		return gw__why_errno(why, ENAMETOOLONG, "cannot create an image at a path of %zu bytes", strlen(path));
	memcpy(t->path, path, strlen(path) + 1);
	int r = follow_links(t, &st, why);
	if (!r)
		r = check_kind(t, &st, why);
	if (!r)
		r = open_folder(t, why);
	if (r || st.st_mode == 0)
		return r;
	t->exists = true;
	if (faccessat(t->dir_fd, t->name, W_OK, AT_EACCESS))
		return gw__why_errno(why, errno, "%s exists and may not be written", t->path);
	return check_sticky(t, &st, why);
}

void gw__target_fini(struct gw__target *t)
{
	if (t->dir_fd >= 0)
		close(t->dir_fd);
	t->dir_fd = -1;
}

static bool keep_access_list(const struct gw__target *t, int fd)
{
	static const char attr[] = "system.posix_acl_access";
	char list[4096];
	ssize_t n = lgetxattr(t->path, attr, list, sizeof list);
	if (n < 0)
		return errno == ENODATA || errno == EOPNOTSUPP; /* there is none to keep */
	return fsetxattr(fd, attr, list, (size_t)n, 0) == 0;
}

void gw__target_keep_rights(const struct gw__target *t, int fd)
{
	struct stat st;
	if (fstatat(t->dir_fd, t->name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return; /* nothing to replace: 0600 stays */
	mode_t mode = st.st_mode & 0777;
	bool same_group = fchown(fd, st.st_uid, st.st_gid) == 0 || fchown(fd, (uid_t)-1, st.st_gid) == 0;
	if (!keep_access_list(t, fd) || !same_group)
		mode = (mode & ~070u) | (mode & 07u) << 3;
	if (fchmod(fd, mode))
		return; /* stays as private as it was made */
}
