/* SPDX-License-Identifier: MIT */
/* Drives the QEMU that is being saved; see save.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qemu/file_set.h"
#include "qemu/save.h"
#include "qmp/sleep.h"

enum {
	CONNECT_MS = 10000,
	FOLLOW_MS = 200,
	END_MS = 30000,       /* from our SHUT to "completed" */
	STATE_MS = 5000,      /* from "failed" to the run state as it was */
	RECONNECT_MS = 30000, /* for a monitor that is served anew */
	AGAIN = 3,
	MAX_PASSES = 40, /* a guest that still dirties faster than we receive is stopped for the rest */
};
#define UNLIMITED_BYTES_PER_S (INT64_C(1) << 42)
static const char FD_NAME[] = "godwit-save";

static int refuse(struct gw__save *s, int code, const char *error)
{
	s->refused = true;
	return gw__error_set(&s->error, code, "the guest of the QEMU at %s cannot be saved now: %s", s->address, error);
}

static int look_at_state(struct gw__save *s)
{
	struct gw__qmp_status status;
	struct gw__qmp_migration m;
	struct gw_run_state_plan plan = GW_INIT(plan);
	int r = gw__qmp_query_status(s->qmp, &status, &s->error);
	if (!r)
		r = gw__qmp_query_migrate(s->qmp, &m, &s->error);
	if (r)
		return r;
	s->was.running = status.running;
	snprintf(s->state, sizeof s->state, "%s", status.name);
	gw_plan_run_state(gw_run_state_find(status.name), (unsigned)gw__qmp_version(s->qmp), s->o.stop, &plan);
	if (plan.after == GW_AFTER_REFUSED)
		return refuse(s, -EBUSY, plan.reason);
	bool lacks = gw__qmp_is_postcopy(m.state) && !m.total_bytes; /* only a source counts what it sends */
	char busy[300];
	snprintf(busy, sizeof busy,
		lacks ? "it still lacks pages of its guest (post-copy, status \"%s\"), which cannot be cancelled; let its page server bring the "
			"rest first"
		      : "it is busy with another migration (status \"%s\"); wait for its end or cancel it",
		m.status);
	return m.state != GW__MIGRATION_NONE && !m.ended ? refuse(s, -EBUSY, busy) : 0;
}

static int check_unplugged(struct gw__save *s)
{
	uint64_t unplugged = 0;
	int r = s->postcopy && gw__qmp_has_quirk(s->qmp, GW__QUIRK_LATE_UNPLUGGED) ? gw__qmp_query_unplugged(s->qmp, &unplugged, &s->error)
										   : 0;
	if (r || !unplugged)
		return r;
	gw__error_advise(&s->driver->error, GW_QEMU_HINT_NO_POSTCOPY);
	return gw__error_set(&s->error, -EOPNOTSUPP, "this QEMU is too old to save a partly plugged virtio-mem device by post-copy");
}

/* The user's word goes first: he may have a QEMU that we do not know. */
static int find_page_size(struct gw__save *s)
{
	gw_job *job = s->driver->job;
	uint64_t bytes = 0;
	int r = 0;
	if (s->o.page_bytes)
		r = gw_job_page_size(job, s->o.page_bytes);
	else if (!gw__qmp_query_page_bytes(s->qmp, &bytes, NULL))
		r = gw_job_usual_page_size(job, bytes);
	return r ? gw__error_set(&s->error, r, "%s", gw_job_error(job)) : 0;
}

int gw__save_open(struct gw__save *s)
{
	int r = s->resume ? gw__save_read_note(s) : 0;
	if (!r)
		r = gw__qmp_open(s->address, CONNECT_MS, &s->qmp, &s->error);
	if (r || s->resume)
		return r ? r : gw__save_check_source(s);
	r = look_at_state(s);
	if (!r)
		r = check_unplugged(s);
	if (!r)
		r = find_page_size(s);
	if (!r)
		r = gw__qmp_settings_save(s->qmp, &s->before, &s->error);
	if (!r)
		r = gw__qmp_query_identity(s->qmp, &s->identity, &s->error);
	/* A guest that does not run has one moment only. QEMU 7.2 would set it running, and one that never ran is an abort. */
	s->at_start = s->at_start && s->was.running;
	s->postcopy = s->postcopy && s->was.running;
	s->was.stopped_by_us = s->at_start; /* QEMU does for a moment */
	if (!r && s->at_start && !gw__qmp_settings_has(s->before, "background-snapshot")) {
		gw__error_advise(&s->driver->error, GW_QEMU_HINT_AT_END);
		r = refuse(s, -EOPNOTSUPP, "it has no background snapshots");
	}
	return r ? r : gw__save_choose_way(s);
}

