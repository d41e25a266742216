/* SPDX-License-Identifier: MIT */
/*
 * Who may run, and what a post-copy source does next (docs/spec/postcopy.md 3, 6). Pure: a table of states, named as
 * query-migrate names them, and events; an absent row is an error that names both.
 *
 * From the moment the package is handed over the guest is the destination's: no row leads from there back to a source
 * that runs. What is not known is POSTCOPY_PAUSED, never a guess.
 */
#ifndef GW_PLAN_POSTCOPY_H
#define GW_PLAN_POSTCOPY_H

#include "base/error.h"

enum gw__pc_state {
	GW__PC_SETUP,           /* nothing sent; the source owns the guest */
	GW__PC_ACTIVE,          /* header, list and discards are sent */
	GW__PC_DEVICE,          /* package sent; the destination may run at any moment */
	GW__PC_POSTCOPY_ACTIVE, /* its guest is its own; pages follow */
	GW__PC_ENDING,          /* every page and the end are sent; its last word is awaited */
	GW__PC_PAUSED,          /* the link broke; the destination holds the guest */
	GW__PC_RECOVER,         /* connected again; bitmaps are asked for */
	GW__PC_COMPLETED,
	GW__PC_FAILED, /* before the package: the guest is where it was */
	GW__PC_STATES
};

enum gw__pc_event {
	GW__PC_EV_STREAM_BEGUN,
	GW__PC_EV_PACKAGE_SENT,
	GW__PC_EV_GUEST_RUNS, /* PONG 0x42 */
	GW__PC_EV_ALL_SENT,
	GW__PC_EV_SHUT_OK,
	GW__PC_EV_SHUT_ERROR,
	GW__PC_EV_BROKEN, /* I/O error, silence, a message that has no sense */
	GW__PC_EV_CONNECTED_AGAIN,
	GW__PC_EV_RESUMED, /* RESUME_ACK */
	GW__PC_EVENTS
};

/* 0 and the new state, or -EPROTO with a sentence that names both. */
int gw__pc_step(enum gw__pc_state state, enum gw__pc_event event, enum gw__pc_state *next, struct gw__why *why);
const char *gw__pc_state_name(enum gw__pc_state state);
const char *gw__pc_event_name(enum gw__pc_event event);

#endif
