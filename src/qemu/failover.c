/* SPDX-License-Identifier: MIT */
/* From a dead primary to an image that may run; see failover.h. */
#include "qemu/failover.h"

#include <errno.h>
#include <fcntl.h>
#include <godwit-qemu.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "qemu/owner_lock.h"
#include "qemu/storage.h"
#include "qmp/sleep.h"

enum {
	ANSWER_MS = 60000, /* for the image of the last epoch to be made */
	FOLDER_MS = 10000, /* for a standby that has made it to let go of the folder */
	POLL_MS = 10,
	AGAIN = 3,
};

static int path_of(char path[PATH_MAX], const char *folder, const char *file, struct gw__error *error)
{
	int n = snprintf(path, PATH_MAX, "%s/%s", folder, file);
	return n >= 0 && n < PATH_MAX ? 0 : gw__error_set(error, -ENAMETOOLONG, "%s/%s: the name is too long", folder, file);
}

/* --- the proof --- */

static int refuse_unproved(const char *folder, struct gw__error *error)
{
	gw__error_advise(error, GW_QEMU_HINT_PRIMARY_IS_DEAD);
	return gw__error_set(error, -EPERM,
		"nothing proves that the primary no longer runs the guest: no QEMU was given %s/owner.lock (it is on another host, or was "
		"released)",
		folder);
}

/* Passes `r` on, with a sentence. */
static int explain_held(const char *folder, int r, pid_t holder, struct gw__error *error)
{
	if (r == -EBUSY && holder)
		return gw__error_set(error, r, "process %d holds %s/owner.lock, so the primary is alive: the guest runs there, or will run",
			(int)holder, folder);
	return r == -EBUSY
		       ? gw__error_set(error, r, "a process holds %s/owner.lock: the guest runs, or another failover is running", folder)
		       : r;
}

int gw__failover_look(const char *folder, struct gw__error *error)
{
	pid_t holder;
	int r = gw__owner_lock_look(folder, &holder, error);
	return explain_held(folder, r, holder, error);
}

static int prove(struct gw__failover *f, const char *folder, bool primary_is_dead, struct gw__error *error)
{
	pid_t holder;
	int r = gw__owner_lock_take(folder, primary_is_dead, &f->owner_fd, &holder, error);
	return r == -ENOENT ? refuse_unproved(folder, error) : explain_held(folder, r, holder, error);
}

/* --- the standby --- */

/* Through the folder's descriptor, as its name may be too long for a socket. -ENOENT: nobody is there. */
static int connect_control(int folder_fd, struct gw__error *error)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return gw__error_errno(error, errno, "cannot make a socket");
	snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/control", folder_fd);
	if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	int err = errno;
	close(fd);
	return err == ENOENT || err == ECONNREFUSED ? -ENOENT : gw__error_errno(error, err, "cannot reach the standby's control socket");
}

static int read_answer(int fd, char *line, size_t n, struct gw__error *error)
{
	struct timespec start = gw__monotonic_now();
	size_t used = 0;
	while (!memchr(line, '\n', used)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int left = ANSWER_MS - (int)(gw__monotonic_seconds_since(&start) * 1e3);
		if (left <= 0)
			return gw__error_set(error, -ETIMEDOUT, "the standby did not end its protection within %d s", ANSWER_MS / 1000);
		ssize_t got = poll(&p, 1, left) > 0 ? recv(fd, line + used, n - 1 - used, 0) : 0;
		if (got < 0 && errno != EINTR)
			return gw__error_errno(error, errno, "cannot read the standby's answer");
		if (got == 0 && p.revents)
			return gw__error_set(error, -ECONNRESET, "the standby ended before it had answered");
		used += got > 0 ? (size_t)got : 0;
	}
	line[used - 1] = 0;
	return 0;
}

/* What it answers is for the message only: whether there is an image, its folder tells. -ECONNRESET: it ended meanwhile. */
static int ask_to_end(struct gw__failover *f, struct gw__error *error)
{
	static const char request[] = "failover\n";
	char line[PATH_MAX + 256];
	int fd = connect_control(f->folder_fd, error);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	f->was_connected = true;
	int err = send(fd, request, strlen(request), MSG_NOSIGNAL) < 0 ? errno : 0;
	int r = err ? gw__error_errno(error, err == EPIPE ? ECONNRESET : err, "cannot ask the standby") : 0;
	if (!r)
		r = read_answer(fd, line, sizeof line, error);
	close(fd);
	return r;
}