int gw__save_look_again(struct gw__save *s)
{
	gw__error_clear(&s->error);
	s->monitor_failed = s->direct = false;
	int r = look_at_state(s);
	s->was.stopped_by_us = false;
	return r;
}

static void add_multifd(const struct gw__save *s, json_t *p)
{
	static const char *const methods[] = {"none", "zlib", "zstd"};
	int level = s->o.level ? s->o.level : 1;
	json_object_set_new(p, "multifd-channels", json_integer(s->o.channels));
	json_object_set_new(p, "multifd-compression", json_string(methods[s->o.compression]));
	if (s->o.compression == GW_COMPRESS_ZLIB)
		json_object_set_new(p, "multifd-zlib-level", json_integer(level));
	if (s->o.compression == GW_COMPRESS_ZSTD)
		json_object_set_new(p, "multifd-zstd-level", json_integer(level));
}

static int set_parameters(struct gw__save *s)
{
	json_t *p = json_pack("{s:I}", "max-bandwidth",
		(json_int_t)(s->o.max_bandwidth ? s->o.max_bandwidth : (uint64_t)UNLIMITED_BYTES_PER_S));
	if (gw__qmp_settings_parameter(s->before, "tls-creds") && !s->o.tls)
		json_object_set_new(p, "tls-creds", json_string(""));
	if (s->o.channels)
		add_multifd(s, p);
	if (s->postcopy) /* 0: no limit */
		json_object_set_new(p, "max-postcopy-bandwidth", json_integer((json_int_t)s->o.max_bandwidth));
	return gw__qmp_call(s->qmp, "migrate-set-parameters", p, NULL, &s->error);
}

static int prepare(struct gw__save *s)
{
	const struct gw__qmp_capability background[] = {{"background-snapshot", true}};
	const struct gw__qmp_capability live[] = {{"return-path", true}, {s->postcopy ? "postcopy-ram" : "multifd", true}};
	int r = gw__qmp_clear_capabilities(s->qmp, s->before, s->at_start, &s->error);
	if (!r && s->at_start)
		r = gw__qmp_set_capabilities(s->qmp, background, 1, &s->error);
	else if (!r)
		r = gw__qmp_set_capabilities(s->qmp, live, s->o.channels || s->postcopy ? 2 : 1, &s->error);
	return r ? r : set_parameters(s);
}

int gw__save_start(struct gw__save *s)
{
	char uri[64] = "fd:";
	strcat(uri, FD_NAME);
	if (s->resume) { /* the source is told as often as the link breaks, the first time too */
		atomic_store(&s->started, true);
		atomic_store(&s->driver->rate_known, true);
		return 0;
	}
	int r = prepare(s);
	if (!r && !s->listen)
		r = gw__qmp_call_fd(s->qmp, "getfd", json_pack("{s:s}", "fdname", FD_NAME), s->source_fd, NULL, &s->error);
	if (!s->listen) { /* QEMU has its own now, and ours would hide its death */
		close(s->source_fd);
		s->source_fd = -1;
	}
	if (!r)
		r = gw__qmp_migrate(s->qmp, s->listen ? s->listening : uri, &s->error);
	gw__save_note_monitor(s, r);
	atomic_store(&s->started, !r);
	atomic_store(&s->driver->rate_known, !r);
	return r;
}

int gw__save_say_ended(struct gw__save *s, const struct gw__qmp_migration *m)
{
	return gw__error_set(&s->error, -EREMOTEIO, "QEMU ended the migration with status \"%s\": %s", m->status,
		m->error[0] ? m->error : "no reason given");
}

/* QEMU has given up and does not always close its end. What the channel says in the next moment explains more. */
static void give_up(struct gw__save *s, const struct gw__qmp_migration *m)
{
	for (int i = 0; i < 10; i++) {
		gw__sleep_ms(FOLLOW_MS / 10);
		if (atomic_load(&s->done))
			return;
	}
	gw__save_note_monitor(s, gw__save_say_ended(s, m));
	gw_job_cancel(s->driver->job);
}

