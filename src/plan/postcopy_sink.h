/* SPDX-License-Identifier: MIT */
/*
 * The other side of postcopy.h: what we are when a source gives its guest to us and nobody here runs it (docs/spec/postcopy.md 3, 6).
 * States are named as query-migrate names those of a destination. Pure: a table; an absent row is an error that names both.
 *
 * Two roles. Who KEEPs a guest in an image is the only destination: the guest stands still in its source, which may have it back
 * once nothing more is expected of us. Who DRAINs stands in for a destination that has the guest already: nothing may ever
 * make that source run it again.
 */
#ifndef GW_PLAN_POSTCOPY_SINK_H
#define GW_PLAN_POSTCOPY_SINK_H

#include "base/error.h"

enum gw__ps_role { GW__PS_KEEP, GW__PS_DRAIN };

enum gw__ps_state {
	GW__PS_SETUP,           /* nothing came */
	GW__PS_ACTIVE,          /* pre-copy */
	GW__PS_DISCARDING,      /* the source has stopped its guest and makes pages void; breaking off gives it back */
	GW__PS_DEVICE,          /* the package came and is not safe yet */
	GW__PS_POSTCOPY_ACTIVE, /* device state and received bitmap survive us; pages follow */
	GW__PS_ENDING,          /* the source sent all it had; the image is made safe */
	GW__PS_PAUSED,          /* the link broke; the source holds the rest */
	GW__PS_RECOVER,         /* connected again; bitmaps are being told */
	GW__PS_IN_DOUBT,        /* the source waits for a last word, and there is no good image; our end, unless nothing was held */
	GW__PS_COMPLETED,
	GW__PS_FAILED, /* the guest is its source's */
	GW__PS_STATES
};

enum gw__ps_event {
	GW__PS_EV_STREAM_BEGUN,
	GW__PS_EV_DISCARD,
	GW__PS_EV_PACKAGE,
	GW__PS_EV_HELD,   /* what has to survive us is on the disk */
	GW__PS_EV_END,    /* of RAM: the source has nothing more to send */
	GW__PS_EV_SAFE,   /* synced and named */
	GW__PS_EV_BROKEN, /* I/O error, silence, a message that has no sense, a disk that is full */
	GW__PS_EV_CONNECTED_AGAIN,
	GW__PS_EV_RESUME,    /* the source has its answers and goes on */
	GW__PS_EV_GIVE_BACK, /* nothing was ever held here: the source, which hears SHUT with an error or nothing, runs its guest on */
	GW__PS_EVENTS
};

/* 0 and the new state, or -EPROTO with a sentence that names both. */
int gw__ps_step(enum gw__ps_role role, enum gw__ps_state state, enum gw__ps_event event, enum gw__ps_state *next, struct gw__why *why);
const char *gw__ps_state_name(enum gw__ps_state state);
const char *gw__ps_event_name(enum gw__ps_event event);

#endif
