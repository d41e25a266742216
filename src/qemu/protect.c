/* SPDX-License-Identifier: MIT */
/* The protection of one guest, from the first copy to the last release; see protect.h. */
#include "qemu/protect.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <godwit-qemu.h>

#include "base/math.h"
#include "qemu/colo_release.h"
#include "qemu/disk_link.h"
#include "qemu/guard_report.h"
#include "qemu/lease_keeper.h"
#include "qemu/mirror.h"
#include "qemu/net_buffers.h"
#include "qemu/owner_lock.h"
#include "qemu/protect_instance.h"
#include "qemu/protect_monitor.h"
#include "qemu/protect_preflight.h"
#include "qemu/protect_settings.h"
#include "qemu/qemu_process.h"
#include "qemu/relay.h"
#include "qemu/server_probe.h"
#include "qemu/standby_address.h"
#include "qmp/sleep.h"

enum {
	CONNECT_MS = 10000,
	LOOK_MS = 50,       /* between two looks at the clock */
	ASK_MS = 200,       /* between two questions how far the first copy is */
	ANSWER_MS = 100,    /* for a command while the guest may stand still, which QEMU may not answer then */
	SETUP_MS = 10000,   /* to reach the standby */
	STALL_MS = 20000,   /* in which the standby takes nothing of the first copy */
	RELEASE_MS = 60000, /* in the end; it takes some milliseconds */
	PAUSE_MS = 500,     /* between two attempts, doubled up to */
	PAUSE_MAX_MS = 8000,
	EVENTS_MS = 200,  /* for an event to arrive that is on its way */
	QUIET_MS = 1000,  /* for which this process may do without the processor, at least */
	DISKS_MS = 60000, /* to ask the standby to take the disks; the guest runs, and nothing holds it up yet */
	MAX_PASSES = 40,  /* a guest that dirties faster than the standby receives is stopped for as long as is allowed */
	DEATH_MS = 5000,  /* of a QEMU that has closed its monitor, or until that is open again */
	ENDING_MS = 1000, /* of one that was shut down, and whose process is not known */
	MONITORS = 3,     /* one after the other, to undo an attempt */
	LEASE_MS = 5000,  /* to tell the lease's store that the guest runs on without a limit */
	FREE_MS = 3000,   /* to tell that it is dead; who waits finds out by himself */
	REPORT_MS = 250,  /* between two reports to the standby, at least */
	NOTE_MS = 500,    /* without a word from the lease's store, after which its user is told that nothing leaves */
};

enum phase { COPYING, PROTECTED, OVER };
enum why { GO_ON, ASKED, LOST, BUSY, GONE };

/* From migrate to release; one attempt. */
struct watch {
	enum phase phase;
	bool stopped;        /* the guest stands still, and nobody but us is known to be why */
	double stopped_s;    /* since when, by our clock */
	uint64_t stopped_us; /* by QEMU's */
	double began_s, asked_s, moved_s, checkpoint_s;
	uint64_t moved_bytes, checkpoints, pause_us;
	bool pushed, exited, mirror_failed;
	char status[48]; /* of the migration, as its events say */
	enum gw__qmp_migration_state state;
};

struct gw__protect {
	struct gw__protect_opts o;
	char name[256];
	struct gw__qmp *qmp;
	struct gw__qmp_settings *before;
	enum gw__protect_changed changed; /* of an attempt */
	bool shut_down;                   /* the guest was, and has not been reset since */
	bool has_left;                    /* it was migrated by its user, while it was not protected, and does not run here since */
	struct gw__protect_monitor monitor;
	struct gw__protect_instance instance;
	struct gw__protect_guard guard;
	struct gw__owner_lock lock;
	struct gw__lease_keeper *lease; /* NULL: none */
	struct gw__net_buffers buffers;
	struct gw__mirror mirror;
	int disk_fd; /* to who keeps the disks at the standby; -1: none */
	char server[512];
	struct gw__server_probe probe; /* of that server */
	struct gw__relay *relay;       /* of an attempt; NULL: QEMU speaks with the standby itself */
	struct timespec start;
	struct watch w;
	uint64_t longest_us;
	double reported_s; /* when the standby was told of the guard last; 0: never */
	char reason[400];
	int hint; /* about what is told */
};

static double now_s(const struct gw__protect *p) { return gw__monotonic_seconds_since(&p->start); }

static void tell(struct gw__protect *p, enum gw__protect_event_kind kind, const char *reason)
{
	struct gw__protect_event e = {kind, reason, p->hint, p->w.checkpoints, p->w.pause_us, p->longest_us};
	p->o.on_event(p->o.ctx, &e);
}

static void note_changed(struct gw__protect *p, enum gw__protect_changed changed)
{
	p->changed = changed;
	gw__protect_guard_note(&p->guard, changed);
}

/* --- events --- */

