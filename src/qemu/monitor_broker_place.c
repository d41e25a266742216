/* SPDX-License-Identifier: MIT */
/*
 * Where monitor brokers listen: sockets in a folder that only this user can enter, named after the monitor they hold.
 *
 * Whoever could put a socket of his own there would be given, or give us, a QEMU's monitor; so a folder is only used if it is
 * no link, is ours and is closed to everybody else. In /tmp others may have been first: then it is not used.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qemu/monitor_broker_private.h"
#include "qmp/sleep.h"

enum {
	LOCK_S = 20, /* longer than who has it waits for a monitor broker */
	LOCK_POLL_MS = 10,
};

bool gw__monitor_broker_folder(unsigned i, char folder[GW__MONITOR_BROKER_PATH_BYTES])
{
	const char *own = getenv("XDG_RUNTIME_DIR");
	char user[64];
	snprintf(user, sizeof user, "/run/user/%u", geteuid());
	/* The same places for a user's shell and for a service of his, which has no XDG_RUNTIME_DIR. */
	const char *const parents[GW__MONITOR_BROKER_FOLDERS] = {own && own[0] == '/' ? own : "", user, "/run", "/tmp"};
	if (i >= GW__MONITOR_BROKER_FOLDERS)
		return false;
	int n = snprintf(folder, GW__MONITOR_BROKER_PATH_BYTES, "%s/godwit-%u", parents[i], geteuid());
	if (!parents[i][0] || n > GW__MONITOR_BROKER_PATH_BYTES - 32) /* room for a name in the address of a socket */
		folder[0] = 0;
	return true;
}

int gw__monitor_broker_open_folder(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || (!fstat(fd, &st) && st.st_uid == geteuid()))
		return fd;
	close(fd);
	errno = EPERM;
	return -1;
}

int gw__monitor_broker_check_folder(const char *folder, struct gw__error *error)
{
	struct stat st;
	if (!folder[0] || lstat(folder, &st))
		return -ENOENT;
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 077)
		return gw__error_set(error, -EPERM, "%s is not a private folder of this user", folder);
	return 0;
}

int gw__monitor_broker_make_folder(char folder[GW__MONITOR_BROKER_PATH_BYTES], struct gw__error *error)
{
	struct gw__error last = {0};
	for (unsigned i = 0; gw__monitor_broker_folder(i, folder); i++) {
		if (!folder[0] || (mkdir(folder, 0700) && errno != EEXIST))
			continue;
		gw__error_clear(&last);
		if (!gw__monitor_broker_check_folder(folder, &last))
			return 0;
	}
	return gw__error_set(error, -EPERM, "%s", last.code ? last.text : "there is no folder for private sockets");
}

static void name_of(const char *key, char name[32])
{
	uint64_t hash = 14695981039346656037u; /* FNV-1a: names must differ, nobody gains by two that do not */
	for (; *key; key++)
		hash = (hash ^ (unsigned char)*key) * 1099511628211u;
	snprintf(name, 32, "%016jx.broker", (uintmax_t)hash);
}

/* The file is named too: a new QEMU makes a new socket at the same path. */
int gw__monitor_broker_name(const char *address, char name[32])
{
	char key[PATH_MAX + 64], real[PATH_MAX];
	struct stat st;
	const char *path = strncmp(address, "unix:", 5) ? address : address + 5;
	if (!strncmp(address, "tcp:", 4) || !strncmp(address, "pid:", 4)) {
		name_of(address, name);
		return 0;
	}
	if (!realpath(path, real) || stat(real, &st))
		return -errno;
	snprintf(key, sizeof key, "%ju:%ju:%s", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino, real);
	name_of(key, name);
	return 0;
}

int gw__monitor_broker_lock(const char *folder, struct gw__error *error)
{
	struct timespec start = gw__monotonic_now();
	int fd = gw__monitor_broker_open_folder(folder);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : gw__error_errno(error, errno, "cannot open %s", folder);
	while (flock(fd, LOCK_EX | LOCK_NB)) {
		if (gw__monotonic_seconds_since(&start) > LOCK_S) {
			close(fd);
			return gw__error_set(error, -ETIMEDOUT, "another process has %s locked for more than %d s: lslocks tells which",
				folder, LOCK_S);
		}
		gw__sleep_ms(LOCK_POLL_MS);
	}
	return fd;
}

bool gw__monitor_broker_is_at(const char *path, const struct stat *ours)
{
	struct stat now;
	return !lstat(path, &now) && now.st_ino == ours->st_ino && now.st_dev == ours->st_dev;
}

/* What cleans /tmp leaves a folder alone that somebody has locked (systemd-tmpfiles). */
int gw__monitor_broker_make_private(char folder[32])
{
	snprintf(folder, 32, "/tmp/godwit-XXXXXX");
	int fd = mkdtemp(folder) ? gw__monitor_broker_open_folder(folder) : -1;
	if (fd < 0)
		folder[0] = 0;
	else
		flock(fd, LOCK_SH | LOCK_NB);
	return fd;
}

void gw__monitor_broker_remove_private(const char *folder, int fd)
{
	struct stat ours;
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir)
		return;
	for (struct dirent *e; (e = readdir(dir));)
		if (unlinkat(fd, e->d_name, 0)) /* "." and ".." refuse */
			unlinkat(fd, e->d_name, AT_REMOVEDIR);
	if (!fstat(fd, &ours) && gw__monitor_broker_is_at(folder, &ours))
		rmdir(folder);
	closedir(dir);
}
