/* SPDX-License-Identifier: MIT */
/* The table of where the guest is; see guest_location.h. */
#include "plan/guest_location.h"

#include <errno.h>
#include <stddef.h>

enum { STAYS = GW__PLACES };

/* Sets of places. */
enum {
	SOURCE_RUNS = 1 << GW__PLACE_SOURCE_RUNS,
	SOURCE_PAUSED = 1 << GW__PLACE_SOURCE_PAUSED,
	DEST_RUNS = 1 << GW__PLACE_DESTINATION_RUNS,
	DEST_WAITS = 1 << GW__PLACE_DESTINATION_WAITS,
	WHOLE = 1 << GW__PLACE_KEPT_WHOLE,
	PART = 1 << GW__PLACE_KEPT_IN_PART,
	SPLIT = 1 << GW__PLACE_SPLIT,
	BOTH = 1 << GW__PLACE_BOTH_POSSIBLE,
	LOST = 1 << GW__PLACE_LOST,
	SOURCE = SOURCE_RUNS | SOURCE_PAUSED,
	ALL = (1 << GW__PLACES) - 1,
};

static const struct gw__location PLACES[GW__PLACES] = {
	{GW__PLACE_SOURCE_RUNS, GW__NEXT_TRY_AGAIN, GW__STATUS_FAILED, "source-runs"},
	{GW__PLACE_SOURCE_PAUSED, GW__NEXT_ASK_SOURCE, GW__STATUS_IN_DOUBT, "source-paused"},
	{GW__PLACE_DESTINATION_RUNS, GW__NEXT_NOTHING, GW__STATUS_DONE, "arrived"},
	{GW__PLACE_DESTINATION_WAITS, GW__NEXT_SERVE, GW__STATUS_RECOVERABLE, "destination-waits"},
	{GW__PLACE_KEPT_WHOLE, GW__NEXT_TRY_AGAIN, GW__STATUS_FAILED, "image-as-before"},
	{GW__PLACE_KEPT_IN_PART, GW__NEXT_RESUME, GW__STATUS_RECOVERABLE, "part-kept"},
	{GW__PLACE_SPLIT, GW__NEXT_DRAIN, GW__STATUS_RECOVERABLE, "source-has-memory"},
	{GW__PLACE_BOTH_POSSIBLE, GW__NEXT_ASK_SOURCE, GW__STATUS_IN_DOUBT, "not-known"},
	{GW__PLACE_LOST, GW__NEXT_RESTORE, GW__STATUS_FAILED, "destination-lost"},
};

#define EV(name)   GW__LOCATION_EV_##name
#define TO(name)   GW__PLACE_##name
#define NEXT(name) GW__NEXT_##name
#define EXIT(name) GW__STATUS_##name

