/* SPDX-License-Identifier: MIT */
/*
 * A save that its QEMU writes itself, into a file without a name that it is handed; gw_receive_file() checks, syncs and names it. See save.h. One thread.
 * docs/spec/mapped-ram.md 5 and 6 say what QEMU does with such a file.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "plan/save_method.h"
#include "qemu/file_set.h"
#include "qemu/save.h"

enum {
	USER_POLL_MS = 20,  /* what its user does is looked at so often */
	MONITOR_MS = 20000, /* for a monitor that is served anew, less than is silence */
	ATTEMPT_MS = 1000,
	MAX_PASSES = 40,
};
#define UNLIMITED_BYTES_PER_S (INT64_C(1) << 42)

int gw__save_choose_way(struct gw__save *s)
{
	static const enum gw__save_wish wishes[] = {[GW_QEMU_SAVE_AUTO] = GW__SAVE_WISH_AUTO,
		[GW_QEMU_SAVE_DIRECT] = GW__SAVE_WISH_DIRECT,
		[GW_QEMU_SAVE_STREAM] = GW__SAVE_WISH_STREAM};
	const struct gw__plan_save p = {
		.writes_images = gw__qmp_settings_has(s->before, "mapped-ram"),
		.takes_files = gw__qmp_can_pass_fds(s->qmp),
		.has_direct_io = gw__qmp_settings_parameter(s->before, "direct-io"),
		.guest_runs = s->was.running,
		.at_start = s->at_start,
		.postcopy = s->postcopy || s->resume,
		.compression = s->o.compression != GW_COMPRESS_NONE,
		.tls = s->o.tls,
		.listen = s->listen,
		.memory_limit = s->o.memory_limit,
		.max_bandwidth = s->o.max_bandwidth,
		.channels = s->o.channels,
		.direct_io = s->o.direct_io,
		.stop = s->o.stop,
	};
	char reason[300];
	enum gw__save_method method = gw__plan_save_method(wishes[s->o.way], &p, reason, sizeof reason);
	s->direct = method == GW__SAVE_METHOD_DIRECT;
	s->refused = method == GW__SAVE_METHOD_REFUSED;
	if (s->refused)
		return gw__error_set(&s->error, -EOPNOTSUPP, "%s", reason);
	gw__qemu_detail(s->driver, "%s", reason);
	return 0;
}

/* --- the source --- */

/* What its user left behind must not be taken for ours: direct I/O without a second descriptor ends a QEMU, and zero pages belong into no image. */
static int set_parameters(struct gw__save *s)
{
	bool multifd = s->o.channels || s->o.direct_io;
	json_t *p = json_pack("{s:I, s:s}", "max-bandwidth",
		(json_int_t)(s->o.max_bandwidth ? s->o.max_bandwidth : (uint64_t)UNLIMITED_BYTES_PER_S), "multifd-compression", "none");
	if (gw__qmp_settings_parameter(s->before, "tls-creds"))
		json_object_set_new(p, "tls-creds", json_string(""));
	if (gw__qmp_settings_parameter(s->before, "zero-page-detection"))
		json_object_set_new(p, "zero-page-detection", json_string("multifd"));
	if (gw__qmp_settings_parameter(s->before, "direct-io"))
		json_object_set_new(p, "direct-io", json_boolean(s->o.direct_io));
	if (multifd)
		json_object_set_new(p, "multifd-channels", json_integer(s->o.channels ? s->o.channels : 1));
	return gw__qmp_call(s->qmp, "migrate-set-parameters", p, NULL, &s->error);
}

static int prepare(struct gw__save *s)
{
	const struct gw__qmp_capability caps[] = {{"mapped-ram", true}, {"multifd", true}};
	int r = gw__qmp_clear_capabilities(s->qmp, s->before, false, &s->error);
	if (!r)
		r = set_parameters(s);
	return r ? r : gw__qmp_set_capabilities(s->qmp, caps, s->o.channels || s->o.direct_io ? 2 : 1, &s->error);
}

/* A QEMU that may not write to our file says so here, and one that is sent for gets a socket instead. */
static int on_file(void *ctx, int fd, int direct_fd)
{
	struct gw__save *s = ctx;
	char uri[80];
	json_int_t id = 0;
	int r = prepare(s);
	if (!r)
		r = gw__file_set_hand(s->qmp, fd, direct_fd, &id, &s->error);
	snprintf(uri, sizeof uri, "file:/dev/fdset/%lld,offset=%llu", (long long)id, (unsigned long long)s->o.image_offset);
	if (!r)
		r = gw__qmp_migrate(s->qmp, uri, &s->error);
	s->try_stream = r == -EREMOTEIO && s->o.way == GW_QEMU_SAVE_AUTO;
	atomic_store(&s->driver->rate_known, !r);
	return gw__save_note_monitor(s, r);
}

static bool is_dead(const struct gw__save *s)
{
	char path[40];
	snprintf(path, sizeof path, "/proc/%lld", (long long)s->thread_id);
	return s->thread_id && access(path, F_OK);
}

