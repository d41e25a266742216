/* SPDX-License-Identifier: MIT */
/* Releases a primary whose guard was killed or stands still; see protect_guard.h. */
#include "qemu/protect_guard.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
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

enum {
	RELEASE_MS = 60000,
	MONITOR_MS = 5000, /* until it is connected again */
	LOOK_MS = 100,
	LATE_MS = 5000, /* of a deadman */
	DISMISSED = 'k',
	READY = 'r',
};
#define FIRST_ID ((json_int_t)1 << 40) /* above every number that the first process has used */
#define NO_SIGN  UINT64_C(0xffffffff)  /* yet: number 0, and no limit */

struct post {
	int fd, monitor, first; /* first: the pidfd of the first process */
	const struct gw__protect_guard_shared *shared;
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
				"its lease is over, and its QEMU has not ended; packets of the guest are held back: end that QEMU by hand");
	}
	return 0;
}

static int release_over(struct gw__qmp *q, const struct post *p, struct gw__error *error)
{
	enum gw__protect_changed changed = atomic_load(&p->shared->changed);
	int r = 0;
	if (changed == GW__PROTECT_CHANGED_MIGRATION)
		r = gw__colo_release(q, RELEASE_MS, error);
	gw__qmp_set_call_limit(q, GW__QMP_CALL_MS);
	int certain = r == -ECONNRESET ? r : await_end(q, p->o->deadline_ns, r ? NULL : error);
	if (certain)
		return certain;
	int passes = r == -ECONNRESET ? r : gw__net_buffers_remove(q, r ? NULL : error);
	r = r ? r : passes;
	int alone = r == -ECONNRESET ? r : gw__mirror_remove(q, r ? NULL : error);
	r = r ? r : alone;
	if (!r && changed != GW__PROTECT_CHANGED_DISKS)
		r = gw__qmp_settings_restore(q, p->o->before, error);
	return r;
}

/* A connection that broke proves nothing of QEMU. */
static int release(const struct post *p, struct gw__error *error)
{
	struct gw__qmp *q = NULL;
	int r = gw__qmp_take_over(p->monitor, p->known, FIRST_ID, &q, error);
	if (r)
		return r;
	r = release_over(q, p, error);
	gw__qmp_close(q);
	if (r != -ECONNRESET)
		return r;
	gw__error_clear(error);
	r = gw__protect_monitor_open_again(p->o->monitor, MONITOR_MS, &q, error);
	if (r)
		return r;
	r = release_over(q, p, error);
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

/* Its deadman ends the guest if nobody beats. */
static bool is_leased(const struct post *p) { return p->o->deadline_ns && atomic_load(p->o->deadline_ns) != UINT64_MAX; }

/* A process that is killed says no word more; it may have said that all is well just before. */
static void kill_first(const struct post *p, unsigned quiet_ms, struct gw__error *why)
{
	struct pollfd death = {.fd = p->first, .events = POLLIN};
	gw__error_set(why, -ETIMEDOUT, "it gave no sign of life for %u ms", quiet_ms);
	pidfd_send_signal(p->first, SIGKILL, NULL, 0);
	while (poll(&death, 1, -1) < 0 && errno == EINTR)
		;
}

/* Until the first process has said a word, is dead, or stands still and was killed for that. */
static void watch_first(const struct post *p, struct gw__error *why)
{
	struct pollfd word = {.fd = p->fd, .events = POLLIN};
	uint64_t last = NO_SIGN;
	for (unsigned quiet_ms = 0;;) {
		int n = poll(&word, 1, LOOK_MS);
		if (n < 0 && errno == EINTR)
			continue;
		if (n)
			return;
		uint64_t now = atomic_load(&p->shared->life);
		quiet_ms = now == last ? quiet_ms + LOOK_MS : 0;
		last = now;
		if (quiet_ms <= (uint32_t)now || is_leased(p))
			continue;
		kill_first(p, quiet_ms, why);
		return;
	}
}

static void stand(const struct post *p)
{
	struct gw__error error = {0}, why = {0};
	setsid(); /* out of reach of what is sent to our group */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_NAME, "godwit-release");
	gw__close_all_but((const int[]){p->fd, p->monitor, p->first, p->o->keep_fd, p->o->monitor->process}, 5);
	/* A first process that is dead already may have changed something: this may be a successor. */
	bool heard = send_word(p->fd, READY);
	if (heard)
		watch_first(p, &why);
	if (heard && read_word(p->fd) == DISMISSED)
		_exit(0);
	int r = release(p, &error);
	gw__relay_remove_left(p->o->relay);
	p->o->report(p->o->ctx, r, r ? &error : &why);
	_exit(r != 0);
}

static void forget(struct gw__protect_guard *g)
{
	close(g->fd);
	if (g->pid)
		waitpid(g->pid, NULL, 0);
	munmap(g->shared, sizeof *g->shared);
	*g = (struct gw__protect_guard){0};
}

/* What both have; `theirs`: the other end of the pair. */
static int prepare(struct gw__protect_guard *g, enum gw__protect_changed changed, int *theirs, struct gw__error *error)
{
	int pair[2];
	void *shared = mmap(NULL, sizeof *g->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return gw__error_errno(error, errno, "cannot share memory with the second process");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
		int err = errno;
		munmap(shared, sizeof *g->shared);
		return gw__error_errno(error, err, "cannot make a socket pair");
	}
	*g = (struct gw__protect_guard){.fd = pair[1], .shared = shared};
	atomic_init(&g->shared->life, NO_SIGN);
	atomic_init(&g->shared->changed, changed);
	*theirs = pair[0];
	return 0;
}

static int start(struct gw__protect_guard *g, struct post *p, struct gw__qmp *q, struct gw__error *error)
{
	p->first = pidfd_open(getpid(), 0);
	if (p->first < 0)
		return gw__error_errno(error, errno, "the second process cannot watch the first one");
	p->known = gw__qmp_handoff_state(q);
	g->pid = p->known ? fork() : -1;
	if (g->pid == 0)
		stand(p);
	int err = errno;
	json_decref(p->known);
	close(p->first);
	if (g->pid > 0)
		return 0;
	g->pid = 0;
	return gw__error_errno(error, err, "cannot start the second process");
}

int gw__protect_guard_start(struct gw__protect_guard *g, struct gw__qmp *q, const struct gw__protect_guard_opts *o, struct gw__error *error)
{
	struct post post = {.monitor = gw__qmp_fd(q), .o = o};
	int r = prepare(g, o->changed, &post.fd, error);
	if (r)
		return r;
	post.shared = g->shared;
	r = start(g, &post, q, error);
	close(post.fd);
	if (!r && read_word(g->fd) == READY)
		return 0;
	if (!r) {
		kill(g->pid, SIGKILL); /* if we merely did not hear it, it would take our end for a death */
		r = gw__error_set(error, -ECHILD, "the second process ended before it had begun");
	}
	forget(g);
	return r;
}

void gw__protect_guard_beat(struct gw__protect_guard *g, int limit_ms)
{
	if (g->pid)
		atomic_store(&g->shared->life, ((atomic_load(&g->shared->life) >> 32) + 1) << 32 | (uint32_t)limit_ms);
}

void gw__protect_guard_note(struct gw__protect_guard *g, enum gw__protect_changed changed)
{
	if (g->pid)
		atomic_store(&g->shared->changed, changed);
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
	forget(g);
}
