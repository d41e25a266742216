/* SPDX-License-Identifier: MIT */
/* Finding and judging the place of a new image; see destination_path.h. */
#include "image/file/destination_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/owner.h"

enum { LINKS_MAX = 40 }; /* as the kernel's own limit */

/* Replaces `path` by what the link there says. */
static int step_through_link(char path[PATH_MAX])
{
	char to[PATH_MAX], folder[PATH_MAX], joined[2 * PATH_MAX];
	ssize_t n = readlink(path, to, sizeof to);
	if (n < 0)
		return -errno;
	if (n == (ssize_t)sizeof to || !gw__path_folder(path, folder, sizeof folder))
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

bool gw__path_is_foreign(const char *path, const struct stat *st)
{
	char folder[PATH_MAX];
	struct stat dir;
	if (!gw__path_folder(path, folder, sizeof folder) || stat(folder, &dir))
		return true;
	return S_ISLNK(st->st_mode) ? gw__link_is_foreign(geteuid(), GW__OWNED(*st), GW__OWNED(dir))
				    : gw__file_is_foreign(geteuid(), GW__OWNED(*st), GW__OWNED(dir));
}

static int check_link(const char *path, const struct stat *st, struct gw__error *error)
{
	if (!gw__path_is_foreign(path, st))
		return 0;
	return gw__error_set(error, -EPERM,
		"%s is a link of user %u in a folder where others may write, so it is not followed; give the path of the file itself", path,
		(unsigned)st->st_uid);
}

/* Follows links, also one that points at nothing yet. 0 with `*st`, or with st_mode 0 when nothing is there.
 */
static int follow_links(struct gw__destination_path *t, struct stat *st, struct gw__error *error)
{
	for (int i = 0; i < LINKS_MAX; i++) {
		memset(st, 0, sizeof *st);
		if (lstat(t->path, st)) {
			if (errno == ENOENT)
				return 0;
			return gw__error_errno(error, errno, "cannot look at %s", t->path);
		}
		if (!S_ISLNK(st->st_mode))
			return 0;
		int r = check_link(t->path, st, error);
		if (r)
			return r;
		r = step_through_link(t->path);
		if (r)
			return gw__error_errno(error, -r, "cannot follow the link %s", t->path);
	}
	return gw__error_errno(error, ELOOP, "cannot follow the link %s", t->path);
}

static const char *kind_of(mode_t mode)
{
	if (S_ISCHR(mode))
		return "a character device";
	if (S_ISFIFO(mode))
		return "a pipe";
	return "a socket";
}

static int check_kind(const struct gw__destination_path *t, const struct stat *st, struct gw__error *error)
{
	size_t n = strlen(t->path);
	if (S_ISDIR(st->st_mode) || n == 0 || t->path[n - 1] == '/')
		return gw__error_set(error, -EISDIR, "%s is a folder, expected the name of a file", n ? t->path : "\"\"");
	if (st->st_mode == 0 || S_ISREG(st->st_mode))
		return 0;
	if (S_ISBLK(st->st_mode))
		return gw__error_set(error, -EINVAL,
			"%s is a block device; what stands there cannot be kept until the new image is whole. Write to a file, then copy it "
			"there (dd conv=fsync); images are read from block devices",
			t->path);
	return gw__error_set(error, -EINVAL, "%s is %s; an image replaces its target when it is whole, which needs a regular file", t->path,
		kind_of(st->st_mode));
}

static int open_folder(struct gw__destination_path *t, struct gw__error *error)
{
	char folder[PATH_MAX];
	if (!gw__path_folder(t->path, folder, sizeof folder))
		return gw__error_errno(error, ENAMETOOLONG, "cannot create %s", t->path);
	const char *slash = strrchr(t->path, '/');
	const char *name = slash ? slash + 1 : t->path;
	if (strlen(name) > NAME_MAX)
		return gw__error_errno(error, ENAMETOOLONG, "cannot create %s", t->path);
	memcpy(t->name, name, strlen(name) + 1);
	t->dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dir_fd < 0 && errno == ENOENT)
		return gw__error_set(error, -ENOENT, "the folder %s does not exist, so %s cannot be created", folder, t->path);
	if (t->dir_fd < 0)
		return gw__error_errno(error, errno, "cannot open the folder %s", folder);
	if (faccessat(t->dir_fd, ".", W_OK | X_OK, AT_EACCESS))
		return gw__error_errno(error, errno, "the folder %s is not writable, so %s cannot be created", folder, t->path);
	return 0;
}

