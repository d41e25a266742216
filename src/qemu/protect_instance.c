/* SPDX-License-Identifier: MIT */
/* Which process protects a QEMU; see protect_instance.h. */
#include "qemu/protect_instance.h"

#include <errno.h>
#include <fcntl.h>
#include <godwit-qemu.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qemu/monitor_broker_private.h"
#include "qmp/sleep.h"

enum { POLL_MS = 10, AGAIN = 100 };

static int path_in(char path[160], const char *folder, const char *address, struct gw__error *error)
{
	char name[32];
	int r = gw__monitor_broker_name(address, name);
	if (r)
		return gw__error_errno(error, -r, "cannot find the monitor %s", address);
	snprintf(path, 160, "%s/%.16s.protect", folder, name);
	return 0;
}

static bool is_first_process(int fd, pid_t *pid)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	if (fcntl(fd, F_GETLK, &l) || l.l_type == F_UNLCK)
		return false;
	*pid = l.l_pid;
	return true;
}

static bool is_at(const char *path, int fd)
{
	struct stat st;
	return !fstat(fd, &st) && gw__monitor_broker_is_at(path, &st);
}

/* Without a first process its guard or its deadman has the lock. */
static int refuse_protected(int fd, const char *address, struct gw__error *error)
{
	pid_t pid = 0;
	if (!is_first_process(fd, &pid))
		return gw__error_set(error, -EBUSY,
			"another protection of the QEMU at %s is not over yet: its guest is being released, or ends with the term "
			"of a lease that could not be released; try again after that term",
			address);
	gw__error_advise(error, GW_QEMU_HINT_PROTECT_STOP);
	return gw__error_set(error, -EBUSY, "process %d already protects the QEMU at %s", (int)pid, address);
}

/* GW__NOT_YET: its file went while it was opened. */
static int try_take(struct gw__protect_instance *i, const char *address, struct gw__error *error)
{
	struct flock own = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	int fd = open(i->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return gw__error_errno(error, errno, "cannot make %s", i->path);
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		refuse_protected(fd, address, error);
		close(fd);
		return -EBUSY;
	}
	if (!is_at(i->path, fd)) {
		close(fd);
		return GW__NOT_YET;
	}
	fcntl(fd, F_SETLK, &own);
	i->fd = fd;
	return 0;
}

int gw__protect_instance_take(struct gw__protect_instance *i, const char *address, struct gw__error *error)
{
	char folder[GW__MONITOR_BROKER_PATH_BYTES];
	int r = gw__monitor_broker_make_folder(folder, error);
	*i = (struct gw__protect_instance)GW__PROTECT_INSTANCE_INIT;
	if (!r)
		r = path_in(i->path, folder, address, error);
	if (r)
		return r;
	for (int n = 0; (r = try_take(i, address, error)) == GW__NOT_YET && n < AGAIN; n++)
		gw__sleep_ms(POLL_MS);
	return r == GW__NOT_YET ? gw__error_set(error, -EAGAIN, "%s is created and removed repeatedly", i->path) : r;
}

/* --- the QEMU, whatever its monitor is called --- */

/* As an address of gw__monitor_broker_name. In the place of a process number stands what tells it from other QEMUs, over tcp as well. Owned; NULL with a sentence. */
static char *name_qemu(struct gw__qmp *q, struct gw__error *error)
{
	json_t *identity = NULL;
	char *name = NULL;
	if (gw__qmp_query_identity(q, &identity, error))
		return NULL;
	char *text = json_dumps(identity, JSON_COMPACT | JSON_SORT_KEYS);
	if (!text || asprintf(&name, "pid:%s", text) < 0) {
		gw__error_set(error, -ENOMEM, "no memory for what QEMU says of itself");
		name = NULL;
	}
	free(text);
	json_decref(identity);
	return name;
}

