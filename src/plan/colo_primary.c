/* SPDX-License-Identifier: MIT */
/* The states of a COLO primary; see colo_primary.h. */
#include "plan/colo_primary.h"

#include <errno.h>

#define S(x)  GW__COLO_PRIMARY_##x
#define EV(x) GW__COLO_PRIMARY_EV_##x

static const struct {
	enum gw__colo_primary_state state;
	enum gw__colo_primary_event event;
	enum gw__colo_primary_state next;
} ROWS[] = {
	/* state               event               next */
	{S(SETUP), EV(GUEST_SENT), S(AWAIT_SHUT)},
	{S(SETUP), EV(GUEST_SENT_OLD), S(AWAIT_READY)},
	{S(SETUP), EV(BROKEN), S(FAILED)},
	{S(AWAIT_SHUT), EV(SHUT), S(AWAIT_READY)},
	{S(AWAIT_SHUT), EV(BROKEN), S(LOST_STOPPED)},
	{S(AWAIT_READY), EV(READY), S(IDLE)},
	{S(AWAIT_READY), EV(BROKEN), S(LOST_STOPPED)},
	{S(IDLE), EV(REQUEST_SENT), S(REQUESTED)},
	{S(IDLE), EV(BROKEN), S(LOST_RUNNING)},
	{S(REQUESTED), EV(REPLY), S(STOPPED)},
	{S(REQUESTED), EV(BROKEN), S(LOST_RUNNING)},
	{S(STOPPED), EV(SEND_SENT), S(RAM)},
	{S(STOPPED), EV(BROKEN), S(LOST_STOPPED)},
	{S(RAM), EV(RAM_SENT), S(DEVICES)},
	{S(RAM), EV(BROKEN), S(LOST_STOPPED)},
	{S(DEVICES), EV(DEVICES_SENT), S(AWAIT_RECEIVED)},
	{S(DEVICES), EV(BROKEN), S(LOST_STOPPED)},
	{S(AWAIT_RECEIVED), EV(RECEIVED), S(AWAIT_LOADED)},
	{S(AWAIT_RECEIVED), EV(BROKEN), S(LOST_STOPPED)},
	{S(AWAIT_LOADED), EV(LOADED), S(IDLE)},
	{S(AWAIT_LOADED), EV(BROKEN), S(LOST_STOPPED)},
	{S(LOST_RUNNING), EV(RELEASE), S(RELEASED)},
	{S(LOST_STOPPED), EV(RELEASE), S(RELEASED)},
};

const char *gw__colo_primary_state_name(enum gw__colo_primary_state state)
{
	static const char *const names[S(STATES)] = {"setup", "awaiting SHUT", "awaiting CHECKPOINT_READY", "colo", "colo (requested)",
		"colo (stopped)", "colo (RAM)", "colo (device state)", "colo (awaiting VMSTATE_RECEIVED)", "colo (awaiting VMSTATE_LOADED)",
		"unprotected", "secondary lost, guest stopped", "released", "failed"};
	return state < S(STATES) ? names[state] : "?";
}

const char *gw__colo_primary_event_name(enum gw__colo_primary_event event)
{
	static const char *const names[GW__COLO_PRIMARY_EVENTS] = {"the guest sent", "the guest sent in the old dialect", "SHUT",
		"CHECKPOINT_READY", "CHECKPOINT_REQUEST sent", "CHECKPOINT_REPLY", "VMSTATE_SEND sent", "the RAM sent",
		"the device state sent", "VMSTATE_RECEIVED", "VMSTATE_LOADED", "the link broken", "release"};
	return event < GW__COLO_PRIMARY_EVENTS ? names[event] : "?";
}

int gw__colo_primary_step(enum gw__colo_primary_state state, enum gw__colo_primary_event event, enum gw__colo_primary_state *next,
	struct gw__error *error)
{
	for (unsigned i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
		if (ROWS[i].state == state && ROWS[i].event == event) {
			*next = ROWS[i].next;
			return 0;
		}
	return gw__error_set(error, -EPROTO, "unexpected %s in state \"%s\"", gw__colo_primary_event_name(event),
		gw__colo_primary_state_name(state));
}

/* By wire/colo.h: 0 CHECKPOINT_READY, 2 CHECKPOINT_REPLY, 5 VMSTATE_RECEIVED, 6 VMSTATE_LOADED. */
int gw__colo_primary_event_of(unsigned message)
{
	static const int events[] = {EV(READY), -1, EV(REPLY), -1, -1, EV(RECEIVED), EV(LOADED)};
	return message < sizeof events / sizeof events[0] ? events[message] : -1;
}

int gw__colo_primary_expects(enum gw__colo_primary_state state)
{
	switch (state) {
	case S(AWAIT_READY):
		return 0;
	case S(REQUESTED):
		return 2;
	case S(AWAIT_RECEIVED):
		return 5;
	case S(AWAIT_LOADED):
		return 6;
	default:
		return -1;
	}
}

bool gw__colo_primary_guest_is_stopped(enum gw__colo_primary_state state)
{
	return state == S(AWAIT_SHUT) || state == S(AWAIT_READY) || (state >= S(STOPPED) && state <= S(AWAIT_LOADED)) ||
	       state == S(LOST_STOPPED);
}
