/* SPDX-License-Identifier: MIT */
/* Who runs a protected guest, proved by a lock; see owner_lock.h. */
#include "qemu/owner_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qemu/qemu_process.h"

static const char FILE_NAME[] = "owner.lock", NEW_NAME[] = "owner.lock.new";
/* In the place of a descriptor's name: made for a failover on an operator's word. Free, it proves nothing; nor does an empty file, that of one that was killed. */
static const char BY_WORD[] = "by-word";

static int path_of(char path[PATH_MAX], const char *folder, const char *file, struct gw__error *error)
{
	int n = snprintf(path, PATH_MAX, "%s/%s", folder, file);
	return n >= 0 && n < PATH_MAX ? 0 : gw__error_set(error, -ENAMETOOLONG, "%s/%s: the name is too long", folder, file);
}

/* The process, and the name of the descriptor there ("-": not known): for people, for a successor of ours, and to tell a QEMU's lock from one made on a word. */
static void write_owner(int fd, pid_t pid, const char *name)
{
	char text[96];
	int n = snprintf(text, sizeof text, "%d %s\n", (int)pid, *name ? name : "-");
	if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n)
		return; /* the lock is what counts */
}

static pid_t read_owner(int fd, char name[64])
{
	char text[96] = "";
	int pid = 0;
	*name = 0;
	if (pread(fd, text, sizeof text - 1, 0) <= 0 || sscanf(text, "%d %63[a-z0-9-]", &pid, name) < 1)
		return 0;
	return pid > 0 ? pid : 0;
}

static int open_lock(const char *path, int flags, struct gw__error *error)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : gw__error_errno(error, errno, "cannot open %s", path);
	if (!fstat(fd, &st) && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return gw__error_set(error, -EINVAL, "%s is not a file", path);
}

/* --- for whoever protects --- */

/* An earlier protection may have left `file`: to this QEMU, which has it under `name` then, or to another one. */
static int find_earlier(const struct gw__owner_lock *l, const char *file, char name[64], struct gw__error *error)
{
	char path[PATH_MAX];
	int r = path_of(path, l->folder, file, error);
	int fd = r ? r : open_lock(path, 0, error);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	pid_t owner = read_owner(fd, name);
	bool held = flock(fd, LOCK_EX | LOCK_NB) != 0;
	close(fd);
	if (!held || *name == '-' || !strcmp(name, BY_WORD)) /* not ours to close */
		*name = 0;
	return held && owner != l->qemu
		       ? gw__error_set(error, -EBUSY, "process %d runs a guest of this name: it holds %s", (int)owner, path)
		       : 0;
}

static int make_new(const char *path, struct gw__error *error)
{
	unlink(path); /* of a QEMU that is dead */
	int fd = open_lock(path, O_CREAT | O_EXCL, error);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB)) {
		int err = errno;
		close(fd);
		return gw__error_errno(error, err, "cannot lock %s", path);
	}
	return fd == -ENOENT ? gw__error_errno(error, ENOENT, "cannot make %s", path) : fd;
}

int gw__owner_lock_hand(struct gw__owner_lock *l, struct gw__qmp *q, struct gw__error *error)
{
	char path[PATH_MAX], name[64];
	if (!l->folder[0])
		return 0;
	int r = path_of(path, l->folder, NEW_NAME, error);
	int fd = r ? r : make_new(path, error);
	if (fd < 0)
		return fd;
	/* Never a name that was used before: QEMU would close what has it, and so free a lock that still tells that it lives. */
	snprintf(name, sizeof name, "godwit-owner-%d-%u", (int)getpid(), ++l->handed);
	write_owner(fd, l->qemu, name);
	r = gw__qmp_call_fd(q, "getfd", json_pack("{s:s}", "fdname", name), fd, NULL, error);
	close(fd); /* ours would hold the lock as well */
	if (r)
		unlink(path);
	else
		snprintf(l->pending, sizeof l->pending, "%s", name);
	return r;
}

static void close_in_qemu(struct gw__qmp *q, char name[64])
{
	if (*name)
		gw__qmp_call(q, "closefd", json_pack("{s:s}", "fdname", name), NULL, NULL);
	*name = 0;
}

int gw__owner_lock_place(struct gw__owner_lock *l, struct gw__qmp *q, struct gw__error *error)
{
	char from[PATH_MAX], to[PATH_MAX];
	if (!l->pending[0])
		return 0;
	int r = path_of(from, l->folder, NEW_NAME, error);
	if (!r)
		r = path_of(to, l->folder, FILE_NAME, error);
	if (!r && rename(from, to))
		r = gw__error_errno(error, errno, "cannot rename %s to %s", from, to);
	if (r)
		return r;
	close_in_qemu(q, l->in_place);
	snprintf(l->in_place, sizeof l->in_place, "%s", l->pending);
	l->pending[0] = 0;
	return 0;
}

