/* SPDX-License-Identifier: MIT */
/*
 * Who may run, and what a post-copy source does next (docs/spec/postcopy.md 3, 6). Pure: a table of states, named as
 * query-migrate names them, and events; an absent row is an error that names both.
 *
 * From the moment the package is handed over the guest is the destination's: no row leads from there back to a source
 * that runs. What is not known is POSTCOPY_PAUSED, never a guess.
 */
#ifndef GW_PLAN_POSTCOPY_SRC_H
#define GW_PLAN_POSTCOPY_SRC_H

#include "base/error.h"

enum gw__postcopy_src_state {
	GW__POSTCOPY_SRC_SETUP,           /* nothing sent; the source owns the guest */
	GW__POSTCOPY_SRC_ACTIVE,          /* header, list and discards are sent */
	GW__POSTCOPY_SRC_DEVICE,          /* package sent; the destination may run at any moment */
	GW__POSTCOPY_SRC_POSTCOPY_ACTIVE, /* its guest is its own; pages follow */
	GW__POSTCOPY_SRC_ENDING,          /* every page and the end are sent; its last word is awaited */
	GW__POSTCOPY_SRC_PAUSED,          /* the link broke; the destination holds the guest */
	GW__POSTCOPY_SRC_RECOVER,         /* connected again; bitmaps are asked for */
	GW__POSTCOPY_SRC_COMPLETED,
	GW__POSTCOPY_SRC_FAILED, /* before it ran there: the guest is where it was */
	GW__POSTCOPY_SRC_STATES
};

enum gw__postcopy_src_event {
	GW__POSTCOPY_SRC_EV_STREAM_BEGUN,
	GW__POSTCOPY_SRC_EV_PACKAGE_SENT,
	GW__POSTCOPY_SRC_EV_GUEST_RUNS, /* PONG 0x42 */
	GW__POSTCOPY_SRC_EV_ALL_SENT,
	GW__POSTCOPY_SRC_EV_SHUT_OK,
	GW__POSTCOPY_SRC_EV_SHUT_ERROR,
	GW__POSTCOPY_SRC_EV_BROKEN, /* I/O error, silence, a message that has no sense */
	GW__POSTCOPY_SRC_EV_CONNECTED_AGAIN,
	GW__POSTCOPY_SRC_EV_RESUMED, /* RESUME_ACK */
	GW__POSTCOPY_SRC_EVENTS
};

/* 0 and the new state, or -EPROTO with a sentence that names both. */
int gw__postcopy_src_step(enum gw__postcopy_src_state state, enum gw__postcopy_src_event event, enum gw__postcopy_src_state *next,
	struct gw__error *error);
const char *gw__postcopy_src_state_name(enum gw__postcopy_src_state state);
const char *gw__postcopy_src_event_name(enum gw__postcopy_src_event event);

#endif
