/* SPDX-License-Identifier: MIT */
/* Puts a QEMU back in order after a save that failed or was killed; see watchdog.h. */
#include "qemu/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qemu/descriptors.h"
#include "qemu/file_set.h"
#include "qemu/guest_outcome.h"
#include "qemu/surrogate_destination.h"
#include "qmp/sleep.h"

enum {
	POLL_MS = 50,
	FINAL_MS = 5000,
	CANCEL_MS = 20000,  /* for a cancelled migration to end */
	CONNECT_MS = 30000, /* for the monitor to be free again after our end */
	KILLED_PATIENCE_MS = 5000,
	REPAIRS = 5, /* of a monitor that breaks again */
};

int gw__watchdog_check_hang(struct gw__qmp *q, struct gw__error *error)
{
	struct gw__qmp_migration m;
	struct gw__qmp_status run;
	if (!gw__qmp_has_quirk(q, GW__QUIRK_HANGS_BEHIND_LAST_PAGE) || gw__qmp_query_migrate(q, &m, NULL) ||
		gw__qmp_query_status(q, &run, NULL))
		return 0;
	bool sent_all = run.state == GW__RUN_STATE_FINISH_MIGRATE && !m.remaining_bytes;
	if (!sent_all || (m.state != GW__MIGRATION_POSTCOPY_ACTIVE && m.state != GW__MIGRATION_CANCELLING))
		return 0;
	return gw__error_set(error, -ENOLINK,
		"QEMU has sent all pages but hangs (migration status \"%s\"): QEMU releases before 10.0 hang if the link breaks after the "
		"last page",
		m.status);
}

static int wait_until_over(struct gw__qmp *q, int patience_ms, struct gw__error *error)
{
	for (int waited = 0;; waited += POLL_MS) {
		struct gw__qmp_migration m;
		int r = gw__qmp_query_migrate(q, &m, error);
		if (r)
			return r;
		if (m.ended || m.state == GW__MIGRATION_NONE)
			return 0;
		if (m.state == GW__MIGRATION_POSTCOPY_PAUSED)
			return GW__WATCHDOG_PAUSED;
		if (waited >= patience_ms + CANCEL_MS || (waited >= patience_ms && gw__watchdog_check_hang(q, NULL)))
			return gw__error_set(error, -ETIMEDOUT, "the migration does not end (status \"%s\")", m.status);
		if (waited >= patience_ms && waited < patience_ms + POLL_MS)
			gw__qmp_call(q, "migrate_cancel", NULL, NULL, NULL);
		gw__sleep_ms(POLL_MS);
	}
}

/* A migration leaves other names behind than a user's stop, a panic or a suspend do. */
static bool is_ours_to_start(const struct gw__qmp_status *s, struct gw__was was)
{
	if (s->running || !was.running)
		return false;
	return s->state == GW__RUN_STATE_POSTMIGRATE || s->state == GW__RUN_STATE_FINISH_MIGRATE ||
	       (s->state == GW__RUN_STATE_PAUSED && was.stopped_by_us);
}

static int try_let_run(struct gw__qmp *q, struct gw__was was, struct gw__error *error)
{
	struct gw__qmp_status s;
	int r = gw__qmp_query_status(q, &s, error);
	if (r || !is_ours_to_start(&s, was))
		return r;
	return gw__qmp_call(q, "cont", NULL, NULL, error);
}

/* "Migration is not finalized yet", says 11.1 for a moment after its end (docs/spec/channels.md 5.4). */
int gw__watchdog_let_run(struct gw__qmp *q, struct gw__was was, struct gw__error *error)
{
	for (int waited = 0;; waited += POLL_MS) {
		struct gw__error last = {0};
		int r = try_let_run(q, was, &last);
		if (!r)
			return 0;
		if (r != -EREMOTEIO || waited >= FINAL_MS)
			return gw__error_set(error, r, "%s", last.text);
		gw__sleep_ms(POLL_MS);
	}
}

int gw__watchdog_repair(struct gw__qmp *q, const struct gw__qmp_settings *before, struct gw__was was, int patience_ms,
	struct gw__error *error)
{
	int r = wait_until_over(q, patience_ms, error);
	if (r == GW__WATCHDOG_PAUSED)
		return r;
	int ran = gw__watchdog_let_run(q, was, error); /* the guest first, and in any case */
	int set = gw__qmp_settings_restore(q, before, error);
	return r ? r : ran ? ran : set;
}

/* Whoever serves the monitor may go away meanwhile, more than once. */
static int repair_patiently(const struct gw__watchdog_post *p, struct gw__qmp **q, struct gw__error *error)
{
	for (int tries = 0;; tries++) {
		gw__error_clear(error);
		int r = gw__qmp_open_again(p->address, CONNECT_MS, p->identity, q, error);
		if (!r)
			r = gw__watchdog_repair(*q, p->before, p->was, p->direct ? 0 : KILLED_PATIENCE_MS, error);
		if (!r && p->direct)
			r = gw__file_set_remove(*q, error);
		if (r != -ECONNRESET || tries == REPAIRS)
			return r;
		gw__qmp_close(*q);
		*q = NULL;
	}
}

/* Is there a part of the guest that somebody can go on with, or already does? Only what is certainly not there is not. */
static bool is_held(const char *image)
{
	void *note = NULL;
	size_t n;
	gw_job *job = NULL;
	int r = image ? gw_job_new(&job) : -ENOENT;
	if (!r)
		r = gw_partial_user_data(job, image, &note, &n);
	free(note);
	gw_job_free(job);
	return r != -ENOENT && r != -EPROTO; /* the latter: begun, and never held */
}

