/* SPDX-License-Identifier: MIT */
/* The states of a post-copy source; see postcopy.h. */
#include "plan/postcopy.h"

#include <errno.h>

static const struct {
	enum gw__pc_state state;
	enum gw__pc_event event;
	enum gw__pc_state next;
} ROWS[] = {
	/* state                event                      next */
	{GW__PC_SETUP, GW__PC_EV_STREAM_BEGUN, GW__PC_ACTIVE},
	{GW__PC_SETUP, GW__PC_EV_SHUT_ERROR, GW__PC_FAILED},
	{GW__PC_SETUP, GW__PC_EV_BROKEN, GW__PC_FAILED},
	{GW__PC_ACTIVE, GW__PC_EV_PACKAGE_SENT, GW__PC_DEVICE},
	{GW__PC_ACTIVE, GW__PC_EV_SHUT_ERROR, GW__PC_FAILED},
	{GW__PC_ACTIVE, GW__PC_EV_BROKEN, GW__PC_FAILED},
	{GW__PC_DEVICE, GW__PC_EV_GUEST_RUNS, GW__PC_POSTCOPY_ACTIVE},
	{GW__PC_DEVICE, GW__PC_EV_SHUT_ERROR, GW__PC_FAILED}, /* it could not load the devices, and says so */
	{GW__PC_DEVICE, GW__PC_EV_BROKEN, GW__PC_PAUSED},
	{GW__PC_POSTCOPY_ACTIVE, GW__PC_EV_ALL_SENT, GW__PC_ENDING},
	{GW__PC_POSTCOPY_ACTIVE, GW__PC_EV_SHUT_ERROR, GW__PC_PAUSED},
	{GW__PC_POSTCOPY_ACTIVE, GW__PC_EV_BROKEN, GW__PC_PAUSED},
	{GW__PC_ENDING, GW__PC_EV_SHUT_OK, GW__PC_COMPLETED},
	{GW__PC_ENDING, GW__PC_EV_SHUT_ERROR, GW__PC_PAUSED},
	{GW__PC_ENDING, GW__PC_EV_BROKEN, GW__PC_PAUSED},
	{GW__PC_PAUSED, GW__PC_EV_CONNECTED_AGAIN, GW__PC_RECOVER},
	{GW__PC_PAUSED, GW__PC_EV_SHUT_ERROR, GW__PC_PAUSED},
	{GW__PC_PAUSED, GW__PC_EV_BROKEN, GW__PC_PAUSED},
	{GW__PC_RECOVER, GW__PC_EV_RESUMED, GW__PC_POSTCOPY_ACTIVE},
	{GW__PC_RECOVER, GW__PC_EV_SHUT_ERROR, GW__PC_PAUSED},
	{GW__PC_RECOVER, GW__PC_EV_BROKEN, GW__PC_PAUSED},
};

const char *gw__pc_state_name(enum gw__pc_state state)
{
	static const char *const names[GW__PC_STATES] = {"setup", "active", "postcopy-device", "postcopy-active",
		"postcopy-active (ending)", "postcopy-paused", "postcopy-recover", "completed", "failed"};
	return state < GW__PC_STATES ? names[state] : "?";
}

const char *gw__pc_event_name(enum gw__pc_event event)
{
	static const char *const names[GW__PC_EVENTS] = {"the stream began", "the package was sent", "PONG 0x42", "all pages were sent",
		"SHUT 0", "SHUT with an error", "the link broke", "a new connection", "RESUME_ACK"};
	return event < GW__PC_EVENTS ? names[event] : "?";
}

int gw__pc_step(enum gw__pc_state state, enum gw__pc_event event, enum gw__pc_state *next, struct gw__why *why)
{
	for (unsigned i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
		if (ROWS[i].state == state && ROWS[i].event == event) {
			*next = ROWS[i].next;
			return 0;
		}
	return gw__why_set(why, -EPROTO, "%s has no place in state %s", gw__pc_event_name(event), gw__pc_state_name(state));
}
