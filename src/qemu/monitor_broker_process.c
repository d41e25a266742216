/* SPDX-License-Identifier: MIT */
/*
 * The monitor broker itself: a process of its own session that waits for page servers, one at a time. See monitor_broker.h.
 *
 * Attached to a page server it does not touch the monitor; what it does with it alone is in monitor_broker_watch.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qemu/monitor_broker_private.h"
#include "qemu/descriptors.h"
#include "qmp/sleep.h"

enum {
	TICK_MS = 1000,
	NOBODY_S = 5,            /* to be attached to for the first time */
	GREETING_MS = 2000,      /* for a client to say what it wants */
	RESUMED_MS = 200,        /* before a link may end (docs/spec/postcopy.md 5) */
	AGAIN_MS = 100,          /* between two attempts to take a client for which there is no descriptor */
	TURN_COMMANDS = 1 << 20, /* numbers of commands for each turn */
};

struct broker {
	int listener, client, server, monitor, known, link; /* -1: none; client: who is not answered yet */
	const char *path, *address;
	struct stat socket; /* the file at `path`, as long as it is ours */
	char folder[32], image[256];
	int folder_fd; /* of `folder`, whatever is at its path by now; -1: there is none */
	pid_t server_pid, qemu;
	json_int_t epoch;
	bool may_be_needed;                    /* QEMU was asked for something */
	bool resumed;                          /* the link is held for RESUMED_MS more */
	struct gw__monitor_broker_watch watch; /* while no page server is attached */
	struct timespec born;
};

static volatile sig_atomic_t told_to_end;

static void on_end(int number) { told_to_end = number; }

static void forget(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Whatever was inherited would hold a file, a socket or a pipe open whose end somebody waits for. */
static void become_alone(struct broker *k)
{
	struct sigaction end = {.sa_handler = on_end}, none = {.sa_handler = SIG_IGN};
	int null = open("/dev/null", O_RDWR);
	setsid();
	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGINT, &none, NULL);
	sigaction(SIGHUP, &none, NULL);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	gw__close_all_but(&k->listener, 1);
	prctl(PR_SET_NAME, "godwit-broker");
	if (chdir("/")) /* a folder that is removed meanwhile matters less than a mount that cannot be */
		return;
}

/* The path may be another's by now: whoever found nobody listening has bound it anew. */
static void remove_socket(struct broker *k)
{
	char folder[GW__MONITOR_BROKER_PATH_BYTES];
	forget(&k->listener);
	forget(&k->client); /* it may wait for our answer under the lock */
	snprintf(folder, sizeof folder, "%s", k->path);
	*strrchr(folder, '/') = 0;
	int lock = gw__monitor_broker_lock(folder, NULL);
	if (lock >= 0 && gw__monitor_broker_is_at(k->path, &k->socket))
		unlink(k->path);
	forget(&lock);
}

static void end(struct broker *k)
{
	remove_socket(k);
	gw__monitor_broker_remove_private(k->folder, k->folder_fd);
	gw__monitor_broker_watch_end(&k->watch);
	_exit(0); /* closes the connection of whoever waits for it */
}

/* --- page servers --- */

static void on_keep(struct broker *k, struct gw__monitor_broker_message *m)
{
	const char *phase = json_string_value(json_object_get(m->json, "keep"));
	const char *image = json_string_value(json_object_get(m->json, "image"));
	forget(&k->monitor);
	forget(&k->known);
	k->monitor = gw__monitor_broker_message_take(m, "monitor");
	k->known = gw__monitor_broker_message_take(m, "known");
	k->qemu = (pid_t)json_integer_value(json_object_get(m->json, "qemu"));
	k->may_be_needed = phase && strcmp(phase, "idle");
	snprintf(k->image, sizeof k->image, "%s", image ? image : "");
}

static void hold(struct broker *k, int link)
{
	forget(&k->link);
	k->link = link;
	k->resumed = false;
}

