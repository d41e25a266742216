/* SPDX-License-Identifier: MIT */
/* From what a driver saw to where the guest is; see guest_outcome.h. */
#include "qemu/guest_outcome.h"

#include <string.h>

#include "base/math.h"

enum { NONE = -1 };

static struct gw_outcome at(enum gw_place place)
{
	struct gw_outcome o = GW_INIT(o);
	gw_outcome_at(&o, place);
	return o;
}

static void note(struct gw_outcome *o, int evidence)
{
	if (evidence != NONE)
		gw_outcome_note(o, (enum gw_evidence)evidence);
}

/* --- a save --- */

/* Of a guest that runs in its source, but for us; what did not run stands. */
static int as_before(const struct gw_qemu_save_result *r) { return r->was_running ? GW_EVIDENCE_SOURCE_RUNS : GW_EVIDENCE_SOURCE_STANDS; }

static int as_saved(const struct gw_qemu_save_result *r)
{
	return r->running                             ? GW_EVIDENCE_SAVED_RUNS
	       : !strcmp(r->run_state, "postmigrate") ? GW_EVIDENCE_SAVED_STOPPED
						      : GW_EVIDENCE_SAVED_STANDS;
}

static const struct {
	int evidence, then;
} AFTER_SAVE[] = {
	[GW_QEMU_SAVE_NOT_BEGUN] = {GW_EVIDENCE_UNCHANGED, NONE},
	[GW_QEMU_SAVE_REFUSED] = {GW_EVIDENCE_REFUSED, NONE},
	[GW_QEMU_SAVE_NOT_PUT_BACK] = {GW_EVIDENCE_SOURCE_UNREPAIRED, NONE},
	[GW_QEMU_SAVE_QEMU_GONE] = {GW_EVIDENCE_SOURCE_GONE, NONE},
	[GW_QEMU_SAVE_PAUSED] = {GW_EVIDENCE_SOURCE_WAITS, NONE},
	[GW_QEMU_SAVE_UNKNOWN] = {GW_EVIDENCE_SOURCE_UNCLEAR, NONE},
	[GW_QEMU_SAVE_HUNG] = {GW_EVIDENCE_SOURCE_HANGS, NONE},
	[GW_QEMU_SAVE_ABANDONED] = {GW_EVIDENCE_GIVEN_BACK, NONE},
	[GW_QEMU_SAVE_ABANDONED_LEFT_OVER] = {GW_EVIDENCE_GIVEN_BACK, GW_EVIDENCE_FILES_LEFT},
	[GW_QEMU_SAVE_ABANDONED_DOUBLE] = {GW_EVIDENCE_GIVEN_BACK, GW_EVIDENCE_ALSO_KEPT},
	[GW_QEMU_SAVE_NOT_ABANDONED] = {GW_EVIDENCE_NOT_GIVEN_BACK, NONE},
};

struct gw_outcome gw__guest_after_save(enum gw_place begun_at, const struct gw_qemu_save_result *r)
{
	bool whole = r->image_kept || r->outcome == GW_QEMU_SAVE_DONE;
	struct gw_outcome o = at(whole ? GW_PLACE_KEPT_WHOLE : begun_at);
	switch (r->outcome) {
	case GW_QEMU_SAVE_DONE:
		note(&o, as_saved(r));
		break;
	case GW_QEMU_SAVE_FAILED:
	case GW_QEMU_SAVE_KEPT:
		note(&o, as_before(r));
		break;
	default:
		note(&o, AFTER_SAVE[r->outcome].evidence);
		note(&o, AFTER_SAVE[r->outcome].then);
	}
	o.missing_pages = r->missing_pages;
	o.peer_notified = o.committed = whole;
	return o;
}

/* --- a restore, a page server --- */

static const int AFTER_RESTORE[] = {
	[GW_QEMU_GUEST_NOT_BEGUN] = GW_EVIDENCE_UNCHANGED,
	[GW_QEMU_GUEST_REFUSED] = GW_EVIDENCE_REFUSED,
	[GW_QEMU_GUEST_NOT_HERE] = GW_EVIDENCE_DESTINATION_FAILED,
	[GW_QEMU_GUEST_DONE] = GW_EVIDENCE_ARRIVED,
	[GW_QEMU_GUEST_ENDED] = GW_EVIDENCE_DESTINATION_SHUT_DOWN,
	[GW_QEMU_GUEST_WAITS] = GW_EVIDENCE_DESTINATION_WAITS,
	[GW_QEMU_GUEST_UNKNOWN] = GW_EVIDENCE_DESTINATION_UNCLEAR,
	[GW_QEMU_GUEST_IN_PRIMARY] = GW_EVIDENCE_REFUSED,
	[GW_QEMU_GUEST_PRIMARY_UNKNOWN] = GW_EVIDENCE_SOURCE_UNCLEAR,
	[GW_QEMU_GUEST_SILENT] = GW_EVIDENCE_DESTINATION_UNCLEAR,
};