static int report(const struct gw__watchdog_post *p, enum gw_qemu_save_outcome outcome, const char *error)
{
	struct gw_qemu_guard_report r = {.size = sizeof r, .outcome = outcome, .monitor = p->address, .path = p->image, .error = error};
	struct gw_qemu_save_result save = {.outcome = outcome, .was_running = p->was.running};
	r.guest = gw__guest_after_save(p->was.running ? GW_PLACE_SOURCE_RUNS : GW_PLACE_SOURCE_PAUSED, &save);
	return p->on_end ? p->on_end(p->ctx, &r) : 0;
}

static int repair_after_death(const struct gw__watchdog_post *p)
{
	const char *image = p->may_switch ? p->image : NULL;
	struct gw__error error = {0};
	struct gw__qmp *q = NULL;
	int r = repair_patiently(p, &q, &error);
	struct gw__error hang = {0};
	if (q && r == -ETIMEDOUT && is_held(image))
		gw__watchdog_check_hang(q, &hang);
	gw__qmp_close(q);
	if (hang.code)
		return report(p, GW_QEMU_SAVE_HUNG, hang.text);
	if (r == GW__WATCHDOG_PAUSED && !is_held(image)) { /* it was killed before there was anything to go on with */
		r = gw__qmp_open_again(p->address, CONNECT_MS, p->identity, &q, &error);
		if (!r)
			r = gw__surrogate_rollback(q, p->before, p->was, (struct gw__surrogate_link){p->listen, p->tls}, &error);
		gw__qmp_close(q);
	}
	if (r == GW__WATCHDOG_PAUSED)
		return report(p, GW_QEMU_SAVE_PAUSED, "");
	return report(p, r ? GW_QEMU_SAVE_NOT_PUT_BACK : GW_QEMU_SAVE_FAILED, error.text);
}

/* The record. */
enum { RECORD_RUNNING = 1, RECORD_STOPPED_BY_US = 2, RECORD_RELIEVED = 4 };

static unsigned record_of(struct gw__was was)
{
	return (was.running ? RECORD_RUNNING : 0u) | (was.stopped_by_us ? RECORD_STOPPED_BY_US : 0u);
}

/* Until nobody holds the other end; then the record says how it was. */
static void watch(int fd, const _Atomic unsigned *record, struct gw__watchdog_post *p)
{
	char none;
	ssize_t n;
	do
		n = read(fd, &none, 1);
	while (n > 0 || (n < 0 && errno == EINTR));
	unsigned last = atomic_load(record);
	if (last & RECORD_RELIEVED)
		_exit(0);
	p->was = (struct gw__was){last & RECORD_RUNNING, last & RECORD_STOPPED_BY_US};
	gw__private_socket_remove(p->own);
	_exit(repair_after_death(p));
}

/* Who waits for a word that does not come would wait for ever, and we for him; nothing was changed yet. */
static void take_post(int fd)
{
	setsid(); /* out of reach of what is sent to our group */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	gw__close_all_but(&fd, 1); /* whatever was inherited would keep a socket open whose end QEMU is to notice */
	ssize_t n;
	do
		n = send(fd, "r", 1, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(1);
}

static _Atomic unsigned *make_record(struct gw__was was)
{
	_Atomic unsigned *record = mmap(NULL, sizeof *record, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (record == MAP_FAILED)
		return NULL;
	atomic_init(record, record_of(was));
	return record;
}

static void end_record(struct gw__watchdog *g)
{
	munmap((void *)g->record, sizeof *g->record);
	g->record = NULL;
}

/* Nothing may be changed before it stands: a signal to the whole group would still end both. */
static int await_post(struct gw__watchdog *g, struct gw__error *error)
{
	char word;
	ssize_t n;
	do
		n = read(g->fd, &word, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return 0;
	kill(g->pid, SIGKILL); /* if we merely did not hear it, it would take our end for a death */
	close(g->fd);
	waitpid(g->pid, NULL, 0);
	g->pid = 0;
	end_record(g);
	return gw__error_set(error, -ECHILD, "the guard process ended before it had begun");
}

int gw__watchdog_start(struct gw__watchdog *g, const struct gw__watchdog_post *post, struct gw__error *error)
{
	int pair[2];
	*g = (struct gw__watchdog){.record = make_record(post->was)};
	if (!g->record)
		return gw__error_errno(error, errno, "no memory for the guard process");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
		int err = errno;
		end_record(g);
		return gw__error_errno(error, err, "cannot make a socket pair");
	}
	pid_t pid = fork();
	if (pid < 0) {
		int err = errno;
		close(pair[0]);
		close(pair[1]);
		end_record(g);
		return gw__error_errno(error, err, "cannot start the guard process");
	}
	if (pid == 0) {
		take_post(pair[0]);
		struct gw__watchdog_post own = *post;
		watch(pair[0], g->record, &own);
	}
	close(pair[0]);
	g->pid = pid;
	g->fd = pair[1];
	return await_post(g, error);
}

void gw__watchdog_tell(struct gw__watchdog *g, struct gw__was was)
{
	if (g->pid)
		atomic_store(g->record, record_of(was));
}

void gw__watchdog_dismiss(struct gw__watchdog *g)
{
	if (!g->pid)
		return;
	atomic_fetch_or(g->record, RECORD_RELIEVED);
	close(g->fd);
	waitpid(g->pid, NULL, 0);
	g->pid = 0;
	end_record(g);
}
