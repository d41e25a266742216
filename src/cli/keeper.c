/* SPDX-License-Identifier: MIT */
/* The page server's side of its keeper: finding, starting, attaching, telling. See keeper.h. */
#include "cli/keeper.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/keeper_parts.h"

pid_t gw__keeper_peer(int fd)
{
	struct ucred peer = {0};
	socklen_t n = sizeof peer;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) ? 0 : peer.pid;
}

void gw__keeper_hand_fini(struct gw__keeper_hand *h)
{
	if (h->monitor >= 0)
		close(h->monitor);
	if (h->link >= 0)
		close(h->link);
	json_decref(h->known);
	*h = (struct gw__keeper_hand)GW__KEEPER_HAND_INIT;
}

/* --- attaching --- */

static int take_hand(struct gw__keeper *k, struct gw__keeper_message *m, struct gw__keeper_hand *hand)
{
	const char *folder = json_string_value(json_object_get(m->json, "folder"));
	int known = gw__keeper_message_take(m, "known");
	k->turn = json_integer_value(json_object_get(m->json, "turn"));
	snprintf(k->folder, sizeof k->folder, "%s", folder ? folder : "");
	hand->monitor = gw__keeper_message_take(m, "monitor");
	hand->link = gw__keeper_message_take(m, "link");
	hand->known = known < 0 ? NULL : gw__keeper_from_file(known);
	if (known >= 0)
		close(known);
	return 0;
}

static int say_busy(const struct gw__keeper_message *m, struct gw__why *why)
{
	return gw__why_set(why, -EBUSY, "process %d serves this QEMU already; one page server is enough",
		(int)json_integer_value(json_object_get(m->json, "busy")));
}

/* A socket nobody listens at is that of a keeper which was killed, or is just ending: -ENOENT. */
static int attach(struct gw__keeper *k, const char *folder, const char *name, struct gw__keeper_hand *hand, struct gw__why *why)
{
	struct gw__keeper_message m = {0};
	pid_t keeper;
	int fd = gw__keeper_call(folder, name, "serve", &m, &keeper, why);
	if (fd < 0)
		return fd;
	int r = json_object_get(m.json, "busy") ? say_busy(&m, why) : take_hand(k, &m, hand);
	gw__keeper_message_fini(&m);
	if (r)
		close(fd);
	else
		k->fd = fd;
	return r;
}

int gw__keeper_find(struct gw__keeper *k, const char *address, struct gw__keeper_hand *hand, struct gw__why *why)
{
	char folder[GW__KEEPER_PATH_BYTES], name[32];
	int r = -ENOENT;
	*hand = (struct gw__keeper_hand)GW__KEEPER_HAND_INIT;
	if (!strncmp(address, "pid:", 4))
		return gw__keeper_find_pid(k, (pid_t)strtol(address + 4, NULL, 10), hand, why);
	if (gw__keeper_name(address, name))
		return -ENOENT;
	for (unsigned i = 0; r == -ENOENT && gw__keeper_folder(i, folder); i++) {
		if (gw__keeper_check_folder(folder, NULL))
			continue;
		int lock = gw__keeper_lock(folder, why);
		r = lock < 0 ? lock : attach(k, folder, name, hand, why);
		if (lock >= 0)
			close(lock);
	}
	k->met = !r;
	return r;
}

struct search {
	pid_t qemu;
	struct gw__keeper *k;
	struct gw__keeper_hand *hand;
	struct gw__why *why, *silent;
};

static int match(void *ctx, const char *folder, const char *name)
{
	struct search *s = ctx;
	struct gw__keeper_info info;
	if (gw__keeper_ask_info(folder, name, &info, s->silent) || info.qemu != s->qemu)
		return 0;
	int r = attach(s->k, folder, name, s->hand, s->why);
	return r == -ENOENT ? 0 : r ? r : 1;
}

int gw__keeper_find_pid(struct gw__keeper *k, pid_t qemu, struct gw__keeper_hand *hand, struct gw__why *why)
{
	struct gw__why silent = {0};
	*hand = (struct gw__keeper_hand)GW__KEEPER_HAND_INIT;
	int r = qemu > 0 ? gw__keeper_each(match, &(struct search){qemu, k, hand, why, &silent}) : 0;
	k->met = r == 1;
	if (r)
		return r == 1 ? 0 : r;
	if (silent.code)
		gw__why_set(why, silent.code, "%s", silent.text);
	return -ENOENT;
}

/* --- starting --- */

