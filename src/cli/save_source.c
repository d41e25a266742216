/* SPDX-License-Identifier: MIT */
/* Drives the QEMU that is being saved; see save.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/pause.h"
#include "cli/save.h"

enum {
	CONNECT_MS = 10000,
	FOLLOW_MS = 200,
	END_MS = 30000,  /* from our SHUT to "completed" */
	MAX_PASSES = 40, /* a guest that still dirties faster than we receive is stopped for the rest */
};
#define UNLIMITED_BYTES_PER_S (INT64_C(1) << 42)
static const char FD_NAME[] = "godwit-save";

static int look_at_state(struct gw__save *s)
{
	struct gw__qmp_status status;
	struct gw__qmp_migration m;
	int r = gw__qmp_query_status(s->qmp, &status, &s->why);
	if (!r)
		r = gw__qmp_query_migrate(s->qmp, &m, &s->why);
	if (r)
		return r;
	s->was_running = status.running;
	if (!strcmp(status.name, "inmigrate"))
		return gw__why_set(&s->why, -EBUSY, "this QEMU waits for an incoming migration itself; it has no guest to save yet");
	if (!strcmp(status.name, "postmigrate"))
		return gw__why_set(&s->why, -EBUSY,
			"this QEMU has given its guest away in an earlier migration (state postmigrate); if it is still the one to run, let it "
			"run with the monitor command cont first");
	if (!strncmp(m.status, "postcopy", strlen("postcopy")) && !m.total_bytes) /* only a source counts what it sends */
		return gw__why_set(&s->why, -EBUSY,
			"this QEMU still lacks pages of its guest (post-copy, status \"%s\"), which cannot be cancelled; let its page server "
			"(godwit serve) bring the rest first",
			m.status);
	if (m.status[0] && !m.ended && strcmp(m.status, "none"))
		return gw__why_set(&s->why, -EBUSY,
			"this QEMU is busy with another migration (status \"%s\"); wait for its end or cancel it", m.status);
	return 0;
}

/* 7.2 does not say in time that it has such a device, and then pages that never come would be missed. */
static int check_unplugged(struct gw__save *s)
{
	uint64_t unplugged = 0;
	int r = s->postcopy && gw__qmp_version(s->qmp) < 800 ? gw__qmp_query_unplugged(s->qmp, &unplugged, &s->why) : 0;
	return r || !unplugged
		       ? r
		       : gw__why_set(&s->why, -EOPNOTSUPP,
				 "this QEMU has a virtio-mem device that is not plugged in full, and is too old to be saved by post-copy with it; leave out --postcopy");
}

int gw__save_open(struct gw__save *s)
{
	int r = s->resume ? gw__save_read_note(s) : 0;
	if (!r)
		r = gw__qmp_open(s->address, CONNECT_MS, &s->qmp, &s->why);
	if (r || s->resume)
		return r ? r : gw__save_check_source(s);
	r = look_at_state(s);
	if (!r)
		r = check_unplugged(s);
	if (!r)
		r = gw__qmp_settings_save(s->qmp, &s->before, &s->why);
	/* A guest that does not run has one moment only. QEMU 7.2 would set it running, and one that never ran is an abort. */
	s->at_start = s->at_start && s->was_running;
	if (!r && s->at_start && !gw__qmp_settings_has(s->before, "background-snapshot"))
		r = gw__why_set(&s->why, -EOPNOTSUPP, "this QEMU has no background snapshots; leave out --at start");
	return r;
}

static void add_multifd(const struct gw__save *s, json_t *p)
{
	static const char *const methods[] = {"none", "zlib", "zstd"};
	unsigned level = s->level ? s->level : 1;
	json_object_set_new(p, "multifd-channels", json_integer(s->channels));
	json_object_set_new(p, "multifd-compression", json_string(methods[s->compression]));
	if (s->compression == GW_COMPRESS_ZLIB)
		json_object_set_new(p, "multifd-zlib-level", json_integer(level));
	if (s->compression == GW_COMPRESS_ZSTD)
		json_object_set_new(p, "multifd-zstd-level", json_integer(level));
}

static int set_parameters(struct gw__save *s)
{
	json_t *p =
		json_pack("{s:I}", "max-bandwidth", (json_int_t)(s->max_bandwidth ? s->max_bandwidth : (uint64_t)UNLIMITED_BYTES_PER_S));
	if (gw__qmp_settings_parameter(s->before, "tls-creds") && !s->tls.creds_dir)
		json_object_set_new(p, "tls-creds", json_string(""));
	if (s->channels)
		add_multifd(s, p);
	if (s->postcopy) /* 0: no limit */
		json_object_set_new(p, "max-postcopy-bandwidth", json_integer((json_int_t)s->max_bandwidth));
	return gw__qmp_call(s->qmp, "migrate-set-parameters", p, NULL, &s->why);
}

static int prepare(struct gw__save *s)
{
	const struct gw__qmp_capability background[] = {{"background-snapshot", true}};
	const struct gw__qmp_capability live[] = {{"return-path", true}, {s->postcopy ? "postcopy-ram" : "multifd", true}};
	int r = gw__qmp_clear_capabilities(s->qmp, s->before, &s->why);
	if (!r && s->at_start)
		r = gw__qmp_set_capabilities(s->qmp, background, 1, &s->why);
	else if (!r)
		r = gw__qmp_set_capabilities(s->qmp, live, s->channels || s->postcopy ? 2 : 1, &s->why);
	return r ? r : set_parameters(s);
}

