/* SPDX-License-Identifier: MIT */
/* The states of who takes a guest from a post-copy source and runs it not; see postcopy_sink.h. */
#include "plan/postcopy_sink.h"

#include <errno.h>

enum { KEEP = 1 << GW__PS_KEEP, BOTH = 1 << GW__PS_KEEP | 1 << GW__PS_DRAIN };

static const struct {
	enum gw__ps_state state;
	enum gw__ps_event event;
	enum gw__ps_state next;
	unsigned roles;
} ROWS[] = {
	/* state                event                      next */
	{GW__PS_SETUP, GW__PS_EV_STREAM_BEGUN, GW__PS_ACTIVE, KEEP},
	{GW__PS_SETUP, GW__PS_EV_BROKEN, GW__PS_FAILED, KEEP},
	{GW__PS_ACTIVE, GW__PS_EV_DISCARD, GW__PS_DISCARDING, KEEP},
	{GW__PS_ACTIVE, GW__PS_EV_PACKAGE, GW__PS_DEVICE, KEEP},
	{GW__PS_ACTIVE, GW__PS_EV_END, GW__PS_ENDING, KEEP}, /* it never left pre-copy */
	{GW__PS_ACTIVE, GW__PS_EV_BROKEN, GW__PS_FAILED, KEEP},
	{GW__PS_DISCARDING, GW__PS_EV_DISCARD, GW__PS_DISCARDING, KEEP},
	{GW__PS_DISCARDING, GW__PS_EV_PACKAGE, GW__PS_DEVICE, KEEP},
	{GW__PS_DISCARDING, GW__PS_EV_BROKEN, GW__PS_FAILED, KEEP},
	{GW__PS_DEVICE, GW__PS_EV_HELD, GW__PS_POSTCOPY_ACTIVE, KEEP},
	{GW__PS_DEVICE, GW__PS_EV_BROKEN, GW__PS_FAILED, KEEP},
	{GW__PS_POSTCOPY_ACTIVE, GW__PS_EV_END, GW__PS_ENDING, BOTH},
	{GW__PS_POSTCOPY_ACTIVE, GW__PS_EV_BROKEN, GW__PS_PAUSED, BOTH},
	{GW__PS_ENDING, GW__PS_EV_SAFE, GW__PS_COMPLETED, BOTH},
	{GW__PS_ENDING, GW__PS_EV_BROKEN, GW__PS_IN_DOUBT, BOTH},
	{GW__PS_IN_DOUBT, GW__PS_EV_GIVE_BACK, GW__PS_FAILED, KEEP},
	{GW__PS_PAUSED, GW__PS_EV_CONNECTED_AGAIN, GW__PS_RECOVER, BOTH},
	{GW__PS_PAUSED, GW__PS_EV_BROKEN, GW__PS_PAUSED, BOTH},
	{GW__PS_RECOVER, GW__PS_EV_RESUME, GW__PS_POSTCOPY_ACTIVE, BOTH},
	{GW__PS_RECOVER, GW__PS_EV_BROKEN, GW__PS_PAUSED, BOTH},
};

const char *gw__ps_state_name(enum gw__ps_state state)
{
	static const char *const names[GW__PS_STATES] = {"setup", "active", "active (discards)", "postcopy-device", "postcopy-active",
		"postcopy-active (ending)", "postcopy-paused", "postcopy-recover", "postcopy-active (in doubt)", "completed", "failed"};
	return state < GW__PS_STATES ? names[state] : "?";
}

const char *gw__ps_event_name(enum gw__ps_event event)
{
	static const char *const names[GW__PS_EVENTS] = {"the stream began", "a discard", "the package", "state made safe",
		"the end of RAM", "the image made safe", "the link broke", "a new connection", "POSTCOPY_RESUME", "the guest given back"};
	return event < GW__PS_EVENTS ? names[event] : "?";
}

int gw__ps_step(enum gw__ps_role role, enum gw__ps_state state, enum gw__ps_event event, enum gw__ps_state *next, struct gw__why *why)
{
	for (unsigned i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
		if (ROWS[i].state == state && ROWS[i].event == event && ROWS[i].roles & 1u << role) {
			*next = ROWS[i].next;
			return 0;
		}
	return gw__why_set(why, -EPROTO, "%s has no place in state %s", gw__ps_event_name(event), gw__ps_state_name(state));
}