/* In a sticky folder (/tmp) only the owner of a file, or of the folder, may replace it. */
static int check_sticky(const struct gw__destination_path *t, const struct stat *st, struct gw__error *error)
{
	struct stat dir;
	uid_t me = geteuid();
	if (fstat(t->dir_fd, &dir) || !(dir.st_mode & S_ISVTX))
		return 0;
	if (me == 0 || me == st->st_uid || me == dir.st_uid)
		return 0;
	return gw__error_set(error, -EPERM, "%s belongs to user %u and its folder is sticky, so user %u cannot replace it", t->path,
		(unsigned)st->st_uid, (unsigned)me);
}

int gw__destination_path_find(const char *path, struct gw__destination_path *t, struct gw__error *error)
{
	struct stat st;
	memset(t, 0, sizeof *t);
	t->dir_fd = -1;
	if (strlen(path) >= sizeof t->path)
		return gw__error_errno(error, ENAMETOOLONG, "cannot create an image at a path of %zu bytes", strlen(path));
	memcpy(t->path, path, strlen(path) + 1);
	int r = follow_links(t, &st, error);
	if (!r)
		r = check_kind(t, &st, error);
	if (!r)
		r = open_folder(t, error);
	if (r || st.st_mode == 0)
		return r;
	t->exists = true;
	if (faccessat(t->dir_fd, t->name, W_OK, AT_EACCESS))
		return gw__error_errno(error, errno, "%s exists and may not be written", t->path);
	return check_sticky(t, &st, error);
}

void gw__destination_path_fini(struct gw__destination_path *t)
{
	if (t->dir_fd >= 0)
		close(t->dir_fd);
	t->dir_fd = -1;
}

/* Through the open file: a path may name another one by now. */
static bool keep_access_list(int from, int fd)
{
	static const char attr[] = "system.posix_acl_access";
	char list[4096], path[32];
	snprintf(path, sizeof path, "/proc/self/fd/%d", from);
	ssize_t n = getxattr(path, attr, list, sizeof list);
	if (n < 0)
		return errno == ENODATA || errno == EOPNOTSUPP; /* there is none to keep */
	return fsetxattr(fd, attr, list, (size_t)n, 0) == 0;
}

static void copy_rights(int from, const struct stat *st, int fd)
{
	mode_t mode = st->st_mode & 0777;
	bool same_group = fchown(fd, st->st_uid, st->st_gid) == 0 || fchown(fd, (uid_t)-1, st->st_gid) == 0;
	if (!keep_access_list(from, fd) || !same_group)
		mode = (mode & ~070u) | (mode & 07u) << 3;
	if (fchmod(fd, mode))
		return; /* stays as private as it was made */
}

void gw__destination_path_keep_rights(const struct gw__destination_path *t, int fd)
{
	struct stat st, dir;
	int from = openat(t->dir_fd, t->name, O_PATH | O_CLOEXEC | O_NOFOLLOW);
	if (from < 0)
		return; /* nothing to replace: 0600 stays */
	if (!fstat(from, &st) && S_ISREG(st.st_mode) && !fstat(t->dir_fd, &dir) &&
		!gw__file_is_foreign(geteuid(), GW__OWNED(st), GW__OWNED(dir)))
		copy_rights(from, &st, fd);
	close(from);
}

int gw__destination_path_partial_names(const struct gw__destination_path *t, char partial[NAME_MAX + 1], char state[NAME_MAX + 1],
	struct gw__error *error)
{
	static const char PARTIAL[] = ".partial", STATE[] = ".partial.state";
	if (strlen(t->name) + sizeof STATE > NAME_MAX + 1)
		return gw__error_set(error, -ENAMETOOLONG, "the name %s leaves no room for \"%s\" after it", t->name, STATE);
	snprintf(partial, NAME_MAX + 1, "%.*s%s", (int)(NAME_MAX - sizeof PARTIAL), t->name, PARTIAL);
	snprintf(state, NAME_MAX + 1, "%.*s%s", (int)(NAME_MAX - sizeof STATE), t->name, STATE);
	return 0;
}