int gw__save_start(struct gw__save *s)
{
	char uri[64] = "fd:";
	strcat(uri, FD_NAME);
	if (s->resume) { /* the source is told as often as the link breaks, the first time too */
		atomic_store(&s->started, true);
		return 0;
	}
	int r = prepare(s);
	if (!r && !s->listen)
		r = gw__qmp_call_fd(s->qmp, "getfd", json_pack("{s:s}", "fdname", FD_NAME), s->source_fd, NULL, &s->why);
	if (!s->listen) { /* QEMU has its own now, and ours would hide its death */
		close(s->source_fd);
		s->source_fd = -1;
	}
	if (!r)
		r = gw__qmp_migrate(s->qmp, s->listen ? s->listening : uri, &s->why);
	atomic_store(&s->started, !r);
	return r;
}

/* QEMU has given up and does not always close its end. What the channel says in the next moment explains more. */
static void give_up(struct gw__save *s, const struct gw__qmp_migration *m)
{
	for (int i = 0; i < 10; i++) {
		gw__cli_sleep_ms(FOLLOW_MS / 10);
		if (atomic_load(&s->done))
			return;
	}
	gw__why_set(&s->why, -EREMOTEIO, "QEMU ended the migration with status \"%s\": %s", m->status,
		m->error[0] ? m->error : "it does not say why");
	gw_job_cancel(s->work.job);
}

/*
 * Its user may stop the guest meanwhile, or let it run: that holds afterwards. QEMU's own stops have other names, but for
 * the short one of a background snapshot.
 */
static void note_its_user(struct gw__save *s)
{
	struct gw__qmp_status now;
	if (s->at_start || gw__qmp_query_status(s->qmp, &now, NULL))
		return;
	if (now.running || !strcmp(now.name, "paused"))
		s->was_running = now.running;
}

void gw__save_follow(struct gw__save *s)
{
	bool stopped = false, over = false;
	while (!atomic_load(&s->done)) {
		struct gw__qmp_migration m;
		gw__cli_sleep_ms(FOLLOW_MS / 10);
		for (int i = 0; i < 9 && !atomic_load(&s->done) && !atomic_load(&s->paused); i++)
			gw__cli_sleep_ms(FOLLOW_MS / 10);
		if (!atomic_load(&s->started) || atomic_load(&s->done))
			continue;
		if (gw__qmp_query_migrate(s->qmp, &m, NULL))
			continue; /* QEMU's death shows on the channel as well; the worker reports it */
		atomic_store(&s->remaining_bytes, m.remaining_bytes);
		atomic_store(&s->dirty_bytes_per_s, m.dirty_pages_rate * m.page_bytes);
		if (s->postcopy)
			gw__save_follow_postcopy(s, &m);
		if (m.ended && !m.completed && !over && !s->resume) {
			over = true;
			give_up(s, &m);
		}
		if (!stopped && !s->postcopy)
			note_its_user(s);
		if (stopped || s->at_start || s->postcopy || m.passes < MAX_PASSES || m.ended)
			continue;
		gw__cli_detail("the guest dirties memory faster than it can be received; it is stopped for the rest");
		stopped = gw__qmp_call(s->qmp, "stop", NULL, NULL, NULL) == 0;
	}
}

/* When did QEMU's guest stand still? Its own events know best. */
static void note_events(struct gw__save *s)
{
	json_t *event;
	while (gw__qmp_event(s->qmp, 0, &event, NULL) == 0) {
		const char *name = json_string_value(json_object_get(event, "event"));
		const json_t *t = json_object_get(event, "timestamp");
		uint64_t us = (uint64_t)json_integer_value(json_object_get(t, "seconds")) * 1000000 +
			      (uint64_t)json_integer_value(json_object_get(t, "microseconds"));
		if (name && !strcmp(name, "STOP"))
			s->stopped_us = us;
		if (name && !strcmp(name, "RESUME"))
			s->resumed_us = us;
		json_decref(event);
	}
}

/* The source must agree that it is over before its guest may run again. */
static int await_completed(struct gw__save *s)
{
	for (int waited = 0; waited < END_MS; waited += 5) {
		struct gw__qmp_migration m;
		int r = gw__qmp_query_migrate(s->qmp, &m, &s->why);
		if (r)
			return r;
		if (m.completed)
			return 0;
		if (m.ended)
			return gw__why_set(&s->why, -EREMOTEIO, "QEMU ended the migration with status \"%s\": %s", m.status,
				m.error[0] ? m.error : "it does not say why");
		gw__cli_sleep_ms(5);
	}
	return gw__why_set(&s->why, -ETIMEDOUT, "QEMU has sent everything but does not end its migration");
}

int gw__save_finish(struct gw__save *s)
{
	struct gw__qmp_status status = {0};
	int r = s->receipt.whole_before ? 0 : await_completed(s); /* then QEMU made of it what it would */
	if (!r && s->was_running && !s->stop)
		r = gw__guard_let_run(s->qmp, &s->why);
	if (!r && s->stop && s->at_start)
		r = gw__qmp_call(s->qmp, "stop", NULL, NULL, &s->why);
	if (!r)
		r = gw__qmp_settings_restore(s->qmp, s->before, &s->why);
	gw__qmp_query_status(s->qmp, &status, NULL); /* lets late events arrive */
	note_events(s);
	return r;
}

void gw__save_close(struct gw__save *s)
{
	gw__qmp_close(s->qmp);
	gw__qmp_settings_free(s->before);
	json_decref(s->identity);
	free(s->note);
	if (s->source_fd >= 0)
		close(s->source_fd);
	gw__own_socket_remove(&s->own);
}
