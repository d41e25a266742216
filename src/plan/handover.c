/* SPDX-License-Identifier: MIT */
/* Who may run a guest while it is handed over; see handover.h. */
#include "plan/handover.h"

#include <errno.h>

#define AT(name)    GW__HANDOVER_##name
#define EV(name)    GW__HANDOVER_EV_##name
#define NOTES(name) GW__LOCATION_EV_##name
enum { NOTHING = GW__LOCATION_EVENTS };

static const struct {
	enum gw__handover_state state;
	enum gw__handover_event event;
	enum gw__handover_state next;
	unsigned notes; /* of the location */
} ROWS[] = {
	{AT(RUNS), EV(PAUSED), AT(STOPPED), NOTES(SWITCH_BEGUN)}, {AT(RUNS), EV(CANCEL), AT(RETURNED), NOTES(SOURCE_RUNS)},
	{AT(RUNS), EV(BROKEN), AT(RETURNED), NOTES(SOURCE_RUNS)}, {AT(RUNS), EV(SHUT_ERROR), AT(RETURNED), NOTES(SOURCE_RUNS)},

	{AT(STOPPED), EV(ASKED), AT(ASKED), NOTHING}, {AT(STOPPED), EV(NOT_ASKED), AT(CONFIRMED), NOTHING},
	{AT(STOPPED), EV(PACKAGE_BEGUN), AT(PACKAGE), NOTHING}, {AT(STOPPED), EV(CANCEL), AT(RETURNED), NOTES(SOURCE_RUNS)},
	{AT(STOPPED), EV(BROKEN), AT(RETURNED), NOTES(SOURCE_RUNS)}, {AT(STOPPED), EV(SHUT_ERROR), AT(RETURNED), NOTES(SOURCE_RUNS)},
	{AT(ASKED), EV(PONG), AT(CONFIRMED), NOTHING}, {AT(ASKED), EV(CANCEL), AT(RETURNED), NOTES(SOURCE_RUNS)},
	{AT(ASKED), EV(BROKEN), AT(RETURNED), NOTES(SOURCE_RUNS)}, {AT(ASKED), EV(SHUT_ERROR), AT(RETURNED), NOTES(SOURCE_RUNS)},
	{AT(CONFIRMED), EV(END_BEGUN), AT(ENDING), NOTHING}, {AT(CONFIRMED), EV(CANCEL), AT(RETURNED), NOTES(SOURCE_RUNS)},
	{AT(CONFIRMED), EV(BROKEN), AT(RETURNED), NOTES(SOURCE_RUNS)}, {AT(CONFIRMED), EV(SHUT_ERROR), AT(RETURNED), NOTES(SOURCE_RUNS)},

	{AT(ENDING), EV(SHUT_OK), AT(GONE), NOTES(ARRIVED)},
	{AT(ENDING), EV(SHUT_ERROR), AT(RETURNED), NOTES(SOURCE_RUNS)}, /* who says so does not run it */
	{AT(ENDING), EV(BROKEN), AT(IN_DOUBT), NOTES(SENT)}, {AT(PACKAGE), EV(RUNS_THERE), AT(HELD), NOTES(SPLIT)},
	{AT(PACKAGE), EV(SHUT_OK), AT(GONE), NOTES(ARRIVED)},
	{AT(PACKAGE), EV(SHUT_ERROR), AT(IN_DOUBT), NOTES(SENT)}, /* it may have run before it failed */
	{AT(PACKAGE), EV(BROKEN), AT(IN_DOUBT), NOTES(SENT)}, {AT(HELD), EV(RUNS_THERE), AT(HELD), NOTHING},
	{AT(HELD), EV(SHUT_OK), AT(GONE), NOTES(ARRIVED)}, {AT(HELD), EV(SHUT_ERROR), AT(HELD), NOTES(SPLIT)},
	{AT(HELD), EV(BROKEN), AT(HELD), NOTES(SPLIT)}, {AT(HELD), EV(THEIRS), AT(GONE), NOTES(ARRIVED)},
	/* A destination in need of pages that connects again has it. */
	{AT(IN_DOUBT), EV(RUNS_THERE), AT(HELD), NOTES(SPLIT)}, {AT(IN_DOUBT), EV(OURS), AT(RETURNED), NOTES(GIVEN_BACK)},
	{AT(IN_DOUBT), EV(THEIRS), AT(GONE), NOTES(ARRIVED)}, {AT(IN_DOUBT), EV(BROKEN), AT(IN_DOUBT), NOTHING},

	{AT(LOADING), EV(PING), AT(LOADED), NOTHING}, {AT(LOADING), EV(END), AT(RUNS_HERE), NOTHING}, /* it was not asked */
	{AT(LOADING), EV(PACKAGE), AT(RUNS_HERE), NOTHING}, {AT(LOADING), EV(LOAD_FAILED), AT(EMPTY), NOTHING},
	{AT(LOADING), EV(BROKEN), AT(EMPTY), NOTHING}, {AT(LOADED), EV(END), AT(RUNS_HERE), NOTHING},
	{AT(LOADED), EV(LOAD_FAILED), AT(EMPTY), NOTHING}, {AT(LOADED), EV(BROKEN), AT(EMPTY), NOTHING},
	{AT(RUNS_HERE), EV(BROKEN), AT(RUNS_HERE), NOTHING}, /* whatever becomes of the answer */
};

int gw__handover_step(enum gw__handover_state state, enum gw__handover_event event, enum gw__handover_state *next,
	struct gw__location *location, struct gw__error *error)
{
	for (unsigned i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++) {
		if (ROWS[i].state != state || ROWS[i].event != event)
			continue;
		if (location && ROWS[i].notes != NOTHING)
			gw__location_note(location, ROWS[i].notes);
		*next = ROWS[i].next;
		return 0;
	}
	return gw__error_set(error, -EPROTO, "%s has no place in a hand-over that is %s", gw__handover_event_name(event),
		gw__handover_state_name(state));
}

bool gw__handover_may_run(enum gw__handover_state state)
{
	return state == GW__HANDOVER_RUNS || state == GW__HANDOVER_RETURNED || state == GW__HANDOVER_RUNS_HERE;
}

const char *gw__handover_state_name(enum gw__handover_state state)
{
	static const char *const names[GW__HANDOVER_STATES] = {"not begun", "stopped", "asked", "confirmed", "ending", "in a package",
		"held", "returned", "in doubt", "over", "loading", "loaded", "done", "failed"};
	return state < GW__HANDOVER_STATES ? names[state] : "?";
}

const char *gw__handover_event_name(enum gw__handover_event event)
{
	static const char *const names[GW__HANDOVER_EVENTS] = {"a pause", "a PING sent", "no PING sent", "PONG", "the begin of the end",
		"the begin of a package", "a guest that runs there", "SHUT 0", "SHUT with an error", "a cancel", "\"it is ours\"",
		"\"it is theirs\"", "a break", "a PING", "the end", "a package", "devices that do not load"};
	return event < GW__HANDOVER_EVENTS ? names[event] : "?";
}