static const struct {
	enum gw__location_event event;
	unsigned from;
	unsigned to;
	enum gw__next_step next_step;
	enum gw__status status;
	const char *message;
} ROWS[] = {
	/* clang-format off */
	{EV(WRONG_USE), ALL & ~DEST_WAITS, STAYS, NEXT(TRY_AGAIN), EXIT(USAGE), "wrong-use"},
	{EV(WRONG_USE), DEST_WAITS, STAYS, NEXT(SERVE), EXIT(USAGE), "wrong-use"},
	{EV(REFUSED), ALL & ~DEST_WAITS, STAYS, NEXT(TRY_AGAIN), EXIT(REFUSED), "refused"},
	{EV(REFUSED), DEST_WAITS, STAYS, NEXT(SERVE), EXIT(RECOVERABLE), "refused-destination-waits"},
	{EV(UNCHANGED), ALL & ~(DEST_WAITS | LOST), STAYS, NEXT(TRY_AGAIN), EXIT(FAILED), "nothing-changed"},
	{EV(UNCHANGED), DEST_WAITS, STAYS, NEXT(SERVE), EXIT(RECOVERABLE), "destination-waits"},

	{EV(SWITCH_BEGUN), SOURCE, TO(SOURCE_PAUSED), NEXT(ASK_SOURCE), EXIT(IN_DOUBT), "broken-in-switch"},
	{EV(PERSISTED), SOURCE_PAUSED, TO(KEPT_IN_PART), NEXT(RESUME), EXIT(RECOVERABLE), "part-kept"},
	{EV(COMMITTED), SOURCE | PART | WHOLE, TO(KEPT_WHOLE), NEXT(NOTHING), EXIT(DONE), "kept"},
	{EV(COMMITTED), SPLIT, TO(DESTINATION_WAITS), NEXT(SERVE), EXIT(DONE), "drained"},
	{EV(NOT_NOTIFIED), WHOLE, TO(BOTH_POSSIBLE), NEXT(ASK_SOURCE), EXIT(IN_DOUBT), "source-not-notified"},
	{EV(UNCONFIRMED), WHOLE | BOTH, TO(BOTH_POSSIBLE), NEXT(ASK_SOURCE), EXIT(IN_DOUBT), "source-unconfirmed"},
	{EV(UNCONFIRMED), SOURCE, TO(SOURCE_PAUSED), NEXT(ASK_SOURCE), EXIT(IN_DOUBT), "source-unconfirmed"},
	{EV(BROKEN), SOURCE_RUNS, STAYS, NEXT(TRY_AGAIN), EXIT(FAILED), "source-runs"},
	{EV(BROKEN), SOURCE_PAUSED, STAYS, NEXT(ASK_SOURCE), EXIT(IN_DOUBT), "broken-in-switch"},
	{EV(BROKEN), PART, STAYS, NEXT(RESUME), EXIT(RECOVERABLE), "part-kept"},
	{EV(BROKEN), WHOLE, STAYS, NEXT(TRY_AGAIN), EXIT(FAILED), "image-as-before"},
	{EV(BROKEN), DEST_WAITS, STAYS, NEXT(SERVE), EXIT(RECOVERABLE), "destination-waits"},
	{EV(BROKEN), SPLIT, STAYS, NEXT(DRAIN), EXIT(RECOVERABLE), "source-has-memory"},
	{EV(BROKEN), DEST_RUNS, STAYS, NEXT(NOTHING), EXIT(DONE), "arrived"},
	{EV(BROKEN), BOTH, STAYS, NEXT(ASK_SOURCE), EXIT(IN_DOUBT), "not-known"},
	{EV(BROKEN), LOST, STAYS, NEXT(RESTORE), EXIT(FAILED), "destination-lost"},
	{EV(BROKEN_UNSURE), SOURCE_RUNS, STAYS, NEXT(ASK_SOURCE), EXIT(FAILED), "source-runs-or-switches"},
	{EV(BROKEN_AT_END), SOURCE, TO(SOURCE_PAUSED), NEXT(CONTINUE_SOURCE), EXIT(FAILED), "source-may-be-paused"},
	{EV(BROKEN_AT_END), WHOLE, STAYS, NEXT(TRY_AGAIN), EXIT(FAILED), "image-as-before"},
	{EV(NOTHING_MISSING), PART, TO(BOTH_POSSIBLE), NEXT(ASK_SOURCE), EXIT(RECOVERABLE), "all-kept-not-ended"},
	{EV(COMMITTED_UNSAFE), SOURCE, TO(BOTH_POSSIBLE), NEXT(ASK_SOURCE), EXIT(IN_DOUBT), "kept-not-synced"},
	{EV(COMMITTED_UNSAFE), WHOLE, STAYS, NEXT(TRY_AGAIN), EXIT(IN_DOUBT), "kept-not-synced"},
	{EV(COMMITTED_UNSAFE), PART | BOTH, TO(BOTH_POSSIBLE), NEXT(ASK_SOURCE), EXIT(RECOVERABLE), "all-kept-not-ended"},

	{EV(COMMITTED_UNSAFE), SPLIT, STAYS, NEXT(KEEP_SOURCE), EXIT(IN_DOUBT), "drained-not-safe"},
	{EV(SOURCE_RUNS), SOURCE | PART, TO(SOURCE_RUNS), NEXT(NOTHING), EXIT(FAILED), "source-runs"},
	{EV(SOURCE_RUNS), WHOLE | BOTH, TO(SOURCE_RUNS), NEXT(NOTHING), EXIT(IN_DOUBT), "kept-and-source-runs"},
	{EV(SOURCE_STANDS), SOURCE | PART, TO(SOURCE_PAUSED), NEXT(NOTHING), EXIT(FAILED), "source-stands"},
	{EV(SOURCE_STANDS), WHOLE | BOTH, TO(SOURCE_PAUSED), NEXT(NOTHING), EXIT(IN_DOUBT), "kept-and-source-stands"},
	{EV(SAVED_RUNS), WHOLE, TO(SOURCE_RUNS), NEXT(NOTHING), EXIT(DONE), "saved"},
	{EV(SAVED_STANDS), WHOLE, TO(SOURCE_PAUSED), NEXT(NOTHING), EXIT(DONE), "saved"},
	{EV(SAVED_STOPPED), WHOLE, STAYS, NEXT(NOTHING), EXIT(DONE), "saved"},
	{EV(SOURCE_UNREPAIRED), SOURCE, TO(SOURCE_PAUSED), NEXT(ASK_SOURCE), EXIT(IN_DOUBT), "source-not-put-back"},
	{EV(SOURCE_UNREPAIRED), WHOLE | PART | BOTH, TO(BOTH_POSSIBLE), NEXT(ASK_SOURCE), EXIT(IN_DOUBT), "kept-source-not-put-back"},
	{EV(SOURCE_WAITS), SOURCE | PART | BOTH, TO(KEPT_IN_PART), NEXT(RESUME), EXIT(RECOVERABLE), "source-waits"},
	{EV(SOURCE_UNCLEAR), SOURCE | PART | WHOLE | BOTH, TO(BOTH_POSSIBLE), NEXT(ASK_SOURCE), EXIT(IN_DOUBT), "source-unclear"},
	{EV(SOURCE_GONE), SOURCE | PART | WHOLE | BOTH, TO(BOTH_POSSIBLE), NEXT(ASK_SOURCE), EXIT(IN_DOUBT), "source-gone"},
	{EV(SOURCE_HANGS), SOURCE | PART | BOTH, TO(KEPT_IN_PART), NEXT(END_WITHOUT_SOURCE), EXIT(RECOVERABLE), "source-hangs"},

	{EV(GIVEN_BACK), SOURCE_PAUSED | PART | BOTH, TO(SOURCE_RUNS), NEXT(CONTINUE_SOURCE), EXIT(DONE), "given-back"},
	{EV(NOT_GIVEN_BACK), SOURCE_PAUSED | PART | BOTH, TO(BOTH_POSSIBLE), NEXT(ASK_SOURCE), EXIT(RECOVERABLE), "not-given-back"},
	{EV(FILES_LEFT), SOURCE, STAYS, NEXT(REMOVE_FILES), EXIT(FAILED), "given-back-files-left"},
	{EV(ALSO_KEPT), SOURCE, STAYS, NEXT(REMOVE_FILES), EXIT(IN_DOUBT), "given-back-and-kept"},

	{EV(GIVEN), WHOLE | DEST_WAITS | BOTH, TO(DESTINATION_WAITS), NEXT(SERVE), EXIT(RECOVERABLE), "destination-waits"},
	{EV(ARRIVED), SOURCE | WHOLE | DEST_RUNS | DEST_WAITS | SPLIT | BOTH, TO(DESTINATION_RUNS), NEXT(NOTHING), EXIT(DONE), "arrived"},
	{EV(SENT), SOURCE | WHOLE | BOTH, TO(BOTH_POSSIBLE), NEXT(ASK_DESTINATION), EXIT(IN_DOUBT), "unconfirmed"},
	{EV(SENT_UNANSWERED), SOURCE, TO(BOTH_POSSIBLE), NEXT(NOTHING), EXIT(DONE), "unanswered"},
	{EV(SENT_UNANSWERED), WHOLE, STAYS, NEXT(NOTHING), EXIT(DONE), "written"},
	{EV(DESTINATION_FAILED), WHOLE | BOTH, TO(KEPT_WHOLE), NEXT(TRY_AGAIN), EXIT(FAILED), "image-as-before"},
	{EV(DESTINATION_FAILED), DEST_WAITS | LOST, TO(LOST), NEXT(RESTORE), EXIT(FAILED), "destination-lost"},
	{EV(DESTINATION_WAITS), WHOLE | DEST_WAITS | BOTH, TO(DESTINATION_WAITS), NEXT(SERVE), EXIT(RECOVERABLE), "destination-waits"},
	{EV(DESTINATION_UNCLEAR), WHOLE | DEST_WAITS | BOTH, TO(BOTH_POSSIBLE), NEXT(SERVE), EXIT(IN_DOUBT), "destination-unclear"},
	{EV(DESTINATION_SHUT_DOWN), DEST_RUNS | DEST_WAITS | SPLIT | BOTH | LOST, TO(LOST), NEXT(NOTHING), EXIT(DONE), "destination-shut-down"},
	{EV(DESTINATION_HANGS), WHOLE | DEST_WAITS | BOTH, TO(KEPT_WHOLE), NEXT(RESTART_DESTINATION), EXIT(FAILED), "destination-hangs"},

	{EV(DRAINED_UNSAFE), SPLIT, STAYS, NEXT(KEEP_SOURCE), EXIT(IN_DOUBT), "drained-not-safe"},
	{EV(DRAINED_UNREAD), SPLIT | DEST_WAITS, TO(SPLIT), NEXT(KEEP_SOURCE), EXIT(IN_DOUBT), "drained-not-readable"},
	{EV(DRAINED_UNCONFIRMED), SPLIT | DEST_WAITS, TO(SPLIT), NEXT(KEEP_SOURCE), EXIT(IN_DOUBT), "drained-not-confirmed"},
	{EV(SPLIT), SOURCE | SPLIT | BOTH, TO(SPLIT), NEXT(RECOVER), EXIT(RECOVERABLE), "split"},
	{EV(EPOCH_KEPT), SOURCE_RUNS, TO(BOTH_POSSIBLE), NEXT(ASK_SOURCE), EXIT(IN_DOUBT), "epoch-kept"},

	{EV(RELEASED), SOURCE_RUNS, STAYS, NEXT(NOTHING), EXIT(DONE), "released"},
	{EV(PRIMARY_SHUT_DOWN), SOURCE_RUNS, TO(LOST), NEXT(NOTHING), EXIT(DONE), "primary-shut-down"},
	{EV(PRIMARY_GONE), SOURCE_RUNS, TO(BOTH_POSSIBLE), NEXT(FAILOVER), EXIT(RECOVERABLE), "primary-gone"},
	/* clang-format on */
};