void gw__save_note_was(struct gw__save *s, struct gw__was was)
{
	if (was.running == s->was.running && was.stopped_by_us == s->was.stopped_by_us)
		return;
	s->was = was;
	gw__watchdog_tell(&s->guard, was);
}

/* As a guest that shuts down, sleeps or crashes. A stream has it at its end. */
static bool has_stopped_itself(const struct gw__qmp_status *now)
{
	return !now->running && now->state != GW__RUN_STATE_FINISH_MIGRATE && now->state != GW__RUN_STATE_POSTMIGRATE;
}

/*
 * Its user may stop the guest meanwhile, or let it run: that holds afterwards. QEMU's own stops have other names, but for
 * the short one at the beginning of a background snapshot.
 */
void gw__save_note_user(struct gw__save *s, const struct gw__qmp_migration *m)
{
	struct gw__qmp_status now;
	if (gw__qmp_query_status(s->qmp, &now, NULL))
		return;
	if (now.running && (!s->at_start || m->state == GW__MIGRATION_ACTIVE))
		gw__save_note_was(s, (struct gw__was){.running = true});
	else if ((now.state == GW__RUN_STATE_PAUSED || (s->direct && has_stopped_itself(&now))) && !s->was.stopped_by_us)
		gw__save_note_was(s, (struct gw__was){0});
}

/* Told first: a death of ours in between must not look like its user's stop. */
void gw__save_stop_for_the_rest(struct gw__save *s)
{
	struct gw__was before = s->was;
	gw__qemu_detail(s->driver, "the guest dirties memory faster than it can be received; it is stopped for the rest");
	gw__save_note_was(s, (struct gw__was){before.running, before.running});
	if (gw__qmp_call(s->qmp, "stop", NULL, NULL, NULL))
		gw__save_note_was(s, before);
}

bool gw__save_is_lost(int r) { return r == -ECONNRESET || r == -EPIPE || r == -ENOTCONN; }

int gw__save_note_monitor(struct gw__save *s, int r)
{
	s->monitor_failed |= r < 0;
	return r;
}

int gw__save_reconnect(struct gw__save *s, int patience_ms)
{
	struct gw__qmp *q = NULL;
	struct gw__error error = {0};
	int r = gw__qmp_open_again(s->address, patience_ms, s->identity, &q, &error);
	if (r)
		return gw__error_set(&s->error, r, "%s", error.text);
	gw__qmp_close(s->qmp);
	s->qmp = q;
	gw__error_clear(&s->error);
	s->monitor_failed = false;
	gw__qemu_detail(s->driver, "the monitor at %s was gone for a while", s->address);
	return 0;
}

/* What may be asked twice, over a monitor that may have to be opened anew in between. */
static int persist(struct gw__save *s, int (*step)(struct gw__save *))
{
	int r = step(s);
	for (int i = 0; i < AGAIN && gw__save_is_lost(r); i++) {
		r = gw__save_reconnect(s, RECONNECT_MS);
		r = r ? r : step(s);
	}
	return r;
}

/* One look. Its death shows on the channel as well, so here a lost monitor is only opened again. */
static void follow_once(struct gw__save *s)
{
	struct gw__qmp_migration m;
	int r = gw__qmp_query_migrate(s->qmp, &m, NULL);
	if (gw__save_is_lost(r)) {
		struct gw__error before = s->error;
		bool had_failed = s->monitor_failed;
		gw__save_reconnect(s, 0);
		s->error = before;
		s->monitor_failed = had_failed;
	}
	if (r)
		return;
	atomic_store(&s->driver->remaining_bytes, m.remaining_bytes);
	atomic_store(&s->driver->dirty_bytes_per_s, m.dirty_pages_rate * m.page_bytes);
	if (!s->was.stopped_by_us || s->at_start)
		gw__save_note_user(s, &m);
	if (s->postcopy)
		gw__save_follow_postcopy(s, &m);
	if (m.ended && !m.completed && !s->resume && !s->monitor_failed)
		give_up(s, &m);
	bool may_stop = !s->was.stopped_by_us && !s->at_start && (!s->postcopy || s->cannot_switch);
	if (may_stop && s->was.running && m.dirty_sync_count >= MAX_PASSES && !m.ended)
		gw__save_stop_for_the_rest(s);
}