/* Who was shut down had it, and who lost a guest that ran has not got it as it is in the image. */
static enum gw_place begun(const struct gw_outcome *served, enum gw_qemu_guest_outcome outcome)
{
	bool ran = served->size && (served->place == GW_PLACE_DESTINATION_WAITS || served->place == GW_PLACE_LOST);
	if (outcome == GW_QEMU_GUEST_ENDED || (outcome == GW_QEMU_GUEST_NOT_HERE && ran))
		return GW_PLACE_DESTINATION_WAITS;
	return outcome == GW_QEMU_GUEST_IN_PRIMARY ? GW_PLACE_SOURCE_RUNS : GW_PLACE_KEPT_WHOLE;
}

struct gw_outcome gw__guest_after_restore(const struct gw_outcome *served, enum gw_qemu_guest_outcome outcome, bool refused, bool hangs)
{
	struct gw_outcome o = at(begun(served, outcome));
	bool not_begun = outcome == GW_QEMU_GUEST_NOT_BEGUN;
	note(&o, hangs ? GW_EVIDENCE_DESTINATION_HANGS : not_begun && refused ? GW_EVIDENCE_REFUSED : AFTER_RESTORE[outcome]);
	o.peer_notified = outcome == GW_QEMU_GUEST_DONE;
	o.committed = true;
	return o;
}

struct gw_outcome gw__guest_without_epoch(void)
{
	struct gw_outcome o = at(GW_PLACE_BOTH_POSSIBLE);
	note(&o, GW_EVIDENCE_UNCHANGED);
	return o;
}

/* --- a drain --- */

static const int AFTER_DRAIN[] = {
	[GW_QEMU_DRAIN_NOT_BEGUN] = GW_EVIDENCE_UNCHANGED,
	[GW_QEMU_DRAIN_REFUSED] = GW_EVIDENCE_REFUSED,
	[GW_QEMU_DRAIN_DONE] = NONE, /* gw_drain() has seen it all */
	[GW_QEMU_DRAIN_AGAIN] = NONE,
	[GW_QEMU_DRAIN_NOT_SAFE] = GW_EVIDENCE_DRAINED_UNSAFE,
	[GW_QEMU_DRAIN_NOT_READ] = GW_EVIDENCE_DRAINED_UNREAD,
	[GW_QEMU_DRAIN_SILENT] = GW_EVIDENCE_DRAINED_UNCONFIRMED,
	[GW_QEMU_DRAIN_QEMU_GONE] = GW_EVIDENCE_DRAINED_UNCONFIRMED,
};

struct gw_outcome gw__guest_after_drain(const struct gw_outcome *drained, enum gw_qemu_drain_outcome outcome)
{
	struct gw_outcome o = drained->size ? *drained : at(GW_PLACE_SPLIT);
	note(&o, AFTER_DRAIN[outcome]);
	return o;
}

/* --- a protection --- */

static const int AFTER_PROTECT[] = {
	[GW_QEMU_PROTECT_NOT_BEGUN] = GW_EVIDENCE_UNCHANGED,
	[GW_QEMU_PROTECT_REFUSED] = GW_EVIDENCE_REFUSED,
	[GW_QEMU_PROTECT_NEVER] = GW_EVIDENCE_SOURCE_RUNS,
	[GW_QEMU_PROTECT_STOPPED] = GW_EVIDENCE_RELEASED,
	[GW_QEMU_PROTECT_SHUT_DOWN] = GW_EVIDENCE_PRIMARY_SHUT_DOWN,
	[GW_QEMU_PROTECT_LOST] = GW_EVIDENCE_PRIMARY_GONE,
	[GW_QEMU_PROTECT_IN_DOUBT] = GW_EVIDENCE_SOURCE_UNREPAIRED,
};

struct gw_outcome gw__guest_after_protect(enum gw_qemu_protect_outcome outcome, bool wrong_use, bool has_left)
{
	/* who was not released may stand, and its standby have an epoch, the first one too before its primary knows */
	struct gw_outcome o = at(outcome == GW_QEMU_PROTECT_IN_DOUBT ? GW_PLACE_BOTH_POSSIBLE : GW_PLACE_SOURCE_RUNS);
	bool not_begun = outcome == GW_QEMU_PROTECT_NOT_BEGUN;
	note(&o, has_left ? GW_EVIDENCE_ARRIVED : not_begun && wrong_use ? GW_EVIDENCE_WRONG_USE : AFTER_PROTECT[outcome]);
	return o;
}
