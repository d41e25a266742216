/* SPDX-License-Identifier: MIT */
/*
 * Which monitor brokers there are, and what they say of themselves; see monitor_broker.h. It changes nothing in them: not attaching (monitor_broker.c),
 * nor where their folders are (monitor_broker_place.c). No state: any thread.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "qemu/monitor_broker_private.h"

enum { CALLS_MAX = 3 };

bool gw__monitor_broker_socket(const char *folder, const char *name, struct sockaddr_un *a)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	return (size_t)snprintf(a->sun_path, sizeof a->sun_path, "%s/%s", folder, name) < sizeof a->sun_path;
}

/* A listener whose queue is full makes connect() and sendmsg() wait, and then fail with EAGAIN. */
static int call(const struct sockaddr_un *a)
{
	const struct timeval limit = {.tv_sec = GW__MONITOR_BROKER_ANSWER_MS / 1000};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int r;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	do
		r = connect(fd, (const struct sockaddr *)a, sizeof *a);
	while (r && errno == EINTR);
	if (!r)
		return fd;
	int err = errno;
	close(fd);
	return err == EAGAIN ? -ETIMEDOUT : -err;
}

static int say_silent(const struct sockaddr_un *a, pid_t broker, struct gw__error *error)
{
	if (!broker)
		return gw__error_set(error, -ETIMEDOUT,
			"the process that keeps a QEMU's monitor does not answer at %s (fuser shows its number): continue it with kill "
			"-CONT, or try later",
			a->sun_path);
	return gw__error_set(error, -ETIMEDOUT,
		"process %d, which keeps a QEMU's monitor, does not answer: continue it with kill -CONT %d, or try later", (int)broker,
		(int)broker);
}

static int say_failed(const struct sockaddr_un *a, int r, pid_t broker, struct gw__error *error)
{
	if (r == -ENOENT || r == -ECONNREFUSED)
		return -ENOENT;
	if (r == -ETIMEDOUT || r == -EAGAIN)
		return say_silent(a, broker, error);
	return gw__error_errno(error, -r, "cannot talk with the process that keeps a QEMU's monitor at %s", a->sun_path);
}

static int ask_once(const struct sockaddr_un *a, const char *want, struct gw__monitor_broker_message *m, int *fd, pid_t *broker)
{
	*fd = call(a);
	if (*fd < 0)
		return *fd;
	*broker = gw__monitor_broker_peer(*fd);
	int r = gw__monitor_broker_send(*fd, json_pack("{s:s}", "want", want), NULL, 0);
	if (!r)
		r = gw__monitor_broker_receive(*fd, GW__MONITOR_BROKER_ANSWER_MS, m);
	if (r)
		close(*fd);
	return r == -EPIPE ? -ECONNRESET : r;
}

/* One that hangs up is ending, and next time nobody listens; or it has waited too long for our word, and does not the next time. */
int gw__monitor_broker_call(const char *folder, const char *name, const char *want, struct gw__monitor_broker_message *m, pid_t *broker,
	struct gw__error *error)
{
	struct sockaddr_un a;
	int fd = -1, r = -ECONNRESET;
	*broker = 0;
	if (!gw__monitor_broker_socket(folder, name, &a))
		return -ENOENT;
	for (unsigned i = 0; r == -ECONNRESET && i < CALLS_MAX; i++)
		r = ask_once(&a, want, m, &fd, broker);
	return r ? say_failed(&a, r, *broker, error) : fd;
}

int gw__monitor_broker_each(int (*fn)(void *ctx, const char *folder, const char *name), void *ctx)
{
	char folder[GW__MONITOR_BROKER_PATH_BYTES];
	int r = 0;
	for (unsigned i = 0; !r && gw__monitor_broker_folder(i, folder); i++) {
		DIR *dir = gw__monitor_broker_check_folder(folder, NULL) ? NULL : opendir(folder);
		for (struct dirent *e; dir && !r && (e = readdir(dir));)
			if (strstr(e->d_name, ".broker"))
				r = fn(ctx, folder, e->d_name);
		if (dir)
			closedir(dir);
	}
	return r;
}

int gw__monitor_broker_ask_info(const char *folder, const char *name, struct gw__monitor_broker_info *info, struct gw__error *error)
{
	struct gw__monitor_broker_message m = {0};
	*info = (struct gw__monitor_broker_info){0};
	int fd = gw__monitor_broker_call(folder, name, "info", &m, &info->pid, error);
	if (fd < 0)
		return fd;
	close(fd);
	*info = (struct gw__monitor_broker_info){.answers = true,
		.pid = (pid_t)json_integer_value(json_object_get(m.json, "pid")),
		.server = (pid_t)json_integer_value(json_object_get(m.json, "server")),
		.qemu = (pid_t)json_integer_value(json_object_get(m.json, "qemu"))};
	const char *address = json_string_value(json_object_get(m.json, "address"));
	const char *image = json_string_value(json_object_get(m.json, "image"));
	snprintf(info->address, sizeof info->address, "%s", address ? address : "");
	snprintf(info->image, sizeof info->image, "%s", image ? image : "");
	gw__monitor_broker_message_fini(&m);
	return 0;
}

struct listing {
	gw__monitor_broker_fn *fn;
	void *ctx;
};

static int show(void *ctx, const char *folder, const char *name)
{
	struct listing *l = ctx;
	struct gw__monitor_broker_info info;
	int r = gw__monitor_broker_ask_info(folder, name, &info, NULL);
	if (!r || r == -ETIMEDOUT)
		l->fn(l->ctx, &info);
	return 0;
}

void gw__monitor_broker_list(gw__monitor_broker_fn *fn, void *ctx) { gw__monitor_broker_each(show, &(struct listing){fn, ctx}); }

struct question {
	char name[32];
	struct gw__monitor_broker_info *info;
	struct gw__error *error;
};

static int show_named(void *ctx, const char *folder, const char *name)
{
	struct question *q = ctx;
	int r = strcmp(name, q->name) ? -ENOENT : gw__monitor_broker_ask_info(folder, name, q->info, q->error);
	return r == -ENOENT ? 0 : r ? r : 1;
}

int gw__monitor_broker_ask(const char *address, struct gw__monitor_broker_info *info, struct gw__error *error)
{
	struct question q = {.info = info, .error = error};
	int r = gw__monitor_broker_name(address, q.name) ? 0 : gw__monitor_broker_each(show_named, &q);
	return r == 1 ? 0 : r ? r : -ENOENT;
}