void gw__save_follow(struct gw__save *s)
{
	while (!atomic_load(&s->done)) {
		gw__sleep_ms(FOLLOW_MS / 10);
		for (int i = 0; i < 9 && !atomic_load(&s->done) && !atomic_load(&s->paused); i++)
			gw__sleep_ms(FOLLOW_MS / 10);
		if (!atomic_load(&s->started) || atomic_load(&s->done))
			continue;
		pthread_mutex_lock(&s->talk);
		if (!s->settled)
			follow_once(s);
		pthread_mutex_unlock(&s->talk);
	}
}

/* When did QEMU's guest stand still? Its own events know best. */
static void note_events(struct gw__save *s)
{
	json_t *event;
	while (gw__qmp_event(s->qmp, 0, &event, NULL) == 0) {
		const char *name = json_string_value(json_object_get(event, "event"));
		uint64_t us = gw__qmp_event_us(event);
		if (name && !strcmp(name, "STOP"))
			s->stopped_us = us;
		if (name && !strcmp(name, "RESUME"))
			s->resumed_us = us;
		json_decref(event);
	}
}

/* --- the end --- */

/* Is it the machine we speak with that sent this? Names and sizes; a stranger that has the same is found out by what QEMU does next. */
static int check_guest(struct gw__save *s, const struct gw_whole *whole)
{
	struct gw__qmp_machine machine;
	struct gw__qmp_block *theirs = NULL;
	unsigned n = 0, same = 0;
	int r = gw__qmp_query_machine(s->qmp, &machine, &s->error);
	if (!r)
		r = gw__qmp_query_blocks(s->qmp, &theirs, &n, &s->error);
	for (uint32_t i = 0; !r && i < whole->blocks; i++)
		for (unsigned k = 0; k < n; k++)
			same += !strcmp(GW_AT(whole->block, i)->name, theirs[k].name) &&
				GW_AT(whole->block, i)->used_bytes <= theirs[k].total_bytes;
	free(theirs);
	if (r)
		return r;
	if (whole->machine && strcmp(whole->machine, machine.machine))
		return gw__error_set(&s->error, -EPROTO,
			"another peer connected instead of the QEMU at %s: its machine is %s, a guest of %s came", s->address,
			machine.machine, whole->machine);
	if (same != whole->blocks || (whole->blocks && n != whole->blocks))
		return gw__error_set(&s->error, -EPROTO,
			"another peer connected instead of the QEMU at %s: QEMU has %u RAM blocks, of which %u match the %u that came",
			s->address, n, same, whole->blocks);
	return 0;
}

/* A source that has sent all waits for our word in this state, and in no other. */
static int check_waits(struct gw__save *s)
{
	for (int waited = 0; waited < END_MS; waited += 5) {
		struct gw__qmp_migration m;
		struct gw__qmp_status run;
		int r = gw__qmp_query_migrate(s->qmp, &m, &s->error);
		if (!r)
			r = gw__qmp_query_status(s->qmp, &run, &s->error);
		if (r || m.ended)
			return r ? r : gw__save_say_ended(s, &m);
		if (run.state == GW__RUN_STATE_FINISH_MIGRATE && !m.remaining_bytes)
			return 0;
		gw__sleep_ms(5);
	}
	return gw__error_set(&s->error, -ETIMEDOUT, "another peer connected instead of the QEMU at %s, which has not sent its guest",
		s->address);
}

static int check_sender(struct gw__save *s, const struct gw_whole *whole)
{
	int r = check_guest(s, whole);
	return r || s->at_start ? r : check_waits(s);
}

int gw__save_check_run_state(struct gw__save *s, const char *name)
{
	struct gw_run_state_plan plan = GW_INIT(plan);
	enum gw_run_state state = gw_run_state_find(name);
	/* who is not suspended in the end, because its QEMU woke it up, says "running" */
	if (state == GW_RUN_STATE_SUSPENDED || gw_plan_run_state(state, (unsigned)gw__qmp_version(s->qmp), true, &plan) ||
		plan.after != GW_AFTER_REFUSED)
		return 0;
	return gw__error_set(&s->error, -EREMOTEIO, "the guest was stopped during the save and is not saved: %s", plan.reason);
}

