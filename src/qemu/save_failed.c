/* SPDX-License-Identifier: MIT */
/*
 * A save that failed: the QEMU is put back in order as far as it can be, and the outcome says how it and its guest stand now; see
 * save.h. Not the failure itself, which is told by whoever met it. Main thread, after the worker's end.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "qemu/file_set.h"
#include "qemu/save.h"
#include "qemu/surrogate_destination.h"
#include "qmp/sleep.h"

enum { REPAIR_PATIENCE_MS = 3000, RECONNECT_MS = 5000, RECONNECT_LONG_MS = 30000, CANCELLING_MS = 3000, POLL_MS = 20 };

/* A QEMU that was told to quit says so before it does. */
static void say_quit(struct gw__save *s, char *text, size_t n)
{
	json_t *event;
	while (gw__qmp_event(s->qmp, 0, &event, NULL) == 0) {
		const char *reason = json_string_value(json_object_get(json_object_get(event, "data"), "reason"));
		const char *name = json_string_value(json_object_get(event, "event"));
		if (name && !strcmp(name, "SHUTDOWN"))
			snprintf(text, n, "the QEMU at %s quit during the save (%s)", s->address, reason ? reason : "no reason given");
		json_decref(event);
	}
}

/* A stream that ends too early ends for a reason, which QEMU knows and which comes first. What we broke off ourselves needs no second story. */
static void say_cause(struct gw__save *s, char *text, size_t n)
{
	struct gw__qmp_migration m;
	bool ended_early = s->result == -EPROTO || s->result == -ECONNRESET || s->result == -EPIPE || s->result == -EREMOTEIO;
	if (gw__qemu_cancelled(s->driver) || (!ended_early && !s->monitor_failed))
		return;
	int r = gw__qmp_query_migrate(s->qmp, &m, NULL);
	for (int waited = 0; !r && m.state == GW__MIGRATION_CANCELLING && waited < CANCELLING_MS; waited += POLL_MS) {
		gw__sleep_ms(POLL_MS);
		r = gw__qmp_query_migrate(s->qmp, &m, NULL);
	}
	if (r)
		say_quit(s, text, n);
	else if (m.cancelled)
		snprintf(text, n, "the migration was cancelled at a monitor of the QEMU at %s (status \"cancelled\")", s->address);
	else if (m.failed && *m.error && !s->monitor_failed && !gw__qemu_refused(m.error, GW__REFUSAL_SINK_FAILED))
		snprintf(text, n, "QEMU ended the migration with status \"failed\": %s", m.error);
}

/* A QEMU that writes a file itself does not end by itself. */
static int repair(struct gw__save *s, struct gw__error *error)
{
	int r = gw__watchdog_repair(s->qmp, s->before, s->was, s->direct ? 0 : REPAIR_PATIENCE_MS, error);
	int removed = s->direct ? gw__file_set_remove(s->qmp, error) : 0;
	return r ? r : removed;
}

/* A broken connection is not the end of QEMU, unless the guest's broke with it. The first story is kept if it is. */
static int repair_anew(struct gw__save *s, struct gw__error *error)
{
	if (gw__save_reconnect(s, s->result < 0 ? RECONNECT_MS : RECONNECT_LONG_MS))
		return -ECONNRESET;
	gw__error_clear(error);
	return repair(s, error);
}

/* After the switch the guest is not put back by anybody but the rest of its memory, or its operator's word. */
static int stands_still(struct gw__save *s, enum gw__save_rest rest, int code, const char *what)
{
	s->out.recoverable = s->receipt.recoverable;
	s->out.resumed = s->resume;
	return gw__save_end(s, rest == GW__SAVE_PART_LEFT ? GW_QEMU_SAVE_PAUSED : GW_QEMU_SAVE_UNKNOWN, code, "%s", what);
}

/* The QEMU is as before, or it is not, for the reason in `trouble`. */
static int say_outcome(struct gw__save *s, int code, const char *what, int r, const struct gw__error *trouble)
{
	s->out.image_kept = s->result >= 0 || s->receipt.image_committed;
	if (s->out.image_kept && !r)
		return gw__save_end(s, GW_QEMU_SAVE_KEPT, code, "%s", what);
	if (s->out.image_kept)
		return gw__save_end(s, GW_QEMU_SAVE_NOT_PUT_BACK, code,
			"%s; the image %s is whole all the same, but the QEMU could not be reset: %s", what, s->path, trouble->text);
	if (gw__save_is_lost(r))
		return gw__save_end(s, GW_QEMU_SAVE_QEMU_GONE, code, "%s", what);
	if (r)
		return gw__save_end(s, GW_QEMU_SAVE_NOT_PUT_BACK, code, "%s; and the QEMU could not be reset: %s", what, trouble->text);
	gw__save_drop_list(s);
	s->out.may_refuse = s->at_start && gw__qmp_has_quirk(s->qmp, GW__QUIRK_SPOILT_BY_SNAPSHOT);
	return gw__save_end(s, GW_QEMU_SAVE_FAILED, code, "%s", what);
}

int gw__save_failed(struct gw__save *s)
{
	char what[sizeof s->error.text];
	int code = s->monitor_failed ? s->error.code : s->result;
	snprintf(what, sizeof what, "%s", s->monitor_failed ? s->error.text : gw__qemu_job_error(s->driver));
	say_cause(s, what, sizeof what);
	struct gw__error trouble = {0};
	struct gw__error hang = {0};
	enum gw__save_rest rest = s->postcopy && s->result < 0 ? gw__save_what_is_left(s) : GW__SAVE_NOTHING_LEFT;
	bool is_held = s->receipt.recoverable || s->resume;
	if (rest == GW__SAVE_UNKNOWN && is_held && gw__watchdog_check_hang(s->qmp, &hang))
		return gw__save_end(s, GW_QEMU_SAVE_HUNG, code, "%s; %s", what, hang.text);
	if (rest != GW__SAVE_NOTHING_LEFT && is_held)
		return stands_still(s, rest, code, what);
	const struct gw__surrogate_link where = {s->o.listen, s->o.tls};
	int r = rest == GW__SAVE_ALL_LEFT ? gw__surrogate_rollback(s->qmp, s->before, s->was, where, &trouble) : repair(s, &trouble);
	if (gw__save_is_lost(r) && !(r = repair_anew(s, &trouble)))
		snprintf(what, sizeof what, "the connection to the monitor at %s broke in the middle", s->address);
	return say_outcome(s, code, what, r, &trouble);
}
