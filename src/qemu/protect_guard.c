/* SPDX-License-Identifier: MIT */
/* Releases a primary whose guard was killed; see protect_guard.h. */
#include "qemu/protect_guard.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/conditions.h"
#include "qemu/colo_release.h"
#include "qemu/deadman.h"
#include "qemu/descriptors.h"
#include "qemu/mirror.h"
#include "qemu/net_buffers.h"

enum { RELEASE_MS = 60000, LOOK_MS = 100, LATE_MS = 5000 /* of a deadman */, DISMISSED = 'k', READY = 'r' };
#define FIRST_ID ((json_int_t)1 << 40) /* above every number that the first process has used */

struct post {
	int fd, monitor;
	json_t *known;
	const struct gw__protect_guard_opts *o; /* its relay is as it was: the threads are the first process's */
};

/* Nobody beats the lease any more. A guest that is to be ended for that keeps what it sent until then. */
static int await_end(struct gw__qmp *q, const _Atomic uint64_t *deadline_ns, struct gw__error *error)
{
	json_t *event;
	uint64_t end = deadline_ns ? atomic_load(deadline_ns) : UINT64_MAX;
	while (end != UINT64_MAX) {
		int r = gw__qmp_event(q, LOOK_MS, &event, NULL);
		if (r && r != GW__NOTHING_CAME)
			return -ECONNRESET;
		if (!r)
			json_decref(event);
		if (gw__boottime_ns() > end && gw__boottime_ns() - end > LATE_MS * UINT64_C(1000000))
			return gw__error_set(error, -EBUSY,
				"its lease is over, and its QEMU has not ended; what the guest sends is held back: end it by hand");
	}
	return 0;
}

static int release(const struct post *p, struct gw__error *error)
{
	struct gw__qmp *q = NULL;
	int r = gw__qmp_take_over(p->monitor, p->known, FIRST_ID, &q, error);
	if (r)
		return r;
	r = gw__colo_release(q, RELEASE_MS, error);
	gw__qmp_set_call_limit(q, GW__QMP_CALL_MS);
	int certain = r == -ECONNRESET ? r : await_end(q, p->o->deadline_ns, r ? NULL : error);
	if (certain) {
		gw__qmp_close(q);
		return certain;
	}
	int passes = r == -ECONNRESET ? r : gw__net_buffers_remove(q, r ? NULL : error);
	r = r ? r : passes;
	int alone = r == -ECONNRESET ? r : gw__mirror_remove(q, r ? NULL : error);
	r = r ? r : alone;
	if (!r)
		r = gw__qmp_settings_restore(q, p->o->before, error);
	gw__qmp_close(q);
	return r;
}

static char read_word(int fd)
{
	char word = 0;
	ssize_t n;
	do
		n = read(fd, &word, 1);
	while (n < 0 && errno == EINTR);
	return n == 1 ? word : 0;
}

static bool send_word(int fd, char word)
{
	ssize_t n;
	do
		n = send(fd, &word, 1, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

static void stand(const struct post *p)
{
	struct gw__error error = {0};
	setsid(); /* out of reach of what is sent to our group */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_NAME, "godwit-release");
	gw__close_all_but((const int[]){p->fd, p->monitor, p->o->keep_fd}, 3);
	/* A first process that is dead already may have changed something: this may be a successor. */
	if (send_word(p->fd, READY) && read_word(p->fd) == DISMISSED)
		_exit(0);
	int r = release(p, &error);
	gw__relay_remove_left(p->o->relay);
	p->o->report(p->o->ctx, r, &error);
	_exit(r != 0);
}

int gw__protect_guard_start(struct gw__protect_guard *g, struct gw__qmp *q, const struct gw__protect_guard_opts *o, struct gw__error *error)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return gw__error_errno(error, errno, "cannot make a socket pair");
	json_t *known = gw__qmp_handoff_state(q);
	pid_t pid = known ? fork() : -1;
	if (pid == 0)
		stand(&(struct post){pair[0], gw__qmp_fd(q), known, o});
	int err = errno;
	json_decref(known);
	close(pair[0]);
	if (pid < 0) {
		close(pair[1]);
		return gw__error_errno(error, err, "cannot start the second process");
	}
	*g = (struct gw__protect_guard){pid, pair[1]};
	if (read_word(g->fd) == READY)
		return 0;
	kill(g->pid, SIGKILL); /* if we merely did not hear it, it would take our end for a death */
	close(g->fd);
	waitpid(g->pid, NULL, 0);
	*g = (struct gw__protect_guard){0};
	return gw__error_set(error, -ECHILD, "the second process ended before it had begun");
}

bool gw__protect_guard_lives(const struct gw__protect_guard *g)
{
	struct pollfd p = {.fd = g->fd, .events = POLLIN};
	return g->pid && poll(&p, 1, 0) == 0;
}

void gw__protect_guard_dismiss(struct gw__protect_guard *g)
{
	if (!g->pid)
		return;
	if (!send_word(g->fd, DISMISSED))
		kill(g->pid, SIGKILL); /* it would take our end for a death */
	close(g->fd);
	waitpid(g->pid, NULL, 0);
	*g = (struct gw__protect_guard){0};
}
