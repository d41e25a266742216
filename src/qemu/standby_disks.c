/* SPDX-License-Identifier: MIT */
/*
 * The disks of a standby's guest: a guard asks for them before the first copy, and answers at each boundary whether its mirrors are whole.
 *
 *   guard:   disks BYTES ID ...\n                     -> ok PREFIX | error WHY
 *   guard:   copied\n, all of them are here, and its guest comes next
 *   standby: guest\n, all of a guest is here           -> good, if it is its own, or other
 *   standby: boundary N\n, the guest stands still     -> good REPORT\n (guard_report.h), or the end
 *
 * One guest, and one protection of it at a time. A thread of its own waits for guards; once all of the guest is here (boundary 0), the connection and the disks
 * are its thread's. Until then whoever connects as a primary may be anybody, and has nothing to do with them. What stands in between is under the lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/conditions.h"
#include "qemu/disk_link.h"
#include "qemu/driver.h"
#include "qemu/guard_report.h"
#include "qemu/storage.h"
#include "qmp/sleep.h"
#include "thread/thread.h"

enum {
	LINE_BYTES = 4096,
	ASK_MS = 10000,    /* for a guard to say what it wants */
	ANSWER_MS = 10000, /* at a boundary */
	WORD_MS = 1000,    /* for a line that is on its way */
	AGAIN_MS = 100,    /* there was no descriptor for a connection */
	LOOK_MS = 500,
	ASKING_MAX = 16,
};

/* A connection that has not said what it wants. */
struct asking {
	int fd;
	struct timespec since;
	size_t n;
	char line[LINE_BYTES];
};

struct gw_qemu_disks {
	char address[4096], server[4096], folder[PATH_MAX], program[PATH_MAX];
	bool durable;
	uint32_t history;
	int listener, quit_fd;
	pthread_t thread;
	struct asking asking[ASKING_MAX]; /* the thread's, in the order of their coming */
	unsigned asking_n;

	pthread_mutex_t lock;
	struct gw__storage *waiting;         /* that a guard has asked for; NULL: none */
	bool is_copied;                      /* `waiting` has all of the disks */
	int guard;                           /* its connection, with `waiting` or `taken` */
	bool taken;                          /* by the guest's thread */
	bool was_waiting;                    /* when the guest connected: it does not go without disks now */
	struct gw__storage *storage;         /* the guest's thread's, and */
	char report[GW__GUARD_REPORT_BYTES]; /* its guard's last; "": none */
};

/* --- guards --- */

static void drop_waiting(struct gw_qemu_disks *d)
{
	gw__storage_end(&d->waiting, 0, false);
	d->is_copied = false;
	if (!d->taken && d->guard >= 0) {
		close(d->guard);
		d->guard = -1;
	}
}

/* With the lock. A guard that went away before its guest came needs no disks. `ms`: for it to say something. */
static void look_after_waiting(struct gw_qemu_disks *d, int ms)
{
	char line[LINE_BYTES];
	struct pollfd p = {.fd = d->guard, .events = POLLIN};
	for (; d->waiting && poll(&p, 1, ms) > 0; ms = 0) {
		if (gw__disk_link_read(d->guard, line, sizeof line, WORD_MS) || strcmp(line, "copied"))
			drop_waiting(d);
		else
			d->is_copied = true;
	}
}

static bool is_id(const char *id)
{
	return *id && *id != '.' && strlen(id) < GW__STORAGE_ID_BYTES &&
	       strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == strlen(id);
}

static int parse(char *line, struct gw__storage_disk *disks, unsigned *n, struct gw__error *error)
{
	char *rest = NULL, *word = strtok_r(line, " ", &rest);
	*n = 0;
	if (!word || strcmp(word, "disks"))
		return gw__error_set(error, -EPROTO, "expected \"disks\"");
	while ((word = strtok_r(NULL, " ", &rest))) {
		char *id = strtok_r(NULL, " ", &rest), *end;
		uint64_t bytes = strtoull(word, &end, 10);
		if (*n == GW__STORAGE_DISKS_MAX)
			return gw__error_set(error, -E2BIG, "at most %d disks can be protected", GW__STORAGE_DISKS_MAX);
		if (!id || *end || !bytes || bytes > INT64_MAX / 2 || !is_id(id))
			return gw__error_set(error, -EPROTO, "a disk that cannot be protected was asked for");
		for (unsigned i = 0; i < *n; i++)
			if (!strcmp(disks[i].id, id))
				return gw__error_set(error, -EPROTO, "two disks have the name %s", id);
		snprintf(disks[*n].id, sizeof disks->id, "%s", id);
		disks[(*n)++].bytes = bytes;
	}
	return 0;
}

