/* SPDX-License-Identifier: MIT */
/*
 * A save whose QEMU switches to post-copy, and what becomes of it when the link breaks or we die; see save.h. The monitor's side: the
 * worker only says that it waits for the source.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/save.h"
#include "qemu/surrogate_destination.h"

/* --- words to whoever goes on --- */

int gw__save_make_note(struct gw__save *s)
{
	json_t *note = json_pack("{s:o, s:b, s:O}", "settings", gw__qmp_settings_to_json(s->before), "running", s->was.running, "qemu",
		s->identity);
	s->note = note ? json_dumps(note, JSON_COMPACT) : NULL;
	json_decref(note);
	return s->note ? 0 : gw__error_set(&s->error, -ENOMEM, "no memory for QEMU's migration settings");
}

/* What the first process knew of the QEMU, from what it left. */
int gw__save_read_note(struct gw__save *s)
{
	void *text = NULL;
	size_t n = 0;
	gw_job *job = NULL;
	int r = gw_job_new(&job);
	if (!r)
		r = gw_partial_user_data(job, s->path, &text, &n);
	if (r)
		gw__error_set(&s->error, r, "%s", job ? gw_job_error(job) : "no memory");
	gw_job_free(job);
	json_t *note = r ? NULL : json_loadb(text, n, 0, NULL);
	free(text);
	if (r)
		return r;
	s->was = (struct gw__was){.running = json_is_true(json_object_get(note, "running"))};
	s->before = gw__qmp_settings_from_json(json_object_get(note, "settings"));
	s->identity = json_incref(json_object_get(note, "qemu"));
	json_decref(note);
	if (s->before && s->identity)
		return 0;
	gw__error_advise(&s->driver->error, GW_QEMU_HINT_OTHER_WORK);
	return gw__error_set(&s->error, -EPROTO, "%s.partial was not begun by a save", s->path);
}

/*
 * Another QEMU would be given a guest that it may have handed to somebody else, and this one's would be lost. So would be one that has
 * begun another migration since.
 */
int gw__save_check_source(struct gw__save *s)
{
	struct gw__qmp_migration m;
	json_t *now = NULL;
	int r = gw__qmp_query_identity(s->qmp, &now, &s->error);
	bool same = !r && json_equal(now, s->identity);
	json_decref(now);
	if (!r)
		r = gw__qmp_query_migrate(s->qmp, &m, &s->error);
	if (r)
		return r;
	if (!same)
		return gw__error_set(&s->error, -EINVAL, "the QEMU at %s is not the one whose guest %s.partial is a part of", s->address,
			s->path);
	bool is_postcopy = gw__qmp_is_postcopy(m.state);
	if (!is_postcopy && gw__watchdog_check_hang(s->qmp, &s->error))
		return s->error.code;
	if (!is_postcopy && !m.ended)
		return gw__error_set(&s->error, -EBUSY, "this QEMU does not wait for the rest of a save (migration status \"%s\")",
			*m.status ? m.status : "none");
	if (m.completed && s->abandon) {
		gw__error_advise(&s->driver->error, GW_QEMU_HINT_SAVE_RESUME);
		return gw__error_set(&s->error, -EBUSY, "this QEMU has sent its whole guest away (migration status \"completed\")");
	}
	return 0;
}

/* --- while the worker receives --- */

int gw__save_on_paused(void *ctx, const char *uri, const char *error)
{
	struct gw__save *s = ctx;
	(void)uri; /* on_listening told it */
	if (*error)
		gw__qemu_detail(s->driver, "%s; the guest is paused in its QEMU while Godwit reconnects", error);
	atomic_store(&s->paused, true);
	return 0;
}

/* Zeros count as sent, what virtio-mem has not plugged does not; QEMU's total has both. */
static bool has_passed(struct gw__save *s, const struct gw__qmp_migration *m)
{
	uint64_t unplugged = 0;
	if (m->dirty_sync_count <= 1 || !m->page_bytes)
		return false;
	gw__qmp_query_unplugged(s->qmp, &unplugged, NULL);
	return unplugged > m->total_bytes || m->sent_pages >= (m->total_bytes - unplugged) / m->page_bytes;
}

