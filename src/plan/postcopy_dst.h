/* SPDX-License-Identifier: MIT */
/*
 * The other side of postcopy.h: what we are when a source gives its guest to us (docs/spec/postcopy.md 3, 6).
 * States are named as query-migrate names those of a destination. Pure: a table; an absent row is an error that names both.
 *
 * Three roles. Who KEEPs a guest in an image is the only destination: the guest is paused at its source, which may have it back
 * once nothing more is expected of us. Who RUNs it is the only destination too, and its source never has it back once it has heard that the
 * devices are loaded. Who DRAINs stands in for a destination that has the guest already: nothing may ever make that source run it again.
 */
#ifndef GW_PLAN_POSTCOPY_DST_H
#define GW_PLAN_POSTCOPY_DST_H

#include "base/error.h"

enum gw__postcopy_dst_role { GW__POSTCOPY_DST_KEEP, GW__POSTCOPY_DST_RUN, GW__POSTCOPY_DST_DRAIN };

enum gw__postcopy_dst_state {
	GW__POSTCOPY_DST_SETUP,           /* nothing came */
	GW__POSTCOPY_DST_ACTIVE,          /* pre-copy */
	GW__POSTCOPY_DST_DISCARDING,      /* the source has stopped its guest and makes pages void; breaking off gives it back */
	GW__POSTCOPY_DST_DEVICE,          /* the package came and is not safe yet */
	GW__POSTCOPY_DST_POSTCOPY_ACTIVE, /* device state and received bitmap survive us; pages follow */
	GW__POSTCOPY_DST_ENDING,          /* the source sent all it had; the image is made safe */
	GW__POSTCOPY_DST_PAUSED,          /* the link broke; the source holds the rest */
	GW__POSTCOPY_DST_RECOVER,         /* connected again; bitmaps are being told */
	GW__POSTCOPY_DST_IN_DOUBT, /* the source waits for a last word, and there is no good image; our end, unless nothing was held */
	GW__POSTCOPY_DST_COMPLETED,
	GW__POSTCOPY_DST_FAILED, /* the guest is its source's */
	GW__POSTCOPY_DST_STATES
};

enum gw__postcopy_dst_event {
	GW__POSTCOPY_DST_EV_STREAM_BEGUN,
	GW__POSTCOPY_DST_EV_DISCARD,
	GW__POSTCOPY_DST_EV_PACKAGE,
	GW__POSTCOPY_DST_EV_HELD,   /* what has to survive us is on the disk */
	GW__POSTCOPY_DST_EV_END,    /* of RAM: the source has nothing more to send */
	GW__POSTCOPY_DST_EV_SAFE,   /* synced and named */
	GW__POSTCOPY_DST_EV_BROKEN, /* I/O error, silence, a message that has no sense, a disk that is full */
	GW__POSTCOPY_DST_EV_CONNECTED_AGAIN,
	GW__POSTCOPY_DST_EV_RESUME, /* the source has its answers and goes on */
	GW__POSTCOPY_DST_EV_GIVE_BACK, /* nothing was ever held here: the source, which hears SHUT with an error or nothing, runs its guest on */
	GW__POSTCOPY_DST_EVENTS
};

/* 0 and the new state, or -EPROTO with a sentence that names both. */
int gw__postcopy_dst_step(enum gw__postcopy_dst_role role, enum gw__postcopy_dst_state state, enum gw__postcopy_dst_event event,
	enum gw__postcopy_dst_state *next, struct gw__error *error);
const char *gw__postcopy_dst_state_name(enum gw__postcopy_dst_state state);
const char *gw__postcopy_dst_event_name(enum gw__postcopy_dst_event event);

#endif
