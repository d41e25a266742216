/* SPDX-License-Identifier: MIT */
/*
 * Where is the guest, and what does that mean? The one table of it: a place and an event give the new place, what is to be done next, the exit
 * status of a command that ends there, and the id of what is said. Engine, library, commands and the watchdog report events, and tell what
 * the table says. Pure.
 *
 * An event is evidence. What is not known to be over is taken to be so still; what nobody can know is a place of its own.
 */
#ifndef GW_PLAN_GUEST_LOCATION_H
#define GW_PLAN_GUEST_LOCATION_H

#include "base/error.h"

/* In the order of enum gw_place. */
enum gw__place {
	GW__PLACE_SOURCE_RUNS,       /* the source has it, as before */
	GW__PLACE_SOURCE_PAUSED,     /* the source alone has it, and may stay paused */
	GW__PLACE_DESTINATION_RUNS,  /* with all of its memory */
	GW__PLACE_DESTINATION_WAITS, /* or will, at the first page it lacks; the pages are in an image */
	GW__PLACE_KEPT_WHOLE,        /* in an image, and nobody runs it */
	GW__PLACE_KEPT_IN_PART,      /* the source is stopped and has the rest */
	GW__PLACE_SPLIT,             /* the destination has it, and a source that is stopped has pages of it */
	GW__PLACE_BOTH_POSSIBLE,     /* more than one may have it: nobody may be set running without asking */
	GW__PLACE_LOST,              /* who ran it is gone */
	GW__PLACES
};

/* In the order of enum gw_next_step. */
enum gw__next_step {
	GW__NEXT_NOTHING,
	GW__NEXT_TRY_AGAIN,           /* nothing has changed: put right what the message says */
	GW__NEXT_ASK_SOURCE,          /* query-migrate and query-status there */
	GW__NEXT_CONTINUE_SOURCE,     /* cont, if it does not run */
	GW__NEXT_RESUME,              /* the receiving, or give the guest back */
	GW__NEXT_END_WITHOUT_SOURCE,  /* the image lacks nothing that the source will ever send */
	GW__NEXT_REMOVE_FILES,        /* they are of no more use */
	GW__NEXT_ASK_DESTINATION,     /* has it loaded the guest? */
	GW__NEXT_SERVE,               /* a page server for the destination */
	GW__NEXT_RESTORE,             /* the image, which is as old as it is */
	GW__NEXT_RESTART_DESTINATION, /* kill it first */
	GW__NEXT_DRAIN,               /* again; do not stop the source */
	GW__NEXT_KEEP_SOURCE,         /* do not stop its process: only there all of the memory is safe */
	GW__NEXT_RECOVER,             /* migrate-recover at the destination, migrate with resume at the source */
	GW__NEXT_FAILOVER,            /* which proves that the primary is dead, or refuses */
	GW__NEXT_STEPS
};

/* What a command leaves with. */
enum gw__status {
	GW__STATUS_DONE = 0,
	GW__STATUS_FAILED = 1,
	GW__STATUS_USAGE = 2,
	GW__STATUS_REFUSED = 3,
	GW__STATUS_IN_DOUBT = 4,
	GW__STATUS_RECOVERABLE = 5,
};