static void on_stop(struct gw__protect *p, const json_t *event)
{
	struct watch *w = &p->w;
	w->stopped = true;
	w->stopped_s = w->checkpoint_s = now_s(p);
	w->stopped_us = gw__qmp_event_us(event);
}

/* What the standby cannot know, for those who look at it. */
static void print_report(const struct gw__protect *p, char words[GW__GUARD_REPORT_BYTES])
{
	const _Atomic uint64_t *end_ns = gw__lease_keeper_deadline(p->lease);
	gw__protect_report_print(&p->o, p->mirror.n, p->buffers.n, end_ns ? atomic_load(end_ns) : UINT64_MAX, words);
}

/* With disks it goes with the verdict about these. */
static void send_report(struct gw__protect *p)
{
	char folder[PATH_MAX], words[GW__GUARD_REPORT_BYTES];
	if (!p->o.dir || p->mirror.n || (p->reported_s && now_s(p) - p->reported_s < REPORT_MS / 1e3))
		return;
	p->reported_s = now_s(p);
	print_report(p, words);
	if (snprintf(folder, sizeof folder, "%s/%s", p->o.dir, p->name) < (int)sizeof folder)
		gw__guard_report_send(folder, words);
}

/* A lock elsewhere than where the standby keeps the guest would prove nothing to a failover. */
static void place_lock(struct gw__protect *p)
{
	struct gw__error error = {0};
	char text[800];
	if (gw__owner_lock_place(&p->lock, p->qmp, &error)) {
		gw__owner_lock_drop(&p->lock, p->qmp);
		tell(p, GW__PROTECT_NOTE, error.text);
	} else if (!gw__owner_lock_has_standby(&p->lock)) {
		snprintf(text, sizeof text,
			"the standby does not keep the guest in %.200s/%.200s, so its owner.lock tells a failover nothing", p->o.dir,
			p->name);
		p->hint = GW_QEMU_HINT_STANDBY_NAME;
		tell(p, GW__PROTECT_NOTE, text);
		p->hint = GW_QEMU_HINT_NONE;
	}
}

/* The first checkpoint tells that the standby has taken up epoch 0, and removed the older lock. */
static void on_resume(struct gw__protect *p, const json_t *event)
{
	struct watch *w = &p->w;
	uint64_t us = gw__qmp_event_us(event);
	if (!p->before) /* between two attempts nobody but its user lets it run */
		p->shut_down = p->has_left = false;
	if (!w->stopped)
		return;
	w->stopped = false;
	w->pause_us = us > w->stopped_us ? us - w->stopped_us : 0;
	p->longest_us = w->pause_us > p->longest_us ? w->pause_us : p->longest_us;
	if (w->phase != PROTECTED || w->exited)
		return;
	if (++w->checkpoints == 1) {
		place_lock(p);
		gw__lease_keeper_wish(p->lease, GW__LEASE_WISH_BEAT);
	}
	tell(p, GW__PROTECT_CHECKPOINT, NULL);
	send_report(p);
}

/* "colo" comes a moment before the guest runs again; that is no checkpoint. */
static void on_migration(struct gw__protect *p, const json_t *data)
{
	struct watch *w = &p->w;
	const char *status = json_string_value(json_object_get(data, "status"));
	snprintf(w->status, sizeof w->status, "%s", status ? status : "");
	w->state = gw__qmp_migration_state_of(w->status);
	if (w->phase == PROTECTED ? w->state != GW__MIGRATION_COLO : gw__qmp_has_ended(w->state))
		w->exited = true;
	/* a copy that failed while the guest ran holds nothing up: the next migration is not ours */
	if (w->phase == COPYING && w->exited && !w->stopped && p->changed == GW__PROTECT_CHANGED_MIGRATION)
		note_changed(p, GW__PROTECT_CHANGED_SETTINGS);
}

/* A guest that writes faster than the standby takes it gets one longer stop, within what is allowed. */
static void on_pass(struct gw__protect *p, const json_t *data)
{
	if (p->w.pushed || p->w.phase != COPYING || json_integer_value(json_object_get(data, "pass")) < MAX_PASSES)
		return;
	p->w.pushed = true;
	gw__qmp_call(p->qmp, "migrate-set-parameters", json_pack("{s:i}", "downtime-limit", p->o.timeout_ms / 2), NULL, NULL);
}

