/* SPDX-License-Identifier: MIT */
/* The states of who takes a guest from a post-copy source; see postcopy_dst.h. */
#include "plan/postcopy_dst.h"

#include <errno.h>

enum {
	KEEP = 1 << GW__POSTCOPY_DST_KEEP,
	ONLY = KEEP | 1 << GW__POSTCOPY_DST_RUN, /* who is the only destination */
	ALL = ONLY | 1 << GW__POSTCOPY_DST_DRAIN,
};

static const struct {
	enum gw__postcopy_dst_state state;
	enum gw__postcopy_dst_event event;
	enum gw__postcopy_dst_state next;
	unsigned roles;
} ROWS[] = {
	/* state                event                      next */
	{GW__POSTCOPY_DST_SETUP, GW__POSTCOPY_DST_EV_STREAM_BEGUN, GW__POSTCOPY_DST_ACTIVE, ONLY},
	{GW__POSTCOPY_DST_SETUP, GW__POSTCOPY_DST_EV_BROKEN, GW__POSTCOPY_DST_FAILED, ONLY},
	{GW__POSTCOPY_DST_ACTIVE, GW__POSTCOPY_DST_EV_DISCARD, GW__POSTCOPY_DST_DISCARDING, ONLY},
	{GW__POSTCOPY_DST_ACTIVE, GW__POSTCOPY_DST_EV_PACKAGE, GW__POSTCOPY_DST_DEVICE, ONLY},
	{GW__POSTCOPY_DST_ACTIVE, GW__POSTCOPY_DST_EV_END, GW__POSTCOPY_DST_ENDING, ONLY}, /* it never left pre-copy */
	{GW__POSTCOPY_DST_ACTIVE, GW__POSTCOPY_DST_EV_BROKEN, GW__POSTCOPY_DST_FAILED, ONLY},
	{GW__POSTCOPY_DST_DISCARDING, GW__POSTCOPY_DST_EV_DISCARD, GW__POSTCOPY_DST_DISCARDING, ONLY},
	{GW__POSTCOPY_DST_DISCARDING, GW__POSTCOPY_DST_EV_PACKAGE, GW__POSTCOPY_DST_DEVICE, ONLY},
	{GW__POSTCOPY_DST_DISCARDING, GW__POSTCOPY_DST_EV_BROKEN, GW__POSTCOPY_DST_FAILED, ONLY},
	{GW__POSTCOPY_DST_DEVICE, GW__POSTCOPY_DST_EV_HELD, GW__POSTCOPY_DST_POSTCOPY_ACTIVE, ONLY},
	{GW__POSTCOPY_DST_DEVICE, GW__POSTCOPY_DST_EV_BROKEN, GW__POSTCOPY_DST_FAILED, ONLY},
	{GW__POSTCOPY_DST_POSTCOPY_ACTIVE, GW__POSTCOPY_DST_EV_END, GW__POSTCOPY_DST_ENDING, ALL},
	{GW__POSTCOPY_DST_POSTCOPY_ACTIVE, GW__POSTCOPY_DST_EV_BROKEN, GW__POSTCOPY_DST_PAUSED, ALL},
	{GW__POSTCOPY_DST_ENDING, GW__POSTCOPY_DST_EV_SAFE, GW__POSTCOPY_DST_COMPLETED, ALL},
	{GW__POSTCOPY_DST_ENDING, GW__POSTCOPY_DST_EV_BROKEN, GW__POSTCOPY_DST_IN_DOUBT, ALL},
	{GW__POSTCOPY_DST_IN_DOUBT, GW__POSTCOPY_DST_EV_GIVE_BACK, GW__POSTCOPY_DST_FAILED, ONLY},
	{GW__POSTCOPY_DST_PAUSED, GW__POSTCOPY_DST_EV_CONNECTED_AGAIN, GW__POSTCOPY_DST_RECOVER, ALL},
	{GW__POSTCOPY_DST_PAUSED, GW__POSTCOPY_DST_EV_BROKEN, GW__POSTCOPY_DST_PAUSED, ALL},
	{GW__POSTCOPY_DST_RECOVER, GW__POSTCOPY_DST_EV_RESUME, GW__POSTCOPY_DST_POSTCOPY_ACTIVE, ALL},
	{GW__POSTCOPY_DST_RECOVER, GW__POSTCOPY_DST_EV_BROKEN, GW__POSTCOPY_DST_PAUSED, ALL},
};

const char *gw__postcopy_dst_state_name(enum gw__postcopy_dst_state state)
{
	static const char *const names[GW__POSTCOPY_DST_STATES] = {"setup", "active", "active (discards)", "postcopy-device",
		"postcopy-active", "postcopy-active (ending)", "postcopy-paused", "postcopy-recover", "postcopy-active (in doubt)",
		"completed", "failed"};
	return state < GW__POSTCOPY_DST_STATES ? names[state] : "?";
}

const char *gw__postcopy_dst_event_name(enum gw__postcopy_dst_event event)
{
	static const char *const names[GW__POSTCOPY_DST_EVENTS] = {"the stream began", "a discard", "the package", "state made safe",
		"the end of RAM", "the image made safe", "the link broke", "a new connection", "POSTCOPY_RESUME", "the guest given back"};
	return event < GW__POSTCOPY_DST_EVENTS ? names[event] : "?";
}

int gw__postcopy_dst_step(enum gw__postcopy_dst_role role, enum gw__postcopy_dst_state state, enum gw__postcopy_dst_event event,
	enum gw__postcopy_dst_state *next, struct gw__error *error)
{
	for (unsigned i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
		if (ROWS[i].state == state && ROWS[i].event == event && ROWS[i].roles & 1u << role) {
			*next = ROWS[i].next;
			return 0;
		}
	return gw__error_set(error, -EPROTO, "%s has no place in state %s", gw__postcopy_dst_event_name(event),
		gw__postcopy_dst_state_name(state));
}