static int open_storage(struct gw_qemu_disks *d, char *line, struct gw__error *error)
{
	struct gw__storage_disk disks[GW__STORAGE_DISKS_MAX];
	unsigned n;
	if (d->taken)
		return gw__error_set(error, -EBUSY, "the guest is protected already, or its protection has not ended yet");
	look_after_waiting(d, 0);
	if (d->waiting)
		return gw__error_set(error, -EBUSY, "the disks of a guest are being copied already");
	int r = parse(line, disks, &n, error);
	if (!r && mkdir(d->folder, 0700) && errno != EEXIST)
		r = gw__error_errno(error, errno, "cannot make the folder %s", d->folder);
	const struct gw__storage_opts o = {.folder = d->folder,
		.program = d->program,
		.server = d->server,
		.durable = d->durable,
		.history = d->history};
	return r ? r : gw__storage_open(&o, disks, n, &d->waiting, error);
}

static void answer_guard(struct gw_qemu_disks *d, int fd, char *line)
{
	char text[600];
	struct gw__error error = {0};
	pthread_mutex_lock(&d->lock);
	int r = open_storage(d, line, &error);
	if (r)
		snprintf(text, sizeof text, "error %.580s\n", error.text);
	else
		snprintf(text, sizeof text, "ok %s\n", gw__storage_prefix(d->waiting));
	bool is_gone = gw__disk_link_write(fd, text) != 0;
	if (r)
		close(fd);
	else
		d->guard = fd;
	if (is_gone && !r)
		drop_waiting(d);
	pthread_mutex_unlock(&d->lock);
}

/* 0: a line; GW__NOT_YET; or it has gone, or says what no guard does. */
static int hear(struct asking *a)
{
	for (; a->n < sizeof a->line; a->n++) {
		ssize_t got = recv(a->fd, a->line + a->n, 1, MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return GW__NOT_YET;
		if (got <= 0)
			return -ECONNRESET;
		if (a->line[a->n] == '\n') {
			a->line[a->n] = 0;
			return 0;
		}
	}
	return -EPROTO;
}

static void take_out(struct gw_qemu_disks *d, unsigned i)
{
	d->asking_n--;
	memmove(&d->asking[i], &d->asking[i + 1], (d->asking_n - i) * sizeof d->asking[0]);
}

/* One that is silent holds nobody up. */
static void hear_all(struct gw_qemu_disks *d)
{
	for (unsigned i = 0; i < d->asking_n;) {
		struct asking *a = &d->asking[i];
		int r = hear(a);
		if (r == GW__NOT_YET && gw__monotonic_seconds_since(&a->since) * 1e3 < ASK_MS) {
			i++;
			continue;
		}
		if (r)
			close(a->fd);
		else
			answer_guard(d, a->fd, a->line);
		take_out(d, i);
	}
}

/* A guard whose host has lost its power does not close its connection, and no other one gets the disks before that. */
static void notice_silent_death(int fd)
{
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){10}, sizeof(int)); /* none of a unix socket */
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &(int){5}, sizeof(int));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &(int){3}, sizeof(int));
}

static void accept_one(struct gw_qemu_disks *d)
{
	struct pollfd quit = {.fd = d->quit_fd, .events = POLLIN};
	int fd = accept4(d->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0) {
		poll(&quit, 1, AGAIN_MS); /* the connection is still there, and would be so immediately */
		return;
	}
	notice_silent_death(fd);
	if (d->asking_n == ASKING_MAX) {
		close(d->asking[0].fd);
		take_out(d, 0);
	}
	struct asking *a = &d->asking[d->asking_n++];
	a->fd = fd;
	a->since = gw__monotonic_now();
	a->n = 0;
}

static void *accept_guards(void *disks)
{
	enum { LISTENER, QUIT, GUARD, FIRST };
	struct gw_qemu_disks *d = disks;
	struct pollfd p[FIRST + ASKING_MAX] =
		{[LISTENER] = {.fd = d->listener, .events = POLLIN}, [QUIT] = {.fd = d->quit_fd, .events = POLLIN}};
	for (;;) {
		pthread_mutex_lock(&d->lock);
		look_after_waiting(d, 0);
		p[GUARD] = (struct pollfd){.fd = d->waiting ? d->guard : -1, .events = POLLIN};
		pthread_mutex_unlock(&d->lock);
		for (unsigned i = 0; i < d->asking_n; i++)
			p[FIRST + i] = (struct pollfd){.fd = d->asking[i].fd, .events = POLLIN};
		int n = poll(p, FIRST + d->asking_n, LOOK_MS);
		if (n > 0 && p[QUIT].revents)
			return NULL;
		hear_all(d);
		if (n > 0 && p[LISTENER].revents)
			accept_one(d);
	}
}