static void on_event(struct gw__protect *p, const json_t *event)
{
	const char *name = json_string_value(json_object_get(event, "event"));
	const json_t *data = json_object_get(event, "data");
	if (!strcmp(name, "STOP"))
		on_stop(p, event);
	else if (!strcmp(name, "RESUME"))
		on_resume(p, event);
	else if (!strcmp(name, "MIGRATION"))
		on_migration(p, data);
	else if (!strcmp(name, "MIGRATION_PASS"))
		on_pass(p, data);
	else if (!strcmp(name, "COLO_EXIT"))
		p->w.exited = true;
	else if (!strncmp(name, "BLOCK_JOB_", strlen("BLOCK_JOB_")) && strcmp(name, "BLOCK_JOB_READY"))
		p->w.mirror_failed |= gw__mirror_is_ours(json_string_value(json_object_get(data, "device")));
	else if (!strcmp(name, "SHUTDOWN")) {
		p->shut_down = true;
		tell(p, GW__PROTECT_NOTE, "its guest was shut down");
	} else if (!strcmp(name, "RESET"))
		p->shut_down = false; /* with -no-shutdown its user may let it run again, which takes a reset first */
}

static void await_something(struct gw__protect *p, int ms) /* an event, a word that the relay holds back, or a question about the disks */
{
	struct pollfd fds[3] = {{.fd = gw__qmp_fd(p->qmp), .events = POLLIN},
		{.fd = p->relay ? gw__relay_fd(p->relay) : -1, .events = POLLIN}, {.fd = p->disk_fd, .events = POLLIN}};
	poll(fds, 3, ms);
}

/* One event, if it comes within the limit. False: QEMU has gone. */
static bool take_event(struct gw__protect *p, int ms)
{
	json_t *event;
	bool alone = !p->relay && p->disk_fd < 0;
	int r = gw__qmp_event(p->qmp, alone ? ms : 0, &event, NULL);
	if (r == GW__NOTHING_CAME && !alone) {
		await_something(p, ms);
		r = gw__qmp_event(p->qmp, 0, &event, NULL);
	}
	if (r == GW__NOTHING_CAME)
		return true;
	if (r)
		return false;
	on_event(p, event);
	json_decref(event);
	return true;
}

/* What came until now; also from a QEMU that has gone. */
static void take_events(struct gw__protect *p)
{
	json_t *event;
	while (!gw__qmp_event(p->qmp, 0, &event, NULL)) {
		on_event(p, event);
		json_decref(event);
	}
}

/* The event of something that is so by now, which may be on its way. */
static void await_event(struct gw__protect *p, bool stopped)
{
	double end = now_s(p) + EVENTS_MS / 1e3;
	take_events(p);
	while (p->w.stopped != stopped && now_s(p) < end && take_event(p, 1))
		;
}

/* --- what ends an attempt --- */

GW__PRINTF(2, 3) static enum why lost(struct gw__protect *p, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	vsnprintf(p->reason, sizeof p->reason, fmt, args);
	va_end(args);
	return LOST;
}

static int left_ms(const struct gw__protect *p, double since_s, int ms)
{
	double left = ms - (now_s(p) - since_s) * 1e3;
	return left > 0 ? (int)left + 1 : 0;
}

static void set_answer_limit(struct gw__protect *p)
{
	gw__qmp_set_call_limit(p->qmp, p->o.timeout_ms / 8 < ANSWER_MS ? p->o.timeout_ms / 8 : ANSWER_MS);
}

/* The release takes its time as well. */
static int standstill_ms(const struct gw__protect *p) { return p->o.timeout_ms - p->o.timeout_ms / 4; }

static int standstill_left_ms(const struct gw__protect *p)
{
	return p->w.stopped ? left_ms(p, p->w.stopped_s, standstill_ms(p)) : standstill_ms(p);
}

/* A sign of life for the second process: what comes takes `limit_ms` at most, and then what is left for the guest to stand still. */
static void beat(void *ctx, int limit_ms)
{
	struct gw__protect *p = ctx;
	int left = standstill_left_ms(p);
	gw__protect_guard_beat(&p->guard, limit_ms + (left > QUIET_MS ? left : QUIET_MS));
}

/* Its user may stop the guest too; but then QEMU answers, and says so. */
static bool is_stopped_by_its_user(struct gw__protect *p)
{
	struct gw__qmp_status s;
	int r = gw__qmp_query_status(p->qmp, &s, NULL);
	return !r && (s.running || !gw__qmp_is_migrations(s.state));
}

static enum why check_standstill(struct gw__protect *p)
{
	if (!p->w.stopped || left_ms(p, p->w.stopped_s, standstill_ms(p)))
		return GO_ON;
	if (is_stopped_by_its_user(p)) {
		p->w.stopped = false;
		return GO_ON;
	}
	return lost(p, "the standby did not complete %s within %d ms", p->w.phase == PROTECTED ? "a checkpoint" : "the first copy",
		standstill_ms(p));
}

static enum why check_exit(struct gw__protect *p)
{
	struct gw__qmp_migration m;
	if (!p->w.exited)
		return GO_ON;
	if (p->w.phase == PROTECTED)
		return lost(p, "the connection to the standby broke");
	const char *failure = p->relay ? gw__relay_failure(p->relay) : NULL;
	if (failure)
		return lost(p, "%s", failure);
	if (gw__qmp_query_migrate(p->qmp, &m, NULL) || !m.error[0])
		return lost(p, "the standby did not accept the guest (migration status \"%s\")", p->w.status);
	return lost(p, "the standby at %s did not accept the guest: %s", p->o.uri, m.error);
}