/* A protection that has just ended by itself may close its socket under our feet; then nobody is there the next time. */
static int end_protection(struct gw__failover *f, struct gw__error *error)
{
	for (int n = 0;; n++) {
		gw__error_clear(error);
		int r = ask_to_end(f, error);
		if (r != -ECONNRESET || n == AGAIN)
			return r;
		gw__sleep_ms(POLL_MS);
	}
}

static int hold_folder(struct gw__failover *f, const char *folder, struct gw__error *error)
{
	struct timespec start = gw__monotonic_now();
	while (flock(f->folder_fd, LOCK_EX | LOCK_NB)) {
		if (gw__monotonic_seconds_since(&start) * 1e3 > FOLDER_MS)
			return gw__error_set(error, -ETIMEDOUT, "another process still uses %s: a standby, or another failover", folder);
		gw__sleep_ms(POLL_MS);
	}
	return 0;
}

/* What a standby that died has left. That there is nothing is no failure here. */
static int recover(struct gw__failover *f, const char *folder, gw_job *job, struct gw__error *error)
{
	uint64_t epoch;
	int r = gw__storage_recover(folder, error);
	if (r)
		return r;
	r = gw_standby_recover(job, folder, &epoch);
	f->was_recovered = !r;
	return r && r != -ENOENT ? gw__error_set(error, r, "%s", gw_job_error(job)) : 0;
}

static int find_image(struct gw__failover *f, const char *folder, struct gw__error *error)
{
	struct stat st;
	struct timespec now;
	int r = path_of(f->image, folder, "guest.img", error);
	if (!r && stat(f->image, &st))
		r = errno == ENOENT ? gw__error_set(error, -ENODATA, "there is no epoch to start from: %s does not exist", f->image)
				    : gw__error_errno(error, errno, "cannot stat %s", f->image);
	if (r)
		return r;
	clock_gettime(CLOCK_REALTIME, &now);
	f->age_s = (double)(now.tv_sec - st.st_mtim.tv_sec) + (double)(now.tv_nsec - st.st_mtim.tv_nsec) / 1e9;
	return 0;
}

/* A primary that came meanwhile has taken the older lock away. */
static int prove_again(const struct gw__failover *f, const char *folder, struct gw__error *error)
{
	return gw__owner_lock_is_current(folder, f->owner_fd)
		       ? 0
		       : gw__error_set(error, -EBUSY, "%s/owner.lock was replaced meanwhile: another primary of this name runs its guest",
				 folder);
}

int gw__failover_prepare(struct gw__failover *f, const char *folder, bool primary_is_dead, gw_job *job, struct gw__error *error)
{
	*f = (struct gw__failover)GW__FAILOVER_INIT;
	f->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	int r = f->folder_fd < 0 ? gw__error_set(error, -ENODATA, "cannot open the folder %s: %s", folder, strerror(errno)) : 0;
	if (!r)
		r = prove(f, folder, primary_is_dead, error);
	if (!r)
		r = end_protection(f, error);
	if (!r)
		r = hold_folder(f, folder, error);
	if (!r)
		r = prove_again(f, folder, error);
	if (!r)
		r = recover(f, folder, job, error);
	if (!r)
		r = find_image(f, folder, error);
	if (r)
		gw__failover_end(f);
	return r;
}

int gw__failover_choose(struct gw__failover *f, uint64_t epoch, gw_job *job, struct gw__error *error)
{
	char image[PATH_MAX];
	int n = snprintf(image, sizeof image, "%s@%llu", f->image, (unsigned long long)epoch);
	if (n < 0 || n >= (int)sizeof image)
		return gw__error_set(error, -ENAMETOOLONG, "%s: the name is too long", f->image);
	int r = gw_standby_export(job, f->image, epoch, image);
	if (r)
		return gw__error_set(error, r, "%s", gw_job_error(job));
	memcpy(f->image, image, sizeof image);
	return 0;
}

void gw__failover_end(struct gw__failover *f)
{
	if (f->owner_fd >= 0)
		close(f->owner_fd);
	if (f->folder_fd >= 0)
		close(f->folder_fd);
	*f = (struct gw__failover)GW__FAILOVER_INIT;
}
