/* SPDX-License-Identifier: MIT */
/*
 * What a COLO primary and its secondary say to each other, by the table of plan/colo_primary.h: each word is sent, or awaited, where it is due. Where the
 * guest of the primary is, and what of it is sent, is not known here. One thread.
 */
#ifndef GW_ENGINE_COLO_PRIMARY_TALK_H
#define GW_ENGINE_COLO_PRIMARY_TALK_H

#include "engine/core/run.h"
#include "plan/colo_primary.h"

struct gw__primary_talk { /* zeroed, but for these three */
	struct gw__run *run;
	struct gw__chan *chan;
	int answer_ms; /* for each word of the secondary; -1: for ever */
	enum gw__colo_primary_state state;
};

int gw__primary_talk_step(struct gw__primary_talk *t, enum gw__colo_primary_event event);
/* CHECKPOINT_REQUEST, VMSTATE_SEND or VMSTATE_SIZE, by its number; `bytes` of the last. */
int gw__primary_talk_send(struct gw__primary_talk *t, unsigned message, uint64_t bytes);
/* The one word that is due. */
int gw__primary_talk_await(struct gw__primary_talk *t);
/* Passes `r` on; a failure is the end of the secondary, in whatever state. The first failure stays. */
int gw__primary_talk_lost(struct gw__primary_talk *t, int r);

#endif