static enum why check_silence(struct gw__protect *p)
{
	int limit = p->o.silence_ms < 0 ? -1 : p->o.interval_ms + p->o.silence_ms;
	if (p->mirror.n) /* the guest's own writes may wait for a standby that hangs */
		limit = p->o.interval_ms + standstill_ms(p);
	if (p->w.phase != PROTECTED || p->w.stopped || limit < 0 || left_ms(p, p->w.checkpoint_s, limit))
		return GO_ON;
	return lost(p, "the standby took no checkpoint for %.1f s", limit / 1e3);
}

/* Only while the guest runs: QEMU answers then. */
static enum why check_copy(struct gw__protect *p)
{
	struct watch *w = &p->w;
	struct gw__qmp_migration m;
	if (w->phase != COPYING || w->stopped || left_ms(p, w->asked_s, ASK_MS))
		return GO_ON;
	int r = gw__qmp_query_migrate(p->qmp, &m, NULL);
	w->asked_s = now_s(p);
	if (r)
		return GO_ON;
	if (m.transferred_bytes != w->moved_bytes) {
		w->moved_bytes = m.transferred_bytes;
		w->moved_s = now_s(p);
	}
	if (m.state == GW__MIGRATION_SETUP && !left_ms(p, w->began_s, SETUP_MS))
		return lost(p, "the standby at %s was not reached within %d s", p->o.uri, SETUP_MS / 1000);
	if (!left_ms(p, w->moved_s, STALL_MS))
		return lost(p, "the standby read nothing of the guest for %d s", STALL_MS / 1000);
	return GO_ON;
}

/* --- the second process --- */

static int start_guard(struct gw__protect *p, struct gw__error *error)
{
	const struct gw__protect_guard_opts opts = {.before = p->before,
		.monitor = &p->monitor,
		.relay = p->relay,
		.deadline_ns = gw__lease_keeper_deadline(p->lease),
		.keep_fd = p->instance.fd,
		.changed = p->changed,
		.report = p->o.on_release,
		.ctx = p->o.ctx};
	return gw__protect_guard_start(&p->guard, p->qmp, &opts, error);
}

/* Another takes its place. */
static void keep_guard(struct gw__protect *p)
{
	if (gw__protect_guard_lives(&p->guard))
		return;
	gw__protect_guard_dismiss(&p->guard);
	start_guard(p, NULL);
}

/* --- disks --- */

static int answer_limit_ms(const struct gw__protect *p)
{
	int left = standstill_left_ms(p);
	return left > ANSWER_MS ? left : ANSWER_MS;
}

/* The standby has all of a guest. Ours was stopped for that, and its QEMU told so before. */
static enum why say_whose(struct gw__protect *p)
{
	await_event(p, true);
	return gw__disk_link_write(p->disk_fd, p->w.stopped ? "good\n" : "other\n")
		       ? lost(p, "the standby does not keep its disks any more")
		       : GO_ON;
}

/* The standby has an epoch and asks whether the mirrors are whole; the guest stands still, so what is in them now stays. */
static enum why serve_disks(struct gw__protect *p)
{
	struct gw__error error = {0};
	struct pollfd asked = {.fd = p->disk_fd, .events = POLLIN};
	char line[64], words[GW__GUARD_REPORT_BYTES], verdict[GW__GUARD_REPORT_BYTES + 8];
	uint64_t done;
	if (p->w.mirror_failed)
		return lost(p, "the mirror of a disk to the standby has failed");
	if (p->disk_fd < 0 || poll(&asked, 1, 0) <= 0)
		return GO_ON;
	if (gw__disk_link_read(p->disk_fd, line, sizeof line, ANSWER_MS))
		return lost(p, "the standby does not keep its disks any more");
	if (!strcmp(line, "guest"))
		return say_whose(p);
	gw__qmp_set_call_limit(p->qmp, answer_limit_ms(p));
	int r = gw__mirror_check(&p->mirror, p->qmp, &done, &error);
	set_answer_limit(p);
	if (r)
		return lost(p, "its disks are not whole at the standby: %s", error.text[0] ? error.text : "a mirror has not caught up");
	print_report(p, words);
	snprintf(verdict, sizeof verdict, "good %s\n", words);
	return gw__disk_link_write(p->disk_fd, verdict) ? lost(p, "the standby does not keep its disks any more") : GO_ON;
}