void gw__owner_lock_drop(struct gw__owner_lock *l, struct gw__qmp *q)
{
	char path[PATH_MAX];
	if (!l->pending[0])
		return;
	if (!path_of(path, l->folder, NEW_NAME, NULL))
		unlink(path);
	close_in_qemu(q, l->pending);
}

int gw__owner_lock_open(struct gw__owner_lock *l, const char *dir, const char *name, struct gw__qmp *q, struct gw__error *error)
{
	*l = (struct gw__owner_lock){0};
	int r = gw__qemu_process(q, &l->qemu, error);
	if (!r)
		r = path_of(l->folder, dir, name, error);
	if (!r && mkdir(l->folder, 0700) && errno != EEXIST)
		r = gw__error_errno(error, errno, "cannot make the folder %s", l->folder);
	if (!r)
		r = find_earlier(l, FILE_NAME, l->in_place, error);
	if (!r)
		r = find_earlier(l, NEW_NAME, l->pending, error);
	if (r)
		*l = (struct gw__owner_lock){0};
	gw__owner_lock_drop(l, q); /* of an attempt that was killed */
	return r;
}

bool gw__owner_lock_has_standby(const struct gw__owner_lock *l)
{
	char path[PATH_MAX];
	return !l->folder[0] || (!path_of(path, l->folder, "control", NULL) && !access(path, F_OK));
}

static void remove_file(const struct gw__owner_lock *l)
{
	char path[PATH_MAX], name[64];
	int fd = path_of(path, l->folder, FILE_NAME, NULL) ? -1 : open_lock(path, 0, NULL);
	if (fd < 0)
		return;
	if (read_owner(fd, name) == l->qemu && !strcmp(name, l->in_place))
		unlink(path);
	close(fd);
}

void gw__owner_lock_remove(struct gw__owner_lock *l, struct gw__qmp *q)
{
	gw__owner_lock_drop(l, q);
	if (!l->in_place[0])
		return;
	remove_file(l);
	close_in_qemu(q, l->in_place);
}

/* --- for whoever fails over --- */

void gw__owner_lock_name_owner(int fd, pid_t qemu) { write_owner(fd, qemu, ""); }

bool gw__owner_lock_is_current(const char *folder, int fd)
{
	char path[PATH_MAX];
	struct stat ours, now;
	return !path_of(path, folder, FILE_NAME, NULL) && !fstat(fd, &ours) && !lstat(path, &now) && now.st_ino == ours.st_ino &&
	       now.st_dev == ours.st_dev;
}

int gw__owner_lock_look(const char *folder, pid_t *holder, struct gw__error *error)
{
	char path[PATH_MAX], name[64];
	*holder = 0;
	int r = path_of(path, folder, FILE_NAME, error);
	int fd = r ? r : open_lock(path, 0, error);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	bool held = flock(fd, LOCK_EX | LOCK_NB) != 0;
	*holder = held ? read_owner(fd, name) : 0;
	close(fd);
	return held ? -EBUSY : 0;
}

static bool proves(int fd)
{
	char name[64];
	read_owner(fd, name);
	return *name && strcmp(name, BY_WORD) != 0;
}

static int take(const char *folder, int fd, bool by_word, pid_t *holder, struct gw__error *error)
{
	char name[64];
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		int err = errno;
		*holder = read_owner(fd, name);
		return err == EWOULDBLOCK ? -EBUSY : gw__error_errno(error, err, "cannot lock %s/%s", folder, FILE_NAME);
	}
	if (!gw__owner_lock_is_current(folder, fd)) /* it went, or was replaced, in between */
		return -ENOENT;
	bool proved = proves(fd);
	if (!proved && !by_word)
		return -ENOENT;
	write_owner(fd, 0, proved ? "" : BY_WORD);
	fcntl(fd, F_SETFD, 0);
	return 0;
}

int gw__owner_lock_take(const char *folder, bool by_word, int *fd, pid_t *holder, struct gw__error *error)
{
	char path[PATH_MAX];
	*holder = 0;
	int r = path_of(path, folder, FILE_NAME, error);
	int got = r ? r : open_lock(path, by_word ? O_CREAT : 0, error);
	if (got < 0)
		return got;
	r = take(folder, got, by_word, holder, error);
	if (r)
		close(got);
	else
		*fd = got;
	return r;
}
