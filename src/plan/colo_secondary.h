/* SPDX-License-Identifier: MIT */
/*
 * The secondary of COLO: what it waits for, and which epoch is the one to go on from (docs/spec/colo.md 2, 4, 8). Pure: a table of states and
 * events; an absent row is an error that names both.
 *
 * An epoch exists from the moment all of it is here, before the primary is told (EV_EPOCH_SAFE). Until then the previous epoch is the only
 * one: no row leads from a part of an epoch to its use.
 */
#ifndef GW_PLAN_COLO_SECONDARY_H
#define GW_PLAN_COLO_SECONDARY_H

#include <stdbool.h>

#include "base/error.h"

enum gw__colo_secondary_state {
	GW__COLO_SECONDARY_SETUP,    /* the initial migration: there is no epoch yet */
	GW__COLO_SECONDARY_RECEIVED, /* the initial guest is epoch 0; its source waits for SHUT 0, then CHECKPOINT_READY */
	GW__COLO_SECONDARY_IDLE,     /* the primary's guest runs */
	GW__COLO_SECONDARY_REQUESTED,
	GW__COLO_SECONDARY_REPLIED, /* the primary's guest stops */
	GW__COLO_SECONDARY_RAM,
	GW__COLO_SECONDARY_RAM_COMPLETE,
	GW__COLO_SECONDARY_DEVICES,
	GW__COLO_SECONDARY_SAFE,         /* the new epoch is the epoch; the primary is to be told */
	GW__COLO_SECONDARY_ACKNOWLEDGED, /* VMSTATE_RECEIVED was sent */
	GW__COLO_SECONDARY_LOST,         /* the link is over, a part of an epoch was dropped; the last whole one stands */
	GW__COLO_SECONDARY_FAILED,       /* there never was an epoch */
	GW__COLO_SECONDARY_FAILED_OVER,  /* the last whole epoch was given away to be run; nothing may follow */
	GW__COLO_SECONDARY_STATES
};

enum gw__colo_secondary_event {
	GW__COLO_SECONDARY_EV_GUEST_SAFE, /* the initial migration is complete and stored */
	GW__COLO_SECONDARY_EV_READY_SENT, /* SHUT 0, then CHECKPOINT_READY */
	GW__COLO_SECONDARY_EV_REQUEST,
	GW__COLO_SECONDARY_EV_REPLY_SENT,
	GW__COLO_SECONDARY_EV_SEND,
	GW__COLO_SECONDARY_EV_RAM_END, /* END of RAM, footer and EOF */
	GW__COLO_SECONDARY_EV_SIZE,
	GW__COLO_SECONDARY_EV_EPOCH_SAFE, /* the last byte of the device state is here, and all of it is stored */
	GW__COLO_SECONDARY_EV_RECEIVED_SENT,
	GW__COLO_SECONDARY_EV_LOADED_SENT,
	GW__COLO_SECONDARY_EV_BROKEN, /* I/O error, silence, a message out of place, a limit */
	GW__COLO_SECONDARY_EV_FAILOVER,
	GW__COLO_SECONDARY_EVENTS
};

/* 0 and the new state, or -EPROTO with a sentence that names both. */
int gw__colo_secondary_step(enum gw__colo_secondary_state state, enum gw__colo_secondary_event event, enum gw__colo_secondary_state *next,
	struct gw__error *error);
const char *gw__colo_secondary_state_name(enum gw__colo_secondary_state state);
const char *gw__colo_secondary_event_name(enum gw__colo_secondary_event event);

/* A message of the primary, by its number (wire/colo.h), as an event; -1: a primary never sends it. */
int gw__colo_secondary_event_of(unsigned message);
/* The message the primary must send next, by its number; -1: none is due, or it is not its turn. */
int gw__colo_secondary_expects(enum gw__colo_secondary_state state);
/* Is the primary's guest stopped because of us, as far as we can tell? That is what a time-out counts. */
bool gw__colo_secondary_holds_primary(enum gw__colo_secondary_state state);
/* Is there an epoch that a guest can go on from? */
bool gw__colo_secondary_has_epoch(enum gw__colo_secondary_state state);

#endif
