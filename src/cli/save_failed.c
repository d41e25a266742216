/* SPDX-License-Identifier: MIT */
/*
 * A save that failed: the QEMU is put back in order as far as it can be, and a sentence says how it and its guest stand now; see
 * save.h. Not the failure itself, which is told by whoever met it. Main thread, after the worker's end.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/save.h"
#include "cli/standin.h"

enum { REPAIR_PATIENCE_MS = 3000, RECONNECT_MS = 5000 };

/* The image is there, and only something behind it went wrong. */
static int failed_but_kept(struct gw__save *s, const char *what, int repaired, const char *unrepaired)
{
	const char *run = s->was_running ? "runs on" : "is stopped as before";
	if (!repaired)
		return gw__cli_failed(&s->common, GW__EXIT_IN_DOUBT, "%s; the guest is kept in %s all the same, and %s", what, s->path,
			run);
	return gw__cli_failed(&s->common, GW__EXIT_IN_DOUBT,
		"%s; the guest is kept in %s all the same, but the QEMU could not be put back in order: %s", what, s->path, unrepaired);
}

/* A stream that ends too early ends for a reason, which QEMU knows. What we broke off ourselves needs no second story. */
static const char *qemus_reason(struct gw__save *s, char *text, size_t n)
{
	struct gw__qmp_migration m;
	bool ended_early = s->result == -EPROTO || s->result == -ECONNRESET || s->result == -EPIPE;
	if (!ended_early || s->why.code || gw__cli_stopped() || gw__qmp_query_migrate(s->qmp, &m, NULL) || !m.ended || m.completed)
		return "";
	snprintf(text, n, " (QEMU's migration has the status \"%s\"%s%s)", m.status, *m.error && !m.cancelled ? ": " : "",
		m.cancelled ? "" : m.error);
	return text;
}

static bool is_lost(int r) { return r == -ECONNRESET || r == -EPIPE || r == -ENOTCONN; }

/* A broken connection is not the end of QEMU. The first story is kept if it is. */
static int repair_anew(struct gw__save *s, struct gw__why *why)
{
	struct gw__why again = {0};
	struct gw__qmp *q = NULL;
	if (gw__qmp_open(s->address, RECONNECT_MS, &q, &again))
		return -ECONNRESET;
	gw__qmp_close(s->qmp);
	s->qmp = q;
	gw__why_clear(why);
	return gw__guard_repair(q, s->before, s->was_running, REPAIR_PATIENCE_MS, why);
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
	char what[sizeof s->why.text], reason[600];
	bool ours = s->why.code; /* the monitor's story explains more than the channel's */
	snprintf(what, sizeof what, "%s", ours ? s->why.text : gw__cli_work_why(&s->work));
	struct gw__why repair = {0};
	struct gw__why hang = {0};
	enum gw__save_rest rest = s->postcopy && s->result < 0 ? gw__save_what_is_left(s) : GW__SAVE_NOTHING_LEFT;
	bool is_held = s->receipt.recoverable || s->resume;
	if (rest == GW__SAVE_UNKNOWN && is_held && gw__guard_check_hang(s->qmp, s->path, &hang))
		return gw__cli_failed(&s->common, GW__EXIT_RECOVERABLE, "%s; %s", what, hang.text);
	if (rest != GW__SAVE_NOTHING_LEFT && is_held)
		return stands_still(s, rest, what);
	int r = rest == GW__SAVE_ALL_LEFT ? gw__standin_give_back(s->qmp, s->before, s->was_running, &repair)
					  : gw__guard_repair(s->qmp, s->before, s->was_running, REPAIR_PATIENCE_MS, &repair);
	if (is_lost(r) && !(r = repair_anew(s, &repair)))
		snprintf(what, sizeof what, "the connection to the monitor at %s broke in the middle", s->address);
	if (s->result >= 0 || s->receipt.in_place)
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
	return gw__cli_failed(&s->common, GW__EXIT_FAILED, "%s%s; %s%s, and the guest %s%s", what, qemus_reason(s, reason, sizeof reason),
		is_there ? s->path : "no image was written", is_there ? " is as it was before" : "",
		s->was_running ? "runs on" : "is stopped as before",
		spoilt ? ", but a QEMU as old as this may refuse to migrate after a background snapshot that failed" : "");
}