const char *gw__place_name(enum gw__place place)
{
	static const char *const names[GW__PLACES] = {"source-runs", "source-paused", "destination-runs", "destination-waits", "kept-whole",
		"kept-in-part", "split", "both-possible", "lost"};
	return place < GW__PLACES ? names[place] : "?";
}

const char *gw__next_step_name(enum gw__next_step step)
{
	static const char *const names[GW__NEXT_STEPS] = {"nothing", "try-again", "ask-source", "continue-source", "resume",
		"end-without-source", "remove-files", "ask-destination", "serve", "restore", "restart-destination", "drain", "keep-source",
		"recover", "failover"};
	return step < GW__NEXT_STEPS ? names[step] : "?";
}

const char *gw__location_event_name(enum gw__location_event event)
{
	static const char *const names[GW__LOCATION_EVENTS] = {"wrong use", "a refusal", "a failure before anything was touched",
		"the begin of a switch", "state made safe", "the image made safe", "a source that is not notified",
		"a source that does not confirm", "a break", "a break near a switch", "a break after the last byte",
		"a break with no page missing", "an image whose folder is not synced", "a source that runs the guest",
		"a source whose guest stands as before", "a copy of a running guest", "a copy of a standing guest",
		"a copy of a guest that was to be stopped", "a source that is not put back in order", "a source in postcopy-paused",
		"a source that does not say what it waits for", "a source that is gone", "a source that hangs", "the guest given back",
		"a guest not seen to be given back", "files left after a guest was given back", "a whole image of a guest given back",
		"the guest given", "the guest arrived", "all sent and no answer", "all sent to where nobody answers",
		"a destination that failed", "a destination that waits for pages", "a destination that cannot be asked",
		"a destination that was shut down", "a destination that hangs", "memory drained into an image that is not safe",
		"memory drained into an image that cannot be read", "memory drained from a source that does not say so",
		"a break in post-copy between two others", "the last epoch of a primary", "a primary released from its standby",
		"a primary that was shut down", "a primary that is gone"};
	return event < GW__LOCATION_EVENTS ? names[event] : "?";
}

struct gw__location gw__location_at(enum gw__place place) { return PLACES[place < GW__PLACES ? place : GW__PLACE_BOTH_POSSIBLE]; }

int gw__location_step(struct gw__location *l, enum gw__location_event event, struct gw__error *error)
{
	for (unsigned i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
		if (ROWS[i].event == event && ROWS[i].from & 1u << l->place) {
			enum gw__place to = ROWS[i].to == STAYS ? l->place : (enum gw__place)ROWS[i].to;
			*l = (struct gw__location){to, ROWS[i].next_step, ROWS[i].status, ROWS[i].message};
			return 0;
		}
	return gw__error_set(error, -EPROTO, "%s cannot be where the guest is %s", gw__location_event_name(event),
		gw__place_name(l->place));
}

void gw__location_note(struct gw__location *l, enum gw__location_event event)
{
	if (gw__location_step(l, event, NULL))
		*l = (struct gw__location){GW__PLACE_BOTH_POSSIBLE, GW__NEXT_ASK_SOURCE, GW__STATUS_IN_DOUBT, "contradiction"};
}