/* The same file under `path`. GW__NOT_YET: another one was there, and has gone. */
static int try_link(const struct gw__protect_instance *i, const char *path, const char *address, struct gw__error *error)
{
	int r = GW__NOT_YET, err = link(i->path, path) ? errno : 0;
	if (!err || is_at(path, i->fd)) /* of one that was killed, and used this monitor */
		return 0;
	if (err != EEXIST)
		return gw__error_errno(error, err, "cannot make %s", path);
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? GW__NOT_YET : gw__error_errno(error, errno, "cannot open %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB))
		r = refuse_protected(fd, address, error);
	else if (is_at(path, fd)) /* who had it was killed */
		unlink(path);
	close(fd);
	return r;
}

int gw__protect_instance_take_qemu(struct gw__protect_instance *i, struct gw__qmp *q, const char *address, struct gw__error *error)
{
	char folder[GW__MONITOR_BROKER_PATH_BYTES], path[sizeof i->path];
	char *name = name_qemu(q, error);
	if (!name)
		return error->code;
	snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(i->path, '/') - i->path), i->path);
	int r = path_in(path, folder, name, error);
	free(name);
	if (r)
		return r;
	for (int n = 0; (r = try_link(i, path, address, error)) == GW__NOT_YET && n < AGAIN; n++)
		gw__sleep_ms(POLL_MS);
	if (!r)
		memcpy(i->qemu_path, path, sizeof path);
	return r == GW__NOT_YET ? gw__error_set(error, -EAGAIN, "%s is created and removed repeatedly", path) : r;
}

void gw__protect_instance_leave(struct gw__protect_instance *i, bool is_shared)
{
	if (i->fd < 0)
		return;
	if (!is_shared && i->qemu_path[0] && is_at(i->qemu_path, i->fd))
		unlink(i->qemu_path);
	if (!is_shared &&
		is_at(i->path, i->fd)) /* what stays is as that of one who was killed: the next one takes it when its lock is free */
		unlink(i->path);
	close(i->fd);
	*i = (struct gw__protect_instance)GW__PROTECT_INSTANCE_INIT;
}

/* It cannot become another process between the question and the signal: its lock is looked at again. */
static void ask_to_end(int fd)
{
	pid_t pid, again;
	if (!is_first_process(fd, &pid))
		return;
	int process = pidfd_open(pid, 0);
	if (process < 0)
		return;
	if (is_first_process(fd, &again) && again == pid)
		pidfd_send_signal(process, SIGTERM, NULL, 0);
	close(process);
}

static int await_end(int fd, int patience_ms, struct gw__error *error)
{
	struct timespec start = gw__monotonic_now();
	while (flock(fd, LOCK_EX | LOCK_NB)) {
		if (gw__monotonic_seconds_since(&start) * 1e3 > patience_ms)
			return gw__error_set(error, -ETIMEDOUT, "the process that protects this QEMU has not ended within %d s",
				patience_ms / 1000);
		gw__sleep_ms(POLL_MS);
	}
	return 0;
}

/* GW__NOT_MINE: not in this folder. */
static int stop_in(const char *folder, const char *address, int patience_ms, struct gw__error *error)
{
	char path[160];
	int r = path_in(path, folder, address, error);
	int fd = r ? -1 : open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return r ? r : GW__NOT_MINE;
	bool idle = flock(fd, LOCK_EX | LOCK_NB) == 0; /* both were killed */
	if (!idle) {
		ask_to_end(fd);
		r = await_end(fd, patience_ms, error);
	}
	if (!r && is_at(path, fd))
		unlink(path);
	close(fd);
	return idle ? GW__NOT_MINE : r;
}

int gw__protect_instance_stop(const char *address, int patience_ms, struct gw__error *error)
{
	char folder[GW__MONITOR_BROKER_PATH_BYTES];
	for (unsigned n = 0; gw__monitor_broker_folder(n, folder); n++) {
		if (gw__monitor_broker_check_folder(folder, NULL))
			continue;
		int r = stop_in(folder, address, patience_ms, error);
		if (r != GW__NOT_MINE)
			return r;
	}
	return -ENOENT;
}

int gw__protect_instance_stop_qemu(struct gw__qmp *q, int patience_ms, struct gw__error *error)
{
	char *name = name_qemu(q, error);
	int r = name ? gw__protect_instance_stop(name, patience_ms, error) : error->code;
	free(name);
	return r;
}