/* Nothing else than its monitor tells that a QEMU is gone, and a monitor may come back. */
static int look_for_monitor(struct gw__save *s)
{
	struct gw__error lost = s->error;
	bool is_gone = is_dead(s);
	int r = gw__save_reconnect(s, ATTEMPT_MS);
	if (!r || (r != -ESTALE && !is_gone && s->monitor_lost_ms < MONITOR_MS)) {
		s->monitor_lost_ms = r ? s->monitor_lost_ms + ATTEMPT_MS : 0;
		gw__error_clear(&s->error);
		return GW_WRITING;
	}
	gw__error_clear(&s->error);
	return gw__save_note_monitor(s, gw__error_set(&s->error, -ECONNRESET, "%s", lost.text));
}

/* Only after a stream can it be left as its user, or itself, has just stopped it. */
static int check_still_runs(struct gw__save *s, const struct gw__qmp_migration *m)
{
	uint64_t now_ms = m->total_ms;
	if (m->ended || (s->user_seen_ms && now_ms < s->user_seen_ms + USER_POLL_MS))
		return 0;
	s->user_seen_ms = now_ms + 1;
	bool ran = s->was.running;
	if (!s->was.stopped_by_us)
		gw__save_note_user(s, m);
	if (!ran || s->was.running || s->o.stop)
		return 0;
	s->try_stream = s->o.way == GW_QEMU_SAVE_AUTO;
	return gw__error_set(&s->error, -EAGAIN,
		"the guest was stopped during the save, and would lose its run state in a save that QEMU writes itself");
}

static void tell(const struct gw__save *s, const struct gw__qmp_migration *m, struct gw_progress *p)
{
	p->phase = m->state == GW__MIGRATION_DEVICE ? GW_PHASE_DEVICES : GW_PHASE_RAM;
	p->ram_bytes = m->total_bytes;
	p->moved_bytes = m->transferred_bytes;
	p->pages = m->sent_pages;
	p->rounds = (uint32_t)m->dirty_sync_count;
	atomic_store(&s->driver->remaining_bytes, m->remaining_bytes);
	atomic_store(&s->driver->dirty_bytes_per_s, m->dirty_pages_rate * m->page_bytes);
}

static int on_poll(void *ctx, struct gw_progress *p)
{
	struct gw__save *s = ctx;
	struct gw__qmp_migration m;
	int r = gw__qmp_query_migrate(s->qmp, &m, &s->error);
	if (gw__save_is_lost(r))
		return look_for_monitor(s);
	if (!r) {
		tell(s, &m, p);
		r = check_still_runs(s, &m);
	}
	if (!r && m.failed && *m.error)
		r = gw__error_set(&s->error, -EREMOTEIO, "QEMU could not write %s: %s", s->path, m.error);
	else if (!r && m.ended && !m.completed)
		r = gw__save_say_ended(s, &m);
	if (gw__save_is_lost(r))
		return look_for_monitor(s);
	if (r || m.completed)
		return gw__save_note_monitor(s, r);
	if (!s->was.stopped_by_us && s->was.running && m.dirty_sync_count >= MAX_PASSES && !m.ended)
		gw__save_stop_for_the_rest(s);
	return GW_WRITING;
}

/* The image tells how its guest stood at its end. It runs on before the file is synced, which a failure of that does not change. */
static int on_whole(void *ctx, const struct gw_whole *whole)
{
	struct gw__save *s = ctx;
	if (whole->run_state == GW_RUN_STATE_RUNNING) {
		gw__save_note_was(s, (struct gw__was){.running = true});
	} else if (whole->run_state_name && !s->was.stopped_by_us) {
		int r = gw__save_check_run_state(s, whole->run_state_name);
		if (r) {
			gw__save_note_was(s, (struct gw__was){0});
			return gw__save_note_monitor(s, r);
		}
		if (s->was.running && !s->o.stop)
			gw__qemu_warn(s->driver,
				"the guest was stopped (%s) at the end of the save, and its QEMU is in postmigrate; type cont to run the "
				"guest",
				whole->run_state_name);
		gw__save_note_was(s, (struct gw__was){0});
	}
	return s->o.stop ? 0 : gw__save_note_monitor(s, gw__save_let_stand(s));
}

int gw__save_direct(struct gw__save *s)
{
	struct gw_receive_file_opts o = GW_INIT(o);
	o.image_offset = s->o.image_offset;
	o.idle_timeout_ms = s->o.idle_timeout_ms;
	o.direct_io = s->o.direct_io;
	o.ctx = s;
	o.on_file = on_file;
	o.on_poll = on_poll;
	o.on_whole = on_whole;
	char path[40];
	s->thread_id = json_integer_value(json_object_get(s->identity, "thread"));
	snprintf(path, sizeof path, "/proc/%lld", (long long)s->thread_id);
	if (access(path, F_OK)) /* of another host, or in another namespace */
		s->thread_id = 0;
	s->result = gw_receive_file(s->driver->job, s->path, &o, &s->receipt);
	return s->result;
}