/* Run state and all, as the guest was stopped; not whoever stopped it for our sake. */
static int decide(struct gw__save *s, const struct gw_whole *whole)
{
	struct gw_run_state_plan plan = GW_INIT(plan);
	if (whole->run_state == GW_RUN_STATE_RUNNING)
		gw__save_note_was(s, (struct gw__was){.running = true});
	else if (whole->run_state_name && !s->was.stopped_by_us && !s->switched)
		gw__save_note_was(s, (struct gw__was){0});
	if (s->was.running || s->switched || s->at_start)
		return 0;
	int r = whole->run_state_name && whole->blocks ? gw__save_check_run_state(s, whole->run_state_name) : 0;
	if (r)
		return gw__save_note_monitor(s, r);
	snprintf(s->state, sizeof s->state, "%s", whole->run_state_name ? whole->run_state_name : s->state);
	gw_plan_run_state(gw_run_state_find(s->state), (unsigned)gw__qmp_version(s->qmp), true, &plan);
	s->kept = plan.after == GW_AFTER_KEPT;
	return s->kept ? GW_SAY_FAILED : 0;
}

int gw__save_on_whole(void *ctx, const struct gw_whole *whole)
{
	struct gw__save *s = ctx;
	int r = 0;
	pthread_mutex_lock(&s->talk);
	s->settled = true;
	if (s->listen && !s->resume && whole->blocks) {
		r = check_sender(s, whole);
		for (int i = 0; i < AGAIN && gw__save_is_lost(r); i++)
			if (!(r = gw__save_reconnect(s, RECONNECT_MS)))
				r = check_sender(s, whole);
	}
	r = gw__save_note_monitor(s, r) ? r : decide(s, whole);
	pthread_mutex_unlock(&s->talk);
	return r;
}

/* The source must agree that it is over before its guest may run again. */
static int await_over(struct gw__save *s)
{
	for (int waited = 0; waited < END_MS; waited += 5) {
		struct gw__qmp_migration m;
		int r = gw__qmp_query_migrate(s->qmp, &m, &s->error);
		if (r)
			return r;
		if (m.ended)
			return (s->kept ? m.failed : m.completed) ? 0 : gw__save_say_ended(s, &m);
		gw__sleep_ms(5);
	}
	return gw__error_set(&s->error, -ETIMEDOUT, "QEMU has sent everything but does not end its migration");
}

int gw__save_on_source_notified(void *ctx)
{
	struct gw__save *s = ctx;
	pthread_mutex_lock(&s->talk);
	int r = gw__save_note_monitor(s, persist(s, await_over));
	pthread_mutex_unlock(&s->talk);
	return r;
}

/* 10.0 says "failed" a moment before it has put the run state back. */
static int check_kept(struct gw__save *s)
{
	for (int waited = 0;; waited += 5) {
		struct gw__qmp_status now;
		int r = gw__qmp_query_status(s->qmp, &now, &s->error);
		if (r || now.running || !strcmp(now.name, s->state))
			return r;
		if (waited >= STATE_MS)
			return gw__error_set(&s->error, -EREMOTEIO, "QEMU was to keep the run state \"%s\" of its guest, but has \"%s\"",
				s->state, now.name);
		gw__sleep_ms(5);
	}
}

static int let_stand(struct gw__save *s)
{
	if (s->kept)
		return check_kept(s);
	if (!s->o.stop)
		return gw__watchdog_let_run(s->qmp, s->was, &s->error);
	return s->at_start ? gw__qmp_call(s->qmp, "stop", NULL, NULL, &s->error) : 0;
}

static int restore_settings(struct gw__save *s) { return gw__qmp_settings_restore(s->qmp, s->before, &s->error); }

static int remove_files(struct gw__save *s) { return gw__file_set_remove(s->qmp, &s->error); }

int gw__save_let_stand(struct gw__save *s) { return persist(s, let_stand); }

int gw__save_finish(struct gw__save *s)
{
	struct gw__qmp_status status = {0};
	int r = persist(s, let_stand);
	if (!r && s->direct)
		r = persist(s, remove_files);
	if (!r)
		r = persist(s, restore_settings);
	if (!gw__qmp_query_status(s->qmp, &status, NULL)) /* lets late events arrive */
		snprintf(s->state, sizeof s->state, "%s", status.name);
	note_events(s);
	return gw__save_note_monitor(s, r);
}

void gw__save_close(struct gw__save *s)
{
	gw__qmp_close(s->qmp);
	gw__qmp_settings_free(s->before);
	json_decref(s->identity);
	free(s->note);
	if (s->source_fd >= 0)
		close(s->source_fd);
	gw__private_socket_remove(&s->own);
}