/* --- the guest --- */

static void note_waiting(struct gw_qemu_disks *d)
{
	pthread_mutex_lock(&d->lock);
	d->was_waiting = d->waiting != NULL;
	pthread_mutex_unlock(&d->lock);
}

/* With the lock. Another guest may be here sooner than the one whose disks were copied, which its guard can tell. */
static int ask_whose(struct gw_qemu_disks *d, struct gw__error *error)
{
	char line[LINE_BYTES];
	if (gw__disk_link_write(d->guard, "guest\n") || gw__disk_link_read(d->guard, line, sizeof line, ANSWER_MS)) {
		drop_waiting(d);
		return gw__error_set(error, -EPIPE, "its guard has gone, or does not answer");
	}
	return strcmp(line, "other") ? 0 : gw__error_set(error, -EBUSY, "this standby has the disks of another guest, which is on its way");
}

/* All of the guest is here. It is the one for which disks were asked if these are here as well, and its guard says so; another one leaves them alone. */
static int take_waiting(struct gw_qemu_disks *d, struct gw__error *error)
{
	int r = 0;
	pthread_mutex_lock(&d->lock);
	look_after_waiting(d, d->is_copied ? 0 : WORD_MS); /* what it said came by another way than its guest */
	if (d->waiting && !d->is_copied)
		r = gw__error_set(error, -EBUSY, "this standby is copying the disks of another guest");
	else if (!d->waiting && d->was_waiting)
		r = gw__error_set(error, -EPIPE, "its guard has gone");
	if (!r && d->waiting)
		r = ask_whose(d, error);
	if (!r) {
		d->storage = d->waiting;
		d->waiting = NULL;
		d->taken = d->storage != NULL;
	}
	pthread_mutex_unlock(&d->lock);
	return r;
}

static int hear_verdict(struct gw_qemu_disks *d, struct gw__error *error)
{
	char line[LINE_BYTES];
	if (gw__disk_link_read(d->guard, line, sizeof line, ANSWER_MS))
		return gw__error_set(error, -ETIMEDOUT, "its guard does not report whether its disks are whole");
	if (strncmp(line, "good", strlen("good")) || (line[4] && line[4] != ' '))
		return gw__error_set(error, -EIO, "its disks are not whole: %.300s", line);
	snprintf(d->report, sizeof d->report, "%.95s", line[4] ? line + 5 : "");
	return 0;
}

static int close_epoch(struct gw_qemu_disks *d, uint64_t epoch, struct gw__error *error)
{
	char text[64];
	snprintf(text, sizeof text, "boundary %llu\n", (unsigned long long)epoch);
	int r = gw__disk_link_write(d->guard, text) ? gw__error_set(error, -EPIPE, "its guard has gone") : 0;
	if (!r)
		r = gw__storage_boundary(d->storage, epoch, error);
	return r ? r : hear_verdict(d, error);
}

int gw_qemu_disks_boundary(gw_qemu_disks *d, uint64_t epoch, char *why, size_t n)
{
	struct gw__error error = {0};
	int r = epoch ? 0 : take_waiting(d, &error);
	if (!r && d->storage)
		r = close_epoch(d, epoch, &error);
	if (r)
		snprintf(why, n, "%s", error.text);
	return r;
}

void gw_qemu_disks_event(gw_qemu_disks *d, const struct gw_standby_event *e)
{
	if (e->kind == GW_STANDBY_CONNECTED)
		note_waiting(d);
	else if (d->storage && (e->kind == GW_STANDBY_PROTECTED || e->kind == GW_STANDBY_EPOCH)) {
		gw__storage_commit(d->storage, e->epoch);
		if (d->report[0])
			gw__guard_report_send(d->folder, d->report);
	}
}

void gw_qemu_disks_end(gw_qemu_disks *d, uint64_t epoch, bool kept)
{
	pthread_mutex_lock(&d->lock);
	gw__storage_end(&d->storage, epoch, kept);
	if (d->taken && d->guard >= 0) {
		close(d->guard);
		d->guard = -1;
	}
	d->taken = false;
	pthread_mutex_unlock(&d->lock);
}