void gw__save_follow_postcopy(struct gw__save *s, const struct gw__qmp_migration *m)
{
	bool paused = atomic_exchange(&s->paused, false);
	const struct gw__surrogate_address at = {s->listening, !s->own.folder[0]};
	if (paused && gw__save_note_monitor(s, gw__surrogate_come_back(s->qmp, s->path, at, &s->error)))
		gw_job_cancel(s->driver->job);
	bool wants = s->was.running && !s->switched && !s->cannot_switch && !s->resume; /* who stands still already needs no switch */
	if (!wants || m->state != GW__MIGRATION_ACTIVE || !has_passed(s, m))
		return;
	struct gw__error error = {0};
	int r = gw__qmp_call(s->qmp, "migrate-start-postcopy", NULL, NULL, &error);
	s->switched = !r;
	s->cannot_switch = r == -EREMOTEIO; /* asked once more it would say the same */
	if (!r)
		gw__qemu_detail(s->driver, "after one pass over its memory the guest is stopped, then the rest is sent");
	else if (s->cannot_switch)
		gw__qemu_warn(s->driver, "%s; the save goes on without post-copy", error.text);
}

/* --- when it failed --- */

/* Of no use any more: its guest runs where it came from. */
static int drop_partial(struct gw__save *s, struct gw__error *error)
{
	gw_job *job = NULL;
	int r = gw_job_new(&job);
	if (!r)
		r = gw_partial_drop(job, s->path);
	if (r)
		gw__error_set(error, r, "%s", job ? gw_job_error(job) : "no memory");
	gw_job_free(job);
	return r;
}

void gw__save_drop_list(struct gw__save *s)
{
	struct gw__error error = {0};
	bool is_ours = s->receipt.postcopy && !s->receipt.recoverable && !s->resume;
	int r = is_ours ? drop_partial(s, &error) : 0;
	if (r && r != -ENOENT)
		gw__qemu_warn(s->driver, "%s", error.text);
}

/* The guest rather than its image: it runs on in its QEMU, and what came is thrown away. */
int gw__save_abandon(struct gw__save *s)
{
	struct gw__qmp_migration m;
	int r = gw__surrogate_await_paused(s->qmp, s->path, &m, &s->error);
	if (!r)
		r = gw__surrogate_rollback(s->qmp, s->before, s->was, (struct gw__surrogate_link){0}, &s->error);
	else if (r == GW__ENDED && (m.failed || m.cancelled)) /* it has its guest already */
		r = gw__watchdog_repair(s->qmp, s->before, s->was, 0, &s->error);
	struct gw__error hang = {0};
	s->out.was_running = s->was.running;
	if (r == -ETIMEDOUT && gw__watchdog_check_hang(s->qmp, &hang))
		return gw__save_end(s, GW_QEMU_SAVE_HUNG, hang.code, "%s", hang.text);
	if (r)
		return gw__save_end(s, GW_QEMU_SAVE_NOT_ABANDONED, r, "%s", s->error.code ? s->error.text : "it did not resume its guest");
	r = drop_partial(s, &s->error);
	s->out.outcome = GW_QEMU_SAVE_ABANDONED;
	return r ? gw__save_end(s, r == -EALREADY ? GW_QEMU_SAVE_ABANDONED_DOUBLE : GW_QEMU_SAVE_ABANDONED_LEFT_OVER, r, "%s",
			   s->error.text)
		 : 0;
}

enum gw__save_rest gw__save_what_is_left(struct gw__save *s)
{
	struct gw__qmp_migration m;
	struct gw__error error = {0};
	int r = gw__surrogate_await_paused(s->qmp, s->path, &m, &error);
	bool is_held = s->receipt.recoverable || s->resume;
	if (r == GW__ENDED && is_held && !m.failed && !m.cancelled)
		return GW__SAVE_UNKNOWN; /* somebody else has its guest, or we do not know who */
	if (r == GW__ENDED) {            /* it had sent everything, and has its guest again: what came is of no use */
		if (s->receipt.recoverable && drop_partial(s, &error))
			gw__qemu_warn(s->driver, "%s", error.text);
		return GW__SAVE_NOTHING_LEFT;
	}
	if (r)
		return GW__SAVE_UNKNOWN;
	return is_held ? GW__SAVE_PART_LEFT : GW__SAVE_ALL_LEFT;
}
