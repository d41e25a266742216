/* SPDX-License-Identifier: MIT */
/* The page server's side of its monitor broker: finding, starting, attaching, telling. See monitor_broker.h. */
#include "qemu/monitor_broker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qemu/monitor_broker_private.h"

pid_t gw__monitor_broker_peer(int fd)
{
	struct ucred peer = {0};
	socklen_t n = sizeof peer;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) ? 0 : peer.pid;
}

void gw__monitor_handoff_fini(struct gw__monitor_handoff *h)
{
	if (h->monitor >= 0)
		close(h->monitor);
	if (h->link >= 0)
		close(h->link);
	json_decref(h->known);
	*h = (struct gw__monitor_handoff)GW__MONITOR_HANDOFF_INIT;
}

/* --- attaching --- */

static int take_hand(struct gw__monitor_broker *k, struct gw__monitor_broker_message *m, struct gw__monitor_handoff *handoff)
{
	const char *folder = json_string_value(json_object_get(m->json, "folder"));
	int known = gw__monitor_broker_message_take(m, "known");
	k->epoch = json_integer_value(json_object_get(m->json, "turn"));
	snprintf(k->folder, sizeof k->folder, "%s", folder ? folder : "");
	handoff->monitor = gw__monitor_broker_message_take(m, "monitor");
	handoff->link = gw__monitor_broker_message_take(m, "link");
	handoff->known = known < 0 ? NULL : gw__monitor_broker_from_file(known);
	if (known >= 0)
		close(known);
	return 0;
}

static int say_busy(const struct gw__monitor_broker_message *m, struct gw__error *error)
{
	return gw__error_set(error, -EBUSY, "process %d already serves this QEMU; one page server is enough",
		(int)json_integer_value(json_object_get(m->json, "busy")));
}

/* A socket nobody listens at is that of a monitor broker which was killed, or is just ending: -ENOENT. */
static int attach(struct gw__monitor_broker *k, const char *folder, const char *name, struct gw__monitor_handoff *handoff,
	struct gw__error *error)
{
	struct gw__monitor_broker_message m = {0};
	pid_t broker;
	int fd = gw__monitor_broker_call(folder, name, "serve", &m, &broker, error);
	if (fd < 0)
		return fd;
	int r = json_object_get(m.json, "busy") ? say_busy(&m, error) : take_hand(k, &m, handoff);
	gw__monitor_broker_message_fini(&m);
	if (r)
		close(fd);
	else
		k->fd = fd;
	return r;
}

int gw__monitor_broker_find(struct gw__monitor_broker *k, const char *address, struct gw__monitor_handoff *handoff, struct gw__error *error)
{
	char folder[GW__MONITOR_BROKER_PATH_BYTES], name[32];
	int r = -ENOENT;
	*handoff = (struct gw__monitor_handoff)GW__MONITOR_HANDOFF_INIT;
	if (!strncmp(address, "pid:", 4))
		return gw__monitor_broker_find_pid(k, (pid_t)strtol(address + 4, NULL, 10), handoff, error);
	if (gw__monitor_broker_name(address, name))
		return -ENOENT;
	for (unsigned i = 0; r == -ENOENT && gw__monitor_broker_folder(i, folder); i++) {
		if (gw__monitor_broker_check_folder(folder, NULL))
			continue;
		int lock = gw__monitor_broker_lock(folder, error);
		r = lock < 0 ? lock : attach(k, folder, name, handoff, error);
		if (lock >= 0)
			close(lock);
	}
	k->met = !r;
	return r;
}

struct search {
	pid_t qemu;
	struct gw__monitor_broker *k;
	struct gw__monitor_handoff *handoff;
	struct gw__error *error, *silent;
};

static int match(void *ctx, const char *folder, const char *name)
{
	struct search *s = ctx;
	struct gw__monitor_broker_info info;
	if (gw__monitor_broker_ask_info(folder, name, &info, s->silent) || info.qemu != s->qemu)
		return 0;
	int r = attach(s->k, folder, name, s->handoff, s->error);
	return r == -ENOENT ? 0 : r ? r : 1;
}

int gw__monitor_broker_find_pid(struct gw__monitor_broker *k, pid_t qemu, struct gw__monitor_handoff *handoff, struct gw__error *error)
{
	struct gw__error silent = {0};
	*handoff = (struct gw__monitor_handoff)GW__MONITOR_HANDOFF_INIT;
	int r = qemu > 0 ? gw__monitor_broker_each(match, &(struct search){qemu, k, handoff, error, &silent}) : 0;
	k->met = r == 1;
	if (r)
		return r == 1 ? 0 : r;
	if (!silent.code)
		return -ENOENT;
	gw__error_set(error, silent.code, "%s", silent.text);
	return GW__SILENT;
}

/* --- starting --- */