static void close_one(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static enum why check_server(struct gw__protect *p)
{
	if (p->disk_fd < 0)
		return GO_ON;
	beat(p, GW__SERVER_PROBE_MS);
	return gw__server_probe_hangs(&p->probe, standstill_ms(p)) ? lost(p, "the server of its disks at %s hangs", p->server) : GO_ON;
}

/* Until the standby has all of each. The guest runs. */
static enum why copy_disks(struct gw__protect *p)
{
	struct gw__error error = {0};
	char prefix[16];
	uint64_t done = 0, last = 0;
	double moved_s = now_s(p);
	int r = gw__disk_link_server(p->o.disks, p->server, sizeof p->server, &error);
	beat(p, DISKS_MS);
	if (!r)
		r = gw__standby_address_look_up(p->server, &p->probe.at, &error);
	if (!r)
		r = gw__disk_link_open(p->o.disks, &p->mirror, &p->disk_fd, prefix, &error);
	if (!r)
		r = gw__mirror_start(&p->mirror, p->qmp, p->server, prefix, &error);
	while (!r && (r = gw__mirror_check(&p->mirror, p->qmp, &done, &error)) == GW__NOT_YET) {
		if (done != last)
			moved_s = now_s(p);
		last = done;
		if (!left_ms(p, moved_s, STALL_MS))
			return lost(p, "the standby read nothing of its disks for %d s", STALL_MS / 1000);
		if (!take_event(p, LOOK_MS))
			return GONE;
		if (p->o.stopped(p->o.ctx))
			return ASKED;
		enum why why = check_server(p);
		if (why != GO_ON)
			return why;
		keep_guard(p);
		r = 0;
	}
	if (!r && gw__disk_link_write(p->disk_fd, "copied\n"))
		return lost(p, "the standby does not keep its disks any more");
	return r == -ECONNRESET ? GONE : r ? lost(p, "%s", error.text) : GO_ON;
}

/* --- output commit --- */

/* QEMU hears of neither word before what it means for the network is done. It answers at either, with its guest standing still. */
static enum why serve_relay(struct gw__protect *p)
{
	struct gw__error error = {0};
	enum gw__relay_point point = p->relay ? gw__relay_waits(p->relay) : GW__RELAY_NOTHING;
	if (point == GW__RELAY_NOTHING)
		return GO_ON;
	gw__qmp_set_call_limit(p->qmp, answer_limit_ms(p));
	int r = point == GW__RELAY_READY ? gw__net_buffers_hold(&p->buffers, p->qmp, &error)
					 : gw__net_buffers_release(&p->buffers, p->qmp, &error);
	set_answer_limit(p);
	if (r)
		return lost(p, "packets of the guest cannot be held back: %s", error.text);
	gw__relay_go_on(p->relay);
	return GO_ON;
}

/* --- an attempt --- */

/* QEMU takes one migration at a time: if it refuses this one, another may be under way, which is not ours to break off. */
static int migrate(struct gw__protect *p, struct gw__error *error)
{
	int r = gw__qmp_await_cleaned_up(p->qmp, error);
	if (r)
		return r;
	note_changed(p, GW__PROTECT_CHANGED_MIGRATION);
	r = gw__qmp_migrate(p->qmp, p->relay ? gw__relay_uri(p->relay) : p->o.uri, error);
	if (r == -EREMOTEIO)
		note_changed(p, GW__PROTECT_CHANGED_SETTINGS);
	return r;
}

static int start(struct gw__protect *p, struct gw__error *error)
{
	int r = gw__protect_check_free(p->qmp, error); /* copying the disks may have taken long */
	if (r)
		return r;
	note_changed(p, GW__PROTECT_CHANGED_SETTINGS);
	r = gw__owner_lock_hand(&p->lock, p->qmp, error);
	if (!r)
		r = gw__protect_settings_set(p->qmp, &p->o, p->before, error);
	if (!r)
		r = gw__net_buffers_add(&p->buffers, p->qmp, gw__protect_settings_fallback_ms(&p->o), error);
	take_events(p); /* of earlier times */
	p->w = (struct watch){.began_s = now_s(p), .moved_s = now_s(p), .mirror_failed = p->w.mirror_failed};
	return r ? r : migrate(p, error);
}

static void note_protected(struct gw__protect *p)
{
	if (p->w.phase != COPYING || p->w.stopped || p->w.state != GW__MIGRATION_COLO)
		return;
	p->w.phase = PROTECTED;
	p->w.checkpoint_s = now_s(p);
	tell(p, GW__PROTECT_PROTECTED, NULL);
}

static enum why follow(struct gw__protect *p)
{
	enum why (*const checks[])(
		struct gw__protect *) = {serve_disks, serve_relay, check_exit, check_standstill, check_copy, check_silence, check_server};
	enum why why = GO_ON;
	set_answer_limit(p);
	while (why == GO_ON) {
		int ms = LOOK_MS, left = standstill_left_ms(p);
		if (!take_event(p, left < ms ? left : ms))
			return GONE;
		note_protected(p);
		if (p->o.stopped(p->o.ctx))
			return ASKED;
		for (unsigned i = 0; why == GO_ON && i < GW__LEN(checks); i++)
			why = checks[i](p);
		keep_guard(p);
	}
	return why;
}

/*
 * What the guest has sent since its last checkpoint may leave when nobody can go on from there without a word of its user: when the lease is held without a
 * limit. If that is not confirmed, the guest is ended with its term, and nobody must have seen what it sent.
 */
static int await_lease(struct gw__protect *p, struct gw__error *error)
{
	double since = now_s(p), lost_s = 0;
	bool is_told = false;
	gw__relay_stop(&p->relay); /* nobody speaks over these any more, and they would wake us all the time */
	close_one(&p->disk_fd);
	while (p->buffers.n && !gw__lease_keeper_is_settled(p->lease)) {
		struct gw__error why = {0};
		if (!take_event(p, LOOK_MS))
			return -ECONNRESET;
		keep_guard(p);
		if (!is_told && !left_ms(p, since, NOTE_MS))
			tell(p, GW__PROTECT_NOTE,
				"the store of its lease does not answer: packets of the guest are held back, and the guest ends with its "
				"term");
		is_told |= !left_ms(p, since, NOTE_MS);
		if (!lost_s && gw__lease_keeper_is_lost(p->lease, &why))
			lost_s = now_s(p);
		if (lost_s && !left_ms(p, lost_s, DEATH_MS))
			return gw__error_set(error, -EBUSY,
				"its lease was lost, and its QEMU has not ended; packets of the guest are held back: end that QEMU by hand");
	}
	return 0;
}

/* All that an attempt has changed. The guest first, what it sent last. */
static int undo(struct gw__protect *p, struct gw__error *error)
{
	/* what the standby has is of the past from now on: no failover without the word of somebody */
	gw__lease_keeper_wish(p->lease, GW__LEASE_WISH_HOLD);
	int r = p->changed == GW__PROTECT_CHANGED_MIGRATION ? gw__colo_release(p->qmp, RELEASE_MS, error) : 0;
	gw__qmp_set_call_limit(p->qmp, GW__QMP_CALL_MS);
	if (r == -ECONNRESET)
		return r;
	if (!r && p->changed == GW__PROTECT_CHANGED_MIGRATION) /* what follows may take long, and another may begin one */
		note_changed(p, GW__PROTECT_CHANGED_SETTINGS);
	await_event(p, false); /* how long was the standstill that the release ended? */
	int alone = gw__mirror_remove(p->qmp, r ? NULL : error);
	r = r ? r : alone;
	int certain = await_lease(p, r ? NULL : error);
	if (certain)
		return certain;
	int passes = gw__net_buffers_remove(p->qmp, r ? NULL : error);
	gw__owner_lock_drop(&p->lock, p->qmp);
	r = r ? r : passes;
	int set = p->changed == GW__PROTECT_CHANGED_DISKS ? 0 : gw__qmp_settings_restore(p->qmp, p->before, r ? NULL : error);
	return r ? r : set;
}

/* -ECONNRESET: it is dead. -ENOTCONN: that is not known, and nothing more can be done to it. */
static int reconnect(struct gw__protect *p, struct gw__error *error)
{
	struct gw__qmp *again = NULL;
	gw__relay_stop(&p->relay); /* a QEMU that waits for its standby is free when their link is broken */
	take_events(p);
	beat(p, 2 * DEATH_MS);
	gw__error_clear(error);
	bool ends_unseen = (p->shut_down || p->has_left) && p->monitor.process < 0;
	int r = gw__protect_monitor_open_again(&p->monitor, ends_unseen ? ENDING_MS : DEATH_MS, &again, error);
	if (r)
		return ends_unseen ? -ECONNRESET : r;
	gw__protect_guard_dismiss(&p->guard); /* it has the connection that broke */
	gw__qmp_close(p->qmp);
	p->qmp = again;
	gw__qmp_on_wait(p->qmp, beat, p);
	return 0;
}

/* Over another connection: the guest of a QEMU that lives may stand still for its standby. */
static int undo_again(struct gw__protect *p, enum why *why, struct gw__error *error)
{
	int r = -ECONNRESET;
	for (int n = 0; r == -ECONNRESET && n < MONITORS; n++) {
		r = reconnect(p, error);
		if (r)
			return r;
		if (*why == GONE)
			*why = lost(p, "the connection to its monitor broke");
		start_guard(p, NULL);
		r = undo(p, error);
	}
	if (r != -ECONNRESET)
		return r;
	gw__error_clear(error);
	return gw__error_set(error, -ENOTCONN, "the connection to its monitor broke %d times", MONITORS + 1);
}

static void end_attempt(struct gw__protect *p)
{
	gw__protect_guard_dismiss(&p->guard);
	gw__relay_stop(&p->relay);
	close_one(&p->disk_fd);
	gw__server_probe_end(&p->probe);
	gw__qmp_settings_free(p->before);
	p->before = NULL;
}

static enum why copy_disks_first(struct gw__protect *p)
{
	take_events(p); /* of earlier times */
	p->w = (struct watch){0};
	return p->mirror.n ? copy_disks(p) : GO_ON;
}

/* Nothing is changed in QEMU yet. -EBUSY: it migrates, and that is not ours. */
static int prepare(struct gw__protect *p, struct gw__error *error)
{
	p->changed = GW__PROTECT_CHANGED_DISKS;
	int r = gw__protect_check_free(p->qmp, error);
	if (!r)
		r = gw__qmp_settings_save(p->qmp, &p->before, error);
	if (!r && p->buffers.n)
		r = gw__relay_start(p->o.uri, p->qmp, &p->relay, error);
	return r ? r : start_guard(p, error);
}

/* -ECONNRESET: QEMU has gone. Another failure: it could not be put back in order. */
static int attempt(struct gw__protect *p, enum why *why, struct gw__error *error)
{
	struct gw__error cause = {0};
	int r = prepare(p, error);
	if (r) {
		end_attempt(p);
		lost(p, "%s", error->text);
		*why = r == -EBUSY ? BUSY : LOST;
		return r == -ECONNRESET ? reconnect(p, error) : 0;
	}
	tell(p, GW__PROTECT_CONNECTING, NULL);
	*why = copy_disks_first(p);
	r = *why == GO_ON ? start(p, &cause) : 0;
	if (*why == GO_ON)
		*why = r ? lost(p, "%s", cause.text) : follow(p);
	r = *why == GONE ? -ECONNRESET : undo(p, error);
	if (r == -ECONNRESET)
		r = undo_again(p, why, error);
	end_attempt(p);
	return r;
}

/* --- between attempts --- */

/* The QEMU of one that has left may end at any moment. */
static void note_where(struct gw__protect *p, bool has_left)
{
	if (has_left && !p->has_left)
		tell(p, GW__PROTECT_NOTE, "its guest was migrated to another QEMU or into a file, and is not protected there");
	p->has_left = has_left;
}

static enum why pause_between(struct gw__protect *p, int ms)
{
	struct gw__qmp_status s = {0};
	double end = now_s(p) + ms / 1e3;
	do {
		int r = take_event(p, LOOK_MS) ? gw__qmp_query_status(p->qmp, &s, NULL) : -ECONNRESET;
		if (r == -ECONNRESET)
			return GONE;
		if (!r)
			note_where(p, s.state == GW__RUN_STATE_POSTMIGRATE);
		if (p->o.stopped(p->o.ctx))
			return ASKED;
	} while (now_s(p) < end || !s.running); /* its user has stopped it: that guest is none to protect */
	return GO_ON;
}

/* Also over another connection. Fails as reconnect does, with GONE. */
static int await_next(struct gw__protect *p, int ms, enum why *why, struct gw__error *error)
{
	int r;
	do {
		*why = pause_between(p, ms);
		r = *why == GONE ? reconnect(p, error) : 0;
	} while (!r && *why == GONE);
	return r;
}

/* The lease is nobody's only when its QEMU was seen to be dead. */
static void free_lease(struct gw__protect *p)
{
	struct gw__error why = {0};
	if (gw__lease_keeper_is_lost(p->lease, &why))
		tell(p, GW__PROTECT_NOTE, why.text);
	else if (gw__lease_keeper_saw_death(p->lease, DEATH_MS))
		gw__lease_keeper_settle(p->lease, GW__LEASE_WISH_FREE, FREE_MS, NULL);
}

/* The file goes before the descriptor: what is free must not name a QEMU that lives. */
static enum gw_qemu_protect_outcome stop(struct gw__protect *p, struct gw__error *error)
{
	gw__owner_lock_remove(&p->lock, p->qmp);
	return gw__lease_keeper_settle(p->lease, GW__LEASE_WISH_HOLD, LEASE_MS, error) ? GW_QEMU_PROTECT_IN_DOUBT : GW_QEMU_PROTECT_STOPPED;
}

static enum gw_qemu_protect_outcome gone(struct gw__protect *p)
{
	take_events(p);
	if (p->has_left) /* the standby has a copy of the past, from which nobody goes on without the word of somebody */
		return stop(p, NULL) == GW_QEMU_PROTECT_STOPPED ? GW_QEMU_PROTECT_SHUT_DOWN : GW_QEMU_PROTECT_IN_DOUBT;
	free_lease(p);
	return p->shut_down ? GW_QEMU_PROTECT_SHUT_DOWN : GW_QEMU_PROTECT_LOST;
}

/* QEMU dead, or not known to be. The guest may run on, without its standby: the lease is not to end it. */
static enum gw_qemu_protect_outcome broken(struct gw__protect *p, int r)
{
	if (r == -ECONNRESET)
		return gone(p);
	gw__lease_keeper_settle(p->lease, GW__LEASE_WISH_HOLD, LEASE_MS, NULL);
	return GW_QEMU_PROTECT_IN_DOUBT;
}

static void note_room(struct gw__protect *p)
{
	char text[300];
	if (p->o.dir && gw__protect_lacks_room(p->qmp, p->o.dir, text))
		tell(p, GW__PROTECT_NOTE, text);
}

enum gw_qemu_protect_outcome gw__protect_run(struct gw__protect *p, struct gw__error *error)
{
	bool was_protected = false, told_busy = false;
	note_room(p);
	for (int pause_ms = PAUSE_MS;;) {
		enum why why = GO_ON;
		gw__error_clear(error);
		int r = attempt(p, &why, error);
		bool now_protected = p->w.phase == PROTECTED;
		was_protected |= now_protected;
		if (r)
			return broken(p, r);
		if (why == ASKED)
			return stop(p, error);
		if (!was_protected) {
			gw__owner_lock_remove(&p->lock, p->qmp);
			gw__error_clear(error);
			gw__error_set(error, -EREMOTEIO, "%s", p->reason);
			return GW_QEMU_PROTECT_NEVER;
		}
		if (why != BUSY || !told_busy)
			tell(p, now_protected ? GW__PROTECT_UNPROTECTED : GW__PROTECT_NOT_YET, p->reason);
		told_busy = why == BUSY;
		pause_ms = now_protected ? PAUSE_MS : pause_ms < PAUSE_MAX_MS ? 2 * pause_ms : PAUSE_MAX_MS;
		p->w = (struct watch){0};
		r = await_next(p, pause_ms, &why, error);
		if (r)
			return broken(p, r);
		if (why == ASKED)
			return stop(p, error);
	}
}

/* --- opening --- */

static int take_lease(struct gw__protect *p, struct gw__error *error)
{
	struct gw__lease_keeper_opts opts = {.url = p->o.lease,
		.term_ms = p->o.lease_term_ms,
		.watchdog = p->o.watchdog,
		.keep_fd = p->instance.fd,
		.stopped = p->o.stopped,
		.ctx = p->o.ctx};
	int r = p->o.lease ? gw__qemu_process(p->qmp, &opts.qemu, error) : 0;
	if (!r && p->o.lease)
		r = gw__lease_keeper_take(&opts, &p->lease, error);
	return r == -EPERM || r == -EACCES ? -EBUSY : r;
}

int gw__protect_open(const struct gw__protect_opts *o, struct gw__protect **to, struct gw__error *error)
{
	struct gw__protect *p = calloc(1, sizeof *p);
	if (!p)
		return gw__error_set(error, -ENOMEM, "no memory");
	p->o = *o;
	p->start = gw__monotonic_now();
	p->disk_fd = -1;
	p->probe = (struct gw__server_probe)GW__SERVER_PROBE_INIT;
	p->monitor = (struct gw__protect_monitor)GW__PROTECT_MONITOR_INIT;
	int r = gw__protect_instance_take(&p->instance, o->address, error);
	if (!r)
		r = gw__qmp_open(o->address, CONNECT_MS, &p->qmp, error);
	if (!r) {
		gw__qmp_on_wait(p->qmp, beat, p);
		r = gw__protect_instance_take_qemu(&p->instance, p->qmp, o->address, error);
		if (!r)
			r = gw__protect_monitor_learn(&p->monitor, o->address, p->qmp, error);
	}
	if (!r)
		r = gw__protect_preflight(p->qmp, o, &p->buffers, &p->mirror, error);
	if (!r)
		r = gw__protect_find_name(p->qmp, o, p->name, error);
	if (!r && o->dir)
		r = gw__owner_lock_open(&p->lock, o->dir, p->name, p->qmp, error);
	if (!r)
		r = take_lease(p, error);
	if (r) {
		gw__protect_close(p);
		return r;
	}
	*to = p;
	return 0;
}

const char *gw__protect_name(const struct gw__protect *p) { return p->name; }
bool gw__protect_guest_has_left(const struct gw__protect *p) { return p->has_left; }

void gw__protect_close(struct gw__protect *p)
{
	if (!p)
		return;
	gw__protect_guard_dismiss(&p->guard);
	gw__relay_stop(&p->relay);
	gw__net_buffers_fini(&p->buffers);
	gw__mirror_fini(&p->mirror);
	gw__qmp_settings_free(p->before);
	bool may_be_ended = gw__lease_keeper_end(p->lease);
	gw__qmp_close(p->qmp);
	gw__protect_monitor_fini(&p->monitor);
	gw__protect_instance_leave(&p->instance, may_be_ended);
	free(p);
}
