/* SPDX-License-Identifier: MIT */
/*
 * A save that failed: the QEMU is put back in order as far as it can be, and a sentence says how it and its guest stand now; see
 * save.h. Not the failure itself, which is told by whoever met it. Main thread, after the worker's end.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "qmp/sleep.h"
#include "cli/cmd/save.h"
#include "qemu/surrogate_destination.h"

enum { REPAIR_PATIENCE_MS = 3000, RECONNECT_MS = 5000, RECONNECT_LONG_MS = 30000, CANCELLING_MS = 3000, POLL_MS = 20 };

/* The image is there, and only something behind it went wrong. */
static int failed_but_kept(struct gw__save *s, const char *what, int repaired, const char *unrepaired)
{
	const char *run = s->was.running ? "runs on" : "is stopped as before";
	if (!repaired)
		return gw__cli_failed(&s->common, GW__EXIT_IN_DOUBT, "%s; the guest is kept in %s all the same, and %s", what, s->path,
			run);
	return gw__cli_failed(&s->common, GW__EXIT_IN_DOUBT,
		"%s; the guest is kept in %s all the same, but the QEMU could not be put back in order: %s", what, s->path, unrepaired);
}

static bool is_lost(int r) { return r == -ECONNRESET || r == -EPIPE || r == -ENOTCONN; }

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
	if (gw__cli_stopped() || (!ended_early && !s->error.code))
		return;
	int r = gw__qmp_query_migrate(s->qmp, &m, NULL);
	for (int waited = 0; !r && !strcmp(m.status, "cancelling") && waited < CANCELLING_MS; waited += POLL_MS) {
		gw__sleep_ms(POLL_MS);
		r = gw__qmp_query_migrate(s->qmp, &m, NULL);
	}
	if (r)
		say_quit(s, text, n);
	else if (m.cancelled)
		snprintf(text, n, "somebody cancelled the migration at a monitor of the QEMU at %s (status \"cancelled\")", s->address);
	else if (m.failed && *m.error && !s->error.code)
		snprintf(text, n, "QEMU ended the migration with status \"failed\": %s", m.error);
}

/* A broken connection is not the end of QEMU, unless the guest's broke with it. The first story is kept if it is. */
static int repair_anew(struct gw__save *s, struct gw__error *error)
{
	if (gw__save_reconnect(s, s->result < 0 ? RECONNECT_MS : RECONNECT_LONG_MS))
		return -ECONNRESET;
	gw__error_clear(error);
	return gw__watchdog_repair(s->qmp, s->before, s->was, REPAIR_PATIENCE_MS, error);
}

/* After the switch the guest is not put back by anybody but the rest of its memory, or its operator's word. */
static int stands_still(struct gw__save *s, enum gw__save_rest rest, const char *what)
{
	if (rest == GW__SAVE_PART_LEFT && !s->receipt.recoverable)
		return gw__cli_failed(&s->common, GW__EXIT_RECOVERABLE,
			"%s; the guest stands still in its QEMU as before (postcopy-paused): once that is put right, go on with godwit save --postcopy --resume "
			"%s %s, or have it run on without an image with --abandon",
			what, s->address, s->path);
	if (rest == GW__SAVE_PART_LEFT)
		return gw__cli_failed(&s->common, GW__EXIT_RECOVERABLE,
			"%s; the guest stands still in its QEMU (postcopy-paused), and %ju of its pages are missing in %s.partial: go on with godwit save "
			"--postcopy --resume %s %s, or have it run on without an image with --abandon",
			what, (uintmax_t)s->receipt.missing_pages, s->path, s->address, s->path);
	if (s->resume)
		return gw__cli_failed(&s->common, GW__EXIT_IN_DOUBT,
			"%s; its QEMU does not say that it waits for this save, so nothing was done to it; look at its query-migrate and query-status, and at %s.partial",
			what, s->path);
	return gw__cli_failed(&s->common, GW__EXIT_IN_DOUBT,
		"%s; the guest was being handed over, and stands still in its QEMU, which does not say what it waits for; look at its query-migrate, and at "
		"%s.partial",
		what, s->path);
}

int gw__save_failed(struct gw__save *s)
{
	char what[sizeof s->error.text];
	bool ours = s->error.code; /* the monitor's story explains more than the channel's */
	snprintf(what, sizeof what, "%s", ours ? s->error.text : gw__command_error(&s->work));
	say_cause(s, what, sizeof what);
	struct gw__error repair = {0};
	struct gw__error hang = {0};
	enum gw__save_rest rest = s->postcopy && s->result < 0 ? gw__save_what_is_left(s) : GW__SAVE_NOTHING_LEFT;
	bool is_held = s->receipt.recoverable || s->resume;
	if (rest == GW__SAVE_UNKNOWN && is_held && gw__watchdog_check_hang(s->qmp, s->path, &hang))
		return gw__cli_failed(&s->common, GW__EXIT_RECOVERABLE, "%s; %s", what, hang.text);
	if (rest != GW__SAVE_NOTHING_LEFT && is_held)
		return stands_still(s, rest, what);
	int r = rest == GW__SAVE_ALL_LEFT ? gw__surrogate_give_back(s->qmp, s->before, s->was, &repair)
					  : gw__watchdog_repair(s->qmp, s->before, s->was, REPAIR_PATIENCE_MS, &repair);
	if (is_lost(r) && !(r = repair_anew(s, &repair)))
		snprintf(what, sizeof what, "the connection to the monitor at %s broke in the middle", s->address);
	if (s->result >= 0 || s->receipt.image_committed)
		return failed_but_kept(s, what, r, repair.text);
	if (is_lost(r))
		return gw__cli_failed(&s->common, GW__EXIT_IN_DOUBT, "%s; QEMU itself has gone away, and nothing was written to %s", what,
			s->path);
	if (r)
		return gw__cli_failed(&s->common, GW__EXIT_IN_DOUBT, "%s; and the QEMU could not be put back in order: %s", what,
			repair.text);
	gw__save_drop_list(s);
	/* docs/spec/channels.md 5.3: seen with 7.2, and not with 10.0 */
	bool spoilt = s->at_start && gw__qmp_version(s->qmp) < 1000;
	bool is_there = access(s->path, F_OK) == 0;
	return gw__cli_failed(&s->common, GW__EXIT_FAILED, "%s; %s%s, and the guest %s%s", what,
		is_there ? s->path : "no image was written", is_there ? " is as it was before" : "",
		s->was.running ? "runs on" : "is stopped as before",
		spoilt ? ", but a QEMU as old as this may refuse to migrate after a background snapshot that failed" : "");
}