/* --- the address --- */

static int bind_unix(const char *path, struct gw__error *error)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	if (strlen(path) + strlen(".nbd") >= sizeof at.sun_path)
		return gw__error_set(error, -ENAMETOOLONG, "unix:%s: the name is too long for a socket", path);
	strcpy(at.sun_path, path);
	unlink(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !bind(fd, (struct sockaddr *)&at, sizeof at) && !listen(fd, 8))
		return fd;
	int err = errno;
	if (fd >= 0)
		close(fd);
	return gw__error_errno(error, err, "cannot listen at unix:%s", path);
}

static int bind_tcp(const char *host, const char *port, struct gw__error *error)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
	int e = getaddrinfo(*host ? host : NULL, port, &hints, &list), err = EADDRNOTAVAIL;
	for (const struct addrinfo *a = e ? NULL : list; a; a = a->ai_next) {
		int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
		if (!bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, 8)) {
			freeaddrinfo(list);
			return fd;
		}
		err = errno;
		close(fd);
	}
	if (!e)
		freeaddrinfo(list);
	return gw__error_errno(error, err, "cannot listen at tcp:%s:%s", host, port);
}

static int listen_for_guards(struct gw_qemu_disks *d, const char *address, struct gw__error *error)
{
	char host[256], port[16];
	int r = gw__disk_link_server(address, d->server, sizeof d->server, error);
	if (r)
		return r;
	if (!strncmp(address, "unix:", strlen("unix:")))
		d->listener = bind_unix(address + strlen("unix:"), error);
	else {
		const char *at = address + strlen("tcp:"), *colon = strrchr(at, ':');
		snprintf(host, sizeof host, "%.*s", (int)(colon - at), at);
		snprintf(port, sizeof port, "%s", colon + 1);
		d->listener = bind_tcp(host, port, error);
	}
	return d->listener < 0 ? d->listener : 0;
}

/* Of a standby that was killed. */
static int recover(const char *folder, struct gw__error *error)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	int r = fd < 0 || flock(fd, LOCK_EX | LOCK_NB) ? 0 : gw__storage_recover(folder, error); /* another standby's are not lost */
	if (fd >= 0)
		close(fd);
	return r;
}

int gw_qemu_disks_new(gw_qemu *qemu, const char *address, const char *folder, const char *program, bool durable, uint32_t history,
	gw_qemu_disks **disks)
{
	gw__error_clear(&qemu->error);
	if (history > GW_QEMU_DISKS_HISTORY_MAX)
		return gw__qemu_fail(qemu, -EINVAL, "the disks of %u epochs before the last one cannot be kept: at most %d", history,
			GW_QEMU_DISKS_HISTORY_MAX);
	struct gw_qemu_disks *d = calloc(1, sizeof *d);
	if (!d)
		return gw__qemu_fail(qemu, -ENOMEM, "no memory for disks");
	d->listener = d->guard = -1;
	pthread_mutex_init(&d->lock, NULL);
	snprintf(d->folder, sizeof d->folder, "%s", folder);
	snprintf(d->program, sizeof d->program, "%s", program ? program : GW__STORAGE_DAEMON);
	d->durable = durable;
	d->history = history;
	snprintf(d->address, sizeof d->address, "%s", address);
	d->quit_fd = eventfd(0, EFD_CLOEXEC);
	int r = d->quit_fd < 0 ? gw__error_errno(&qemu->error, errno, "no descriptor for disks") : recover(folder, &qemu->error);
	if (!r)
		r = listen_for_guards(d, address, &qemu->error);
	if (!r) {
		int err = gw__thread_start(&d->thread, accept_guards, d);
		r = err ? gw__error_errno(&qemu->error, err, "cannot start a thread for disks") : 0;
	}
	if (!r) {
		*disks = d;
		return 0;
	}
	if (d->listener >= 0)
		close(d->listener);
	if (d->quit_fd >= 0)
		close(d->quit_fd);
	free(d);
	return r;
}

void gw_qemu_disks_free(gw_qemu_disks *d)
{
	if (!d)
		return;
	eventfd_write(d->quit_fd, 1);
	pthread_join(d->thread, NULL);
	for (unsigned i = 0; i < d->asking_n; i++)
		close(d->asking[i].fd);
	drop_waiting(d);
	close(d->listener);
	close(d->quit_fd);
	if (!strncmp(d->address, "unix:", strlen("unix:")))
		unlink(d->address + strlen("unix:"));
	pthread_mutex_destroy(&d->lock);
	free(d);
}