/* In the order of enum gw_evidence. */
enum gw__location_event {
	/* before anything was touched */
	GW__LOCATION_EV_WRONG_USE,
	GW__LOCATION_EV_REFUSED,
	GW__LOCATION_EV_UNCHANGED, /* it failed */
	/* to an image */
	GW__LOCATION_EV_SWITCH_BEGUN,    /* the source has stopped the guest to switch to post-copy */
	GW__LOCATION_EV_PERSISTED,       /* device state and received bitmap survive us */
	GW__LOCATION_EV_COMMITTED,       /* the image is whole, synced and has its name; of a drain, which has no devices, too */
	GW__LOCATION_EV_NOT_NOTIFIED,    /* and the source does not know */
	GW__LOCATION_EV_UNCONFIRMED,     /* and the source's monitor does not say that it is over */
	GW__LOCATION_EV_BROKEN,          /* the link, the disk, the stream: in any direction */
	GW__LOCATION_EV_BROKEN_UNSURE,   /* when the source may have been switching */
	GW__LOCATION_EV_BROKEN_AT_END,   /* after the source's last byte, and it cannot be told */
	GW__LOCATION_EV_NOTHING_MISSING, /* it broke with every page here, and without an image */
	GW__LOCATION_EV_COMMITTED_UNSAFE, /* the image is whole and has its name, its folder could not be synced; the source was told of a failure */
	/* a source, by its monitor */
	GW__LOCATION_EV_SOURCE_RUNS,       /* its migration is over, and it runs the guest */
	GW__LOCATION_EV_SOURCE_STANDS,     /* the same, of a guest that did not run before */
	GW__LOCATION_EV_SAVED_RUNS,        /* it has sent a copy, and runs on */
	GW__LOCATION_EV_SAVED_STANDS,      /* a copy, and stands as before */
	GW__LOCATION_EV_SAVED_STOPPED,     /* it was to be left stopped */
	GW__LOCATION_EV_SOURCE_UNREPAIRED, /* it could not be put back in order, or not be reached */
	GW__LOCATION_EV_SOURCE_WAITS,      /* in postcopy-paused, for who has a part */
	GW__LOCATION_EV_SOURCE_UNCLEAR,    /* it does not say what it waits for */
	GW__LOCATION_EV_SOURCE_GONE,       /* nobody answers at its monitor any more */
	GW__LOCATION_EV_SOURCE_HANGS,      /* a QEMU 7.2 that has sent all (docs/spec/postcopy.md 1.4) */
	/* giving it back */
	GW__LOCATION_EV_GIVEN_BACK,
	GW__LOCATION_EV_NOT_GIVEN_BACK, /* that was not seen */
	GW__LOCATION_EV_FILES_LEFT,     /* given back, and what came of it is still there */
	GW__LOCATION_EV_ALSO_KEPT,      /* given back, and there is a whole image of it */
	/* to a destination */
	GW__LOCATION_EV_GIVEN,                 /* it may run from now on, and lacks pages */
	GW__LOCATION_EV_ARRIVED,               /* it has everything */
	GW__LOCATION_EV_SENT,                  /* all of it, and the answer that was to come did not */
	GW__LOCATION_EV_SENT_UNANSWERED,       /* all of it, to where nobody answers */
	GW__LOCATION_EV_DESTINATION_FAILED,    /* it said so, or was seen to have no guest */
	GW__LOCATION_EV_DESTINATION_WAITS,     /* for pages */
	GW__LOCATION_EV_DESTINATION_UNCLEAR,   /* it cannot be asked */
	GW__LOCATION_EV_DESTINATION_SHUT_DOWN, /* by its guest or its user */
	GW__LOCATION_EV_DESTINATION_HANGS,     /* it lost us while it loaded the devices, and will never run */
	/* between two others */
	GW__LOCATION_EV_DRAINED_UNSAFE,      /* the source has sent everything, and the image is not safe */
	GW__LOCATION_EV_DRAINED_UNREAD,      /* the image cannot be read back */
	GW__LOCATION_EV_DRAINED_UNCONFIRMED, /* the source does not say that it has sent everything */
	GW__LOCATION_EV_SPLIT,               /* the link broke in post-copy */
	GW__LOCATION_EV_EPOCH_KEPT,          /* of a primary that is not connected any more */
	/* a primary, by its monitor */
	GW__LOCATION_EV_RELEASED,          /* from its standby: it runs on, not protected */
	GW__LOCATION_EV_PRIMARY_SHUT_DOWN, /* by its guest or its user */
	GW__LOCATION_EV_PRIMARY_GONE,      /* its process has ended; its standby may have an epoch */
	GW__LOCATION_EVENTS
};

struct gw__location {
	enum gw__place place;
	enum gw__next_step next_step;
	enum gw__status status;
	const char *message; /* an id: lower case and "-"; never changed once it was released */
};

/* What is to be said of a place of which nothing else is known. */
struct gw__location gw__location_at(enum gw__place place);
/* 0, or -EPROTO with a sentence that names both: the event has no row there, and *l is as it was. */
int gw__location_step(struct gw__location *l, enum gw__location_event event, struct gw__error *error);
/* The same for evidence that is not ours to rule out: what contradicts all that was known leaves both possible. */
void gw__location_note(struct gw__location *l, enum gw__location_event event);

const char *gw__place_name(enum gw__place place); /* "source-runs" */
const char *gw__next_step_name(enum gw__next_step step);
const char *gw__location_event_name(enum gw__location_event event);

#endif
