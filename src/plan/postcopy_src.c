/* SPDX-License-Identifier: MIT */
/* The states of a post-copy source; see postcopy.h. */
#include "plan/postcopy_src.h"

#include <errno.h>

static const struct {
	enum gw__postcopy_src_state state;
	enum gw__postcopy_src_event event;
	enum gw__postcopy_src_state next;
} ROWS[] = {
	/* state                event                      next */
	{GW__POSTCOPY_SRC_SETUP, GW__POSTCOPY_SRC_EV_STREAM_BEGUN, GW__POSTCOPY_SRC_ACTIVE},
	{GW__POSTCOPY_SRC_SETUP, GW__POSTCOPY_SRC_EV_SHUT_ERROR, GW__POSTCOPY_SRC_FAILED},
	{GW__POSTCOPY_SRC_SETUP, GW__POSTCOPY_SRC_EV_BROKEN, GW__POSTCOPY_SRC_FAILED},
	{GW__POSTCOPY_SRC_ACTIVE, GW__POSTCOPY_SRC_EV_PACKAGE_SENT, GW__POSTCOPY_SRC_DEVICE},
	{GW__POSTCOPY_SRC_ACTIVE, GW__POSTCOPY_SRC_EV_SHUT_ERROR, GW__POSTCOPY_SRC_FAILED},
	{GW__POSTCOPY_SRC_ACTIVE, GW__POSTCOPY_SRC_EV_BROKEN, GW__POSTCOPY_SRC_FAILED},
	{GW__POSTCOPY_SRC_DEVICE, GW__POSTCOPY_SRC_EV_GUEST_RUNS, GW__POSTCOPY_SRC_POSTCOPY_ACTIVE},
	{GW__POSTCOPY_SRC_DEVICE, GW__POSTCOPY_SRC_EV_SHUT_ERROR, GW__POSTCOPY_SRC_FAILED}, /* it could not load the devices, and says so */
	{GW__POSTCOPY_SRC_DEVICE, GW__POSTCOPY_SRC_EV_BROKEN, GW__POSTCOPY_SRC_PAUSED},
	{GW__POSTCOPY_SRC_POSTCOPY_ACTIVE, GW__POSTCOPY_SRC_EV_ALL_SENT, GW__POSTCOPY_SRC_ENDING},
	{GW__POSTCOPY_SRC_POSTCOPY_ACTIVE, GW__POSTCOPY_SRC_EV_SHUT_ERROR, GW__POSTCOPY_SRC_PAUSED},
	{GW__POSTCOPY_SRC_POSTCOPY_ACTIVE, GW__POSTCOPY_SRC_EV_BROKEN, GW__POSTCOPY_SRC_PAUSED},
	{GW__POSTCOPY_SRC_ENDING, GW__POSTCOPY_SRC_EV_SHUT_OK, GW__POSTCOPY_SRC_COMPLETED},
	{GW__POSTCOPY_SRC_ENDING, GW__POSTCOPY_SRC_EV_SHUT_ERROR, GW__POSTCOPY_SRC_PAUSED},
	{GW__POSTCOPY_SRC_ENDING, GW__POSTCOPY_SRC_EV_BROKEN, GW__POSTCOPY_SRC_PAUSED},
	{GW__POSTCOPY_SRC_PAUSED, GW__POSTCOPY_SRC_EV_CONNECTED_AGAIN, GW__POSTCOPY_SRC_RECOVER},
	{GW__POSTCOPY_SRC_PAUSED, GW__POSTCOPY_SRC_EV_SHUT_ERROR, GW__POSTCOPY_SRC_PAUSED},
	{GW__POSTCOPY_SRC_PAUSED, GW__POSTCOPY_SRC_EV_BROKEN, GW__POSTCOPY_SRC_PAUSED},
	{GW__POSTCOPY_SRC_RECOVER, GW__POSTCOPY_SRC_EV_RESUMED, GW__POSTCOPY_SRC_POSTCOPY_ACTIVE},
	{GW__POSTCOPY_SRC_RECOVER, GW__POSTCOPY_SRC_EV_SHUT_ERROR, GW__POSTCOPY_SRC_PAUSED},
	{GW__POSTCOPY_SRC_RECOVER, GW__POSTCOPY_SRC_EV_BROKEN, GW__POSTCOPY_SRC_PAUSED},
};

const char *gw__postcopy_src_state_name(enum gw__postcopy_src_state state)
{
	static const char *const names[GW__POSTCOPY_SRC_STATES] = {"setup", "active", "postcopy-device", "postcopy-active",
		"postcopy-active (ending)", "postcopy-paused", "postcopy-recover", "completed", "failed"};
	return state < GW__POSTCOPY_SRC_STATES ? names[state] : "?";
}

const char *gw__postcopy_src_event_name(enum gw__postcopy_src_event event)
{
	static const char *const names[GW__POSTCOPY_SRC_EVENTS] = {"the stream began", "the package was sent", "PONG 0x42",
		"all pages were sent", "SHUT 0", "SHUT with an error", "the link broke", "a new connection", "RESUME_ACK"};
	return event < GW__POSTCOPY_SRC_EVENTS ? names[event] : "?";
}

int gw__postcopy_src_step(enum gw__postcopy_src_state state, enum gw__postcopy_src_event event, enum gw__postcopy_src_state *next,
	struct gw__error *error)
{
	for (unsigned i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
		if (ROWS[i].state == state && ROWS[i].event == event) {
			*next = ROWS[i].next;
			return 0;
		}
	return gw__error_set(error, -EPROTO, "%s has no place in state %s", gw__postcopy_src_event_name(event),
		gw__postcopy_src_state_name(state));
}
