/* SPDX-License-Identifier: MIT */
/* The states of a COLO secondary; see colo_secondary.h. */
#include "plan/colo_secondary.h"

#include <errno.h>

#define S(x)  GW__COLO_SECONDARY_##x
#define EV(x) GW__COLO_SECONDARY_EV_##x

static const struct {
	enum gw__colo_secondary_state state;
	enum gw__colo_secondary_event event;
	enum gw__colo_secondary_state next;
} ROWS[] = {
	/* state             event              next */
	{S(SETUP), EV(GUEST_SAFE), S(RECEIVED)},
	{S(SETUP), EV(BROKEN), S(FAILED)},
	{S(RECEIVED), EV(READY_SENT), S(IDLE)},
	{S(RECEIVED), EV(BROKEN), S(LOST)},
	{S(RECEIVED), EV(FAILOVER), S(FAILED_OVER)},
	{S(IDLE), EV(REQUEST), S(REQUESTED)},
	{S(IDLE), EV(BROKEN), S(LOST)},
	{S(IDLE), EV(FAILOVER), S(FAILED_OVER)},
	{S(REQUESTED), EV(REPLY_SENT), S(REPLIED)},
	{S(REQUESTED), EV(BROKEN), S(LOST)},
	{S(REQUESTED), EV(FAILOVER), S(FAILED_OVER)},
	{S(REPLIED), EV(SEND), S(RAM)},
	{S(REPLIED), EV(BROKEN), S(LOST)},
	{S(REPLIED), EV(FAILOVER), S(FAILED_OVER)},
	{S(RAM), EV(RAM_END), S(RAM_COMPLETE)},
	{S(RAM), EV(BROKEN), S(LOST)},
	{S(RAM), EV(FAILOVER), S(FAILED_OVER)},
	{S(RAM_COMPLETE), EV(SIZE), S(DEVICES)},
	{S(RAM_COMPLETE), EV(BROKEN), S(LOST)},
	{S(RAM_COMPLETE), EV(FAILOVER), S(FAILED_OVER)},
	{S(DEVICES), EV(EPOCH_SAFE), S(SAFE)},
	{S(DEVICES), EV(BROKEN), S(LOST)},
	{S(DEVICES), EV(FAILOVER), S(FAILED_OVER)},
	{S(SAFE), EV(RECEIVED_SENT), S(ACKNOWLEDGED)},
	{S(SAFE), EV(BROKEN), S(LOST)},
	{S(SAFE), EV(FAILOVER), S(FAILED_OVER)},
	{S(ACKNOWLEDGED), EV(LOADED_SENT), S(IDLE)},
	{S(ACKNOWLEDGED), EV(BROKEN), S(LOST)},
	{S(ACKNOWLEDGED), EV(FAILOVER), S(FAILED_OVER)},
	{S(LOST), EV(FAILOVER), S(FAILED_OVER)},
};

const char *gw__colo_secondary_state_name(enum gw__colo_secondary_state state)
{
	static const char *const names[S(STATES)] = {"setup", "guest received", "colo", "colo (requested)", "colo (replied)", "colo (RAM)",
		"colo (RAM complete)", "colo (device state)", "colo (epoch safe)", "colo (acknowledged)", "lost", "failed", "failed over"};
	return state < S(STATES) ? names[state] : "?";
}

const char *gw__colo_secondary_event_name(enum gw__colo_secondary_event event)
{
	static const char *const names[GW__COLO_SECONDARY_EVENTS] = {"the guest stored", "CHECKPOINT_READY sent", "CHECKPOINT_REQUEST",
		"CHECKPOINT_REPLY sent", "VMSTATE_SEND", "the end of RAM", "VMSTATE_SIZE", "the epoch stored", "VMSTATE_RECEIVED sent",
		"VMSTATE_LOADED sent", "the link broken", "failover"};
	return event < GW__COLO_SECONDARY_EVENTS ? names[event] : "?";
}

int gw__colo_secondary_step(enum gw__colo_secondary_state state, enum gw__colo_secondary_event event, enum gw__colo_secondary_state *next,
	struct gw__error *error)
{
	for (unsigned i = 0; i < sizeof ROWS / sizeof ROWS[0]; i++)
		if (ROWS[i].state == state && ROWS[i].event == event) {
			*next = ROWS[i].next;
			return 0;
		}
	return gw__error_set(error, -EPROTO, "unexpected %s in state \"%s\"", gw__colo_secondary_event_name(event),
		gw__colo_secondary_state_name(state));
}

/* By wire/colo.h: 1 CHECKPOINT_REQUEST, 3 VMSTATE_SEND, 4 VMSTATE_SIZE. */
int gw__colo_secondary_event_of(unsigned message)
{
	static const int events[] = {-1, EV(REQUEST), -1, EV(SEND), EV(SIZE), -1, -1};
	return message < sizeof events / sizeof events[0] ? events[message] : -1;
}

int gw__colo_secondary_expects(enum gw__colo_secondary_state state)
{
	switch (state) {
	case S(IDLE):
		return 1;
	case S(REPLIED):
		return 3;
	case S(RAM_COMPLETE):
		return 4;
	default:
		return -1;
	}
}

bool gw__colo_secondary_holds_primary(enum gw__colo_secondary_state state)
{
	return state == S(RECEIVED) || (state >= S(REPLIED) && state <= S(ACKNOWLEDGED));
}

bool gw__colo_secondary_has_epoch(enum gw__colo_secondary_state state)
{
	return state != S(SETUP) && state != S(FAILED) && state != S(FAILED_OVER);
}
