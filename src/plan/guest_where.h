/* SPDX-License-Identifier: MIT */
/*
 * Who may run a guest that lives in this process, drawn from where it is (guest_location.h): the same truth, as a VMM asks for it. And what may be
 * begun with such a guest. Pure tables.
 */
#ifndef GW_PLAN_GUEST_WHERE_H
#define GW_PLAN_GUEST_WHERE_H

#include "base/error.h"
#include "plan/guest_location.h"

enum gw__where { GW__HERE, GW__EMPTY, GW__ARRIVING, GW__LEAVING, GW__IN_DOUBT, GW__GONE, GW__STANDBY, GW__PARTIAL, GW__HELD, GW__WHERES };

/* Which end of the last move we are. */
enum gw__side { GW__SIDE_SOURCE, GW__SIDE_DESTINATION, GW__SIDES };

enum gw__motion {
	GW__MOTION_NONE,
	GW__MOTION_MOVES,     /* a call is at it */
	GW__MOTION_PROTECTED, /* so too, but the guest does not leave */
	GW__MOTION_STANDS_BY, /* so too, and it has the first copy of its primary's guest */
};
enum gw__where gw__where_of(enum gw__side side, enum gw__place place, enum gw__motion motion);
const char *gw__where_name(enum gw__where where); /* "in-doubt" */

enum gw__guest_call {
	GW__GUEST_SEND,
	GW__GUEST_RECEIVE,
	GW__GUEST_DECIDE,
	GW__GUEST_FREE,
	GW__GUEST_PROTECT,
	GW__GUEST_STANDBY,
	GW__GUEST_RESUME,      /* the bringing of its pages */
	GW__GUEST_SEND_RESUME, /* the post-copy of a guest that was sent */
	GW__GUEST_CALLS
};
/* 0, or why this may not be begun with a guest that is there, with a sentence. */
int gw__guest_may(enum gw__guest_call call, enum gw__where where, struct gw__error *error);

#endif
