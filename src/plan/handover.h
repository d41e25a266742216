/* SPDX-License-Identifier: MIT */
/*
 * The hand-over of a running guest: who may run it while its last bytes are on their way, at both ends. Pure: two tables of states and events; an
 * absent row is an error that names both. Where the guest is follows from plan/guest_location, whose events the rows of the source report.
 *
 *   source                                   destination
 *   pause, last pages, devices, PING  --->   all of it is loaded; it cannot run yet, as the end is missing
 *   still here, may be taken back     <---   PONG
 *   the end (EOF, VM description)     --->   runs the guest, whatever becomes of its answer
 *   gone                              <---   SHUT 0
 *
 * Before the end is begun each failure ends in "returned"; after it a lost link leaves the source in doubt, until somebody who knows decides. With
 * post-copy the package holds the order to run: from its first byte on the guest is not taken back.
 */
#ifndef GW_PLAN_HANDOVER_H
#define GW_PLAN_HANDOVER_H

#include <stdbool.h>

#include "base/error.h"
#include "plan/guest_location.h"

enum gw__handover_state {
	GW__HANDOVER_RUNS,      /* the source: it copies ahead */
	GW__HANDOVER_STOPPED,   /* it is paused; nothing of what follows lets the other end run it */
	GW__HANDOVER_ASKED,     /* PING after the devices */
	GW__HANDOVER_CONFIRMED, /* the other end has loaded everything; or it is not asked */
	GW__HANDOVER_ENDING,    /* a byte may have left after which the other end runs it */
	GW__HANDOVER_PACKAGE,   /* the same, of a post-copy package */
	GW__HANDOVER_HELD,      /* the other end has it and needs pages from here */
	GW__HANDOVER_RETURNED,  /* nobody else can have it: it runs here again */
	GW__HANDOVER_IN_DOUBT,
	GW__HANDOVER_GONE,

	GW__HANDOVER_LOADING, /* the destination: it has no guest yet */
	GW__HANDOVER_LOADED,  /* all but the end is here */
	GW__HANDOVER_RUNS_HERE,
	GW__HANDOVER_EMPTY, /* it failed: nothing to run, ever */
	GW__HANDOVER_STATES
};

enum gw__handover_event {
	/* the source's */
	GW__HANDOVER_EV_PAUSED,
	GW__HANDOVER_EV_ASKED,         /* PING left after the devices */
	GW__HANDOVER_EV_NOT_ASKED,     /* the devices left; there is nobody to ask, or it is not wanted */
	GW__HANDOVER_EV_PONG,          /* to that PING */
	GW__HANDOVER_EV_END_BEGUN,     /* before the call that may send the last byte */
	GW__HANDOVER_EV_PACKAGE_BEGUN, /* before the first byte of the package */
	GW__HANDOVER_EV_RUNS_THERE,    /* it asks for pages, or says so */
	GW__HANDOVER_EV_SHUT_OK,
	GW__HANDOVER_EV_SHUT_ERROR,
	GW__HANDOVER_EV_CANCEL,
	GW__HANDOVER_EV_OURS,   /* somebody who knows: nobody else runs it */
	GW__HANDOVER_EV_THEIRS, /* the other end has it */
	/* of either */
	GW__HANDOVER_EV_BROKEN, /* the link; or something failed here */
	/* the destination's */
	GW__HANDOVER_EV_PING,        /* came after the last device, which is loaded */
	GW__HANDOVER_EV_END,         /* the end came, and all is loaded */
	GW__HANDOVER_EV_PACKAGE,     /* all of it, and its devices are loaded */
	GW__HANDOVER_EV_LOAD_FAILED, /* SHUT with an error is the answer */
	GW__HANDOVER_EVENTS
};

/*
 * 0, or -EPROTO with a sentence that names both. `location`, the source's view of where the guest is, may be NULL; a row of the destination leaves it
 * alone.
 */
int gw__handover_step(enum gw__handover_state state, enum gw__handover_event event, enum gw__handover_state *next,
	struct gw__location *location, struct gw__error *error);
/* May this end run the guest in this state? */
bool gw__handover_may_run(enum gw__handover_state state);
const char *gw__handover_state_name(enum gw__handover_state state);
const char *gw__handover_event_name(enum gw__handover_event event);

#endif