/* The link must not end without a first word; one more does no harm. What was not even connected needs none. */
static void speak_for_the_dead(struct broker *k)
{
	static const uint8_t ping[] = {0x08, 0x00, 0x02, 0x00, 0x04, 0x00, 0x00, 0x00, 0x01}; /* docs/spec/postcopy.md 2 */
	if (k->link >= 0 && send(k->link, ping, sizeof ping, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		forget(&k->link);
}

/* After RESUME_ACK pages go out, and no word may come into one that was cut short. */
static void settle_link(struct broker *k)
{
	if (!k->resumed) {
		speak_for_the_dead(k);
		return;
	}
	gw__sleep_ms(RESUMED_MS);
	hold(k, -1);
}

static void on_server_gone(struct broker *k)
{
	settle_link(k);
	forget(&k->server);
	k->server_pid = 0;
	if (k->monitor < 0)
		end(k);
	k->epoch++;
	gw__monitor_broker_watch_begin(&k->watch, k->monitor, k->known, k->epoch * TURN_COMMANDS);
	if (k->may_be_needed)
		return;
	gw__monitor_broker_watch_put_back(&k->watch);
	end(k);
}

/* One message; false when there is none at the moment. */
static bool on_server(struct broker *k)
{
	struct gw__monitor_broker_message m;
	int r = gw__monitor_broker_receive(k->server, 0, &m);
	if (r == -ETIMEDOUT)
		return false;
	if (r) {
		on_server_gone(k);
		return true;
	}
	if (json_object_get(m.json, "keep"))
		on_keep(k, &m);
	if (json_object_get(m.json, "link"))
		hold(k, gw__monitor_broker_message_take(&m, "link"));
	if (json_object_get(m.json, "resumed"))
		k->resumed = k->link >= 0;
	bool bye = json_object_get(m.json, "bye");
	gw__monitor_broker_message_fini(&m);
	if (bye)
		end(k);
	return true;
}

static int say_info(const struct broker *k, int client)
{
	return gw__monitor_broker_send(client,
		json_pack("{s:i, s:i, s:i, s:o, s:o, s:s}", "pid", (int)getpid(), "server", (int)k->server_pid, "qemu", (int)k->qemu,
			"address", gw__monitor_broker_text(k->address), "image", gw__monitor_broker_text(k->image), "folder", k->folder),
		NULL, 0);
}

/* The monitor changes hands here: from now on only the page server reads it. */
static int attach(struct broker *k, int client)
{
	int fd[] = {k->monitor, k->known, k->link};
	bool any = k->monitor >= 0;
	gw__monitor_broker_watch_end(&k->watch);
	k->epoch++;
	json_t *names = any ? json_pack("[s, s, s]", "monitor", "known", "link") : json_array();
	return gw__monitor_broker_send(client,
		json_pack("{s:I, s:s, s:o}", "turn", k->epoch * TURN_COMMANDS, "folder", k->folder, "fds", names), fd,
		!any          ? 0
		: k->link < 0 ? 2
			      : 3);
}

static void answer(struct broker *k, int client, const char *want)
{
	if (!strcmp(want, "info")) {
		say_info(k, client);
		close(client);
		return;
	}
	if (k->server >= 0) {
		gw__monitor_broker_send(client, json_pack("{s:i}", "busy", (int)k->server_pid), NULL, 0);
		close(client);
		return;
	}
	k->server = client;
	k->server_pid = gw__monitor_broker_peer(client);
	if (attach(k, client))
		on_server_gone(k);
}

static bool is_ours(int client)
{
	struct ucred peer;
	socklen_t n = sizeof peer;
	return !getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &n) && (peer.uid == geteuid() || peer.uid == 0);
}

static void on_client(struct broker *k)
{
	struct gw__monitor_broker_message m;
	k->client = accept4(k->listener, NULL, NULL, SOCK_CLOEXEC);
	if (k->client < 0) {
		if (gw__error_is_shortage(-errno)) /* it is still there, and the next look would find it immediately */
			gw__sleep_ms(AGAIN_MS);
		return;
	}
	if (!is_ours(k->client) || gw__monitor_broker_receive(k->client, GREETING_MS, &m)) {
		forget(&k->client);
		return;
	}
	while (k->server >= 0 && on_server(k)) /* its end may follow its last words */
		;
	const char *want = json_string_value(json_object_get(m.json, "want"));
	int client = k->client;
	k->client = -1;
	if (want)
		answer(k, client, want);
	else
		close(client);
	gw__monitor_broker_message_fini(&m);
}

/* Nobody is attached: is there anything left to keep? */
static bool is_over(struct broker *k)
{
	if (k->monitor < 0) /* whoever started it has gone without a word */
		return gw__monotonic_seconds_since(&k->born) >= NOBODY_S;
	return gw__monitor_broker_watch_look(&k->watch);
}

static void serve(struct broker *k)
{
	for (;;) {
		bool alone = k->server < 0;
		struct pollfd p[] = {
			{.fd = k->server, .events = POLLIN},
			{.fd = k->listener, .events = POLLIN},
			{.fd = alone ? k->monitor : -1, .events = k->watch.q ? POLLIN | POLLRDHUP : POLLRDHUP},
		};
		int n = poll(p, 3, alone ? TICK_MS : k->resumed ? RESUMED_MS : -1);
		if (told_to_end)
			end(k);
		if (n == 0 && k->resumed)
			hold(k, -1);
		if (n < 0)
			continue;
		if (p[0].revents)
			on_server(k);
		if (p[2].revents & (POLLRDHUP | POLLHUP | POLLERR))
			end(k);
		if (p[1].revents)
			on_client(k);
		if (k->server < 0 && is_over(k))
			end(k);
	}
}

void gw__monitor_broker_run(int listener, const char *path, const char *address)
{
	struct broker k = {.listener = listener,
		.client = -1,
		.server = -1,
		.monitor = -1,
		.known = -1,
		.link = -1,
		.path = path,
		.address = address,
		.born = gw__monotonic_now()};
	become_alone(&k);
	if (lstat(path, &k.socket) ||
		listen(listener, GW__MONITOR_BROKER_QUEUE)) /* again: from now on it is us who is asked there (SO_PEERCRED) */
		_exit(1);
	k.folder_fd = gw__monitor_broker_make_private(k.folder);
	serve(&k);
}