/* Twice forked, so that it is nobody's child to be waited for. */
static int start_process(int listener, const char *path, const char *address, struct gw__error *error)
{
	pid_t pid = fork();
	if (pid < 0)
		return gw__error_errno(error, errno, "cannot start a process");
	if (pid == 0) {
		pid_t broker = fork();
		if (broker == 0)
			gw__monitor_broker_run(listener, path, address);
		_exit(broker < 0);
	}
	int status = 0;
	pid_t got;
	do
		got = waitpid(pid, &status, 0);
	while (got < 0 && errno == EINTR);
	return got == pid && status == 0 ? 0 : gw__error_set(error, -EAGAIN, "cannot start a process");
}

static int bind_new(const struct sockaddr_un *a, struct gw__error *error)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	unlink(a->sun_path); /* nobody listens there: attach has tried, under the lock */
	if (fd >= 0 && !bind(fd, (const struct sockaddr *)a, sizeof *a) && !listen(fd, GW__MONITOR_BROKER_QUEUE))
		return fd;
	int err = errno;
	if (fd >= 0)
		close(fd);
	return gw__error_errno(error, err, "cannot listen at %s", a->sun_path);
}

static int start_locked(struct gw__monitor_broker *k, const char *address, const char *folder, const char *name, struct gw__error *error)
{
	struct gw__monitor_handoff handoff = GW__MONITOR_HANDOFF_INIT;
	struct sockaddr_un a;
	int r = attach(k, folder, name, &handoff, error);
	k->met = !r;
	bool holds = handoff.monitor >= 0; /* else its page server died before it had one */
	gw__monitor_handoff_fini(&handoff);
	if (holds) {
		gw__monitor_broker_leave(k);
		return gw__error_set(error, -EEXIST, "a page server has come, and left this monitor to a broker: start the command again");
	}
	if (r != -ENOENT || !gw__monitor_broker_socket(folder, name, &a))
		return r;
	int listener = bind_new(&a, error);
	if (listener < 0)
		return listener;
	r = start_process(listener, a.sun_path, address, error);
	close(listener);
	if (!r)
		r = attach(k, folder, name, &handoff, error);
	return r == -ETIMEDOUT ? -EAGAIN : r; /* it has nothing yet, and ends by itself */
}

int gw__monitor_broker_start(struct gw__monitor_broker *k, const char *address, struct gw__error *error)
{
	char folder[GW__MONITOR_BROKER_PATH_BYTES], name[32];
	int r = gw__monitor_broker_make_folder(folder, error);
	if (!r)
		r = gw__monitor_broker_name(address, name);
	if (r)
		return r;
	int lock = gw__monitor_broker_lock(folder, error);
	if (lock < 0)
		return lock;
	r = start_locked(k, address, folder, name, error);
	flock(lock, LOCK_UN); /* the monitor broker was forked with a copy of it */
	close(lock);
	return r;
}

/* --- telling --- */

void gw__monitor_broker_keep(struct gw__monitor_broker *k, int monitor, pid_t qemu, enum gw__monitor_broker_phase phase, const char *image,
	const json_t *known)
{
	static const char *const names[] = {"idle", "asked", "runs"};
	if (k->fd < 0)
		return;
	int fd[2] = {monitor, gw__monitor_broker_to_file(known)};
	if (fd[1] < 0)
		return;
	gw__monitor_broker_send(k->fd,
		json_pack("{s:s, s:i, s:o, s:[s, s]}", "keep", names[phase], "qemu", (int)qemu, "image", gw__monitor_broker_text(image),
			"fds", "monitor", "known"),
		fd, 2);
	close(fd[1]);
}

void gw__monitor_broker_hold_socket(struct gw__monitor_broker *k, int link)
{
	if (k->fd >= 0)
		gw__monitor_broker_send(k->fd, json_pack("{s:b, s:[s]}", "link", 1, "fds", "link"), &link, 1);
}

void gw__monitor_broker_release_socket(struct gw__monitor_broker *k)
{
	if (k->fd >= 0)
		gw__monitor_broker_send(k->fd, json_pack("{s:b}", "link", 0), NULL, 0);
}

void gw__monitor_broker_release_socket_soon(struct gw__monitor_broker *k)
{
	if (k->fd >= 0)
		gw__monitor_broker_send(k->fd, json_pack("{s:b}", "resumed", 1), NULL, 0);
}

void gw__monitor_broker_dismiss(struct gw__monitor_broker *k)
{
	struct gw__monitor_broker_message m;
	if (k->fd < 0)
		return;
	gw__monitor_broker_send(k->fd, json_pack("{s:b}", "bye", 1), NULL, 0);
	if (!gw__monitor_broker_receive(k->fd, GW__MONITOR_BROKER_ANSWER_MS,
		    &m)) /* it says nothing: the end of the connection is its end */
		gw__monitor_broker_message_fini(&m);
	gw__monitor_broker_leave(k);
}

void gw__monitor_broker_leave(struct gw__monitor_broker *k)
{
	if (k->fd >= 0)
		close(k->fd);
	k->fd = -1;
}