/* Twice forked, so that it is nobody's child to be waited for. */
static int start_process(int listener, const char *path, const char *address, struct gw__why *why)
{
	pid_t pid = fork();
	if (pid < 0)
		return gw__why_errno(why, errno, "cannot start a process");
	if (pid == 0) {
		pid_t keeper = fork();
		if (keeper == 0)
			gw__keeper_be(listener, path, address);
		_exit(keeper < 0);
	}
	int status = 0;
	pid_t got;
	do
		got = waitpid(pid, &status, 0);
	while (got < 0 && errno == EINTR);
	return got == pid && status == 0 ? 0 : gw__why_set(why, -EAGAIN, "cannot start a process");
}

static int bind_new(const struct sockaddr_un *a, struct gw__why *why)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	unlink(a->sun_path); /* nobody listens there: attach has tried, under the lock */
	if (fd >= 0 && !bind(fd, (const struct sockaddr *)a, sizeof *a) && !listen(fd, GW__KEEPER_QUEUE))
		return fd;
	int err = errno;
	if (fd >= 0)
		close(fd);
	return gw__why_errno(why, err, "cannot listen at %s", a->sun_path);
}

static int start_locked(struct gw__keeper *k, const char *address, const char *folder, const char *name, struct gw__why *why)
{
	struct gw__keeper_hand hand = GW__KEEPER_HAND_INIT;
	struct sockaddr_un a;
	int r = attach(k, folder, name, &hand, why);
	k->met = !r;
	bool holds = hand.monitor >= 0; /* else its page server died before it had one */
	gw__keeper_hand_fini(&hand);
	if (holds) {
		gw__keeper_leave(k);
		return gw__why_set(why, -EEXIST, "a page server has come, and left this monitor to a keeper: start the command again");
	}
	if (r != -ENOENT || !gw__keeper_socket(folder, name, &a))
		return r;
	int listener = bind_new(&a, why);
	if (listener < 0)
		return listener;
	r = start_process(listener, a.sun_path, address, why);
	close(listener);
	if (!r)
		r = attach(k, folder, name, &hand, why);
	return r == -ETIMEDOUT ? -EAGAIN : r; /* it has nothing yet, and ends by itself */
}

int gw__keeper_start(struct gw__keeper *k, const char *address, struct gw__why *why)
{
	char folder[GW__KEEPER_PATH_BYTES], name[32];
	int r = gw__keeper_make_folder(folder, why);
	if (!r)
		r = gw__keeper_name(address, name);
	if (r)
		return r;
	int lock = gw__keeper_lock(folder, why);
	if (lock < 0)
		return lock;
	r = start_locked(k, address, folder, name, why);
	flock(lock, LOCK_UN); /* the keeper was forked with a copy of it */
	close(lock);
	return r;
}

/* --- telling --- */

void gw__keeper_keep(struct gw__keeper *k, int monitor, enum gw__keeper_phase phase, const char *image, const json_t *known)
{
	static const char *const names[] = {"idle", "asked", "runs"};
	if (k->fd < 0)
		return;
	int fd[2] = {monitor, gw__keeper_to_file(known)};
	if (fd[1] < 0)
		return;
	gw__keeper_say(k->fd,
		json_pack("{s:s, s:i, s:o, s:[s, s]}", "keep", names[phase], "qemu", (int)gw__keeper_peer(monitor), "image",
			gw__keeper_text(image), "fds", "monitor", "known"),
		fd, 2);
	close(fd[1]);
}

void gw__keeper_hold(struct gw__keeper *k, int link)
{
	if (k->fd >= 0)
		gw__keeper_say(k->fd, json_pack("{s:b, s:[s]}", "link", 1, "fds", "link"), &link, 1);
}

void gw__keeper_let_go(struct gw__keeper *k)
{
	if (k->fd >= 0)
		gw__keeper_say(k->fd, json_pack("{s:b}", "link", 0), NULL, 0);
}

void gw__keeper_let_go_soon(struct gw__keeper *k)
{
	if (k->fd >= 0)
		gw__keeper_say(k->fd, json_pack("{s:b}", "resumed", 1), NULL, 0);
}

void gw__keeper_dismiss(struct gw__keeper *k)
{
	struct gw__keeper_message m;
	if (k->fd < 0)
		return;
	gw__keeper_say(k->fd, json_pack("{s:b}", "bye", 1), NULL, 0);
	if (!gw__keeper_hear(k->fd, GW__KEEPER_ANSWER_MS, &m)) /* it says nothing: the end of the connection is its end */
		gw__keeper_message_fini(&m);
	gw__keeper_leave(k);
}

void gw__keeper_leave(struct gw__keeper *k)
{
	if (k->fd >= 0)
		close(k->fd);
	k->fd = -1;
}
