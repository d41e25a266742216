/* SPDX-License-Identifier: MIT */
/*
 * The primary of COLO: what it sends and waits for, and whether its guest is stopped (docs/spec/colo.md 2, 4, 8). Pure: a table of states and
 * events; an absent row is an error that names both.
 *
 * The guest of a primary that lost its secondary is in one of two states, running or stopped. Nothing here runs a stopped one: RELEASE is the
 * decision that the primary survives, and it is made elsewhere.
 */
#ifndef GW_PLAN_COLO_PRIMARY_H
#define GW_PLAN_COLO_PRIMARY_H

#include <stdbool.h>

#include "base/error.h"

enum gw__colo_primary_state {
	GW__COLO_PRIMARY_SETUP,       /* the initial migration */
	GW__COLO_PRIMARY_AWAIT_SHUT,  /* new dialect: all is sent, the guest is stopped */
	GW__COLO_PRIMARY_AWAIT_READY, /* it still is */
	GW__COLO_PRIMARY_IDLE,        /* the guest runs and is protected */
	GW__COLO_PRIMARY_REQUESTED,   /* CHECKPOINT_REQUEST was sent; the guest still runs */
	GW__COLO_PRIMARY_STOPPED,     /* CHECKPOINT_REPLY came */
	GW__COLO_PRIMARY_RAM,
	GW__COLO_PRIMARY_DEVICES,
	GW__COLO_PRIMARY_AWAIT_RECEIVED,
	GW__COLO_PRIMARY_AWAIT_LOADED,
	GW__COLO_PRIMARY_LOST_RUNNING, /* the secondary is lost; the guest runs without protection */
	GW__COLO_PRIMARY_LOST_STOPPED, /* the secondary is lost, and may be running the guest: somebody has to decide */
	GW__COLO_PRIMARY_RELEASED,     /* decided: the guest runs here */
	GW__COLO_PRIMARY_FAILED,       /* the initial migration failed; the guest never left */
	GW__COLO_PRIMARY_STATES
};

enum gw__colo_primary_event {
	GW__COLO_PRIMARY_EV_GUEST_SENT,     /* new dialect: to the last byte of the VM description */
	GW__COLO_PRIMARY_EV_GUEST_SENT_OLD, /* old dialect, where no SHUT follows */
	GW__COLO_PRIMARY_EV_SHUT,           /* SHUT 0 */
	GW__COLO_PRIMARY_EV_READY,
	GW__COLO_PRIMARY_EV_REQUEST_SENT,
	GW__COLO_PRIMARY_EV_REPLY,
	GW__COLO_PRIMARY_EV_SEND_SENT,
	GW__COLO_PRIMARY_EV_RAM_SENT, /* to its EOF */
	GW__COLO_PRIMARY_EV_DEVICES_SENT,
	GW__COLO_PRIMARY_EV_RECEIVED,
	GW__COLO_PRIMARY_EV_LOADED,
	GW__COLO_PRIMARY_EV_BROKEN,
	GW__COLO_PRIMARY_EV_RELEASE,
	GW__COLO_PRIMARY_EVENTS
};

int gw__colo_primary_step(enum gw__colo_primary_state state, enum gw__colo_primary_event event, enum gw__colo_primary_state *next,
	struct gw__error *error);
const char *gw__colo_primary_state_name(enum gw__colo_primary_state state);
const char *gw__colo_primary_event_name(enum gw__colo_primary_event event);

/* A message of the secondary, by its number (wire/colo.h), as an event; -1: a secondary never sends it. */
int gw__colo_primary_event_of(unsigned message);
/* The message the secondary must send next, by its number; -1: none is due. */
int gw__colo_primary_expects(enum gw__colo_primary_state state);
bool gw__colo_primary_guest_is_stopped(enum gw__colo_primary_state state);

#endif
