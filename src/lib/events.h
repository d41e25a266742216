/* SPDX-License-Identifier: MIT */
/*
 * What a started call has to tell: a bounded queue from the threads that work to the one that owns the job, and the answers that go back. Events
 * are copied whole. The owner frees it when no thread pushes any more.
 */
#ifndef GW_LIB_EVENTS_H
#define GW_LIB_EVENTS_H

#include "godwit.h"

struct gw__events;

int gw__events_new(struct gw__events **events); /* -ENOMEM, -EMFILE */
void gw__events_free(struct gw__events *events);

/* Owner: forget what is there; from now on the events of these kinds (GW_EVENT_BIT) that not everybody wants are taken too. */
void gw__events_begin(struct gw__events *events, uint64_t wanted);
bool gw__events_wants(const struct gw__events *events, enum gw_event_kind kind);

/* Working threads. What there is no room for is dropped and counted. */
void gw__events_push(struct gw__events *events, const struct gw_event *event);
/* The owner's answer, or -ECANCELED when `cancel_fd` becomes readable, or -ENOMEM. One question at a time. */
int gw__events_ask(struct gw__events *events, const struct gw_event *event, int cancel_fd);
void gw__events_end(struct gw__events *events); /* the last push: GW_EVENT_DONE */

/* Owner. */
int gw__events_fd(const struct gw__events *events);                     /* readable: there is an event, or the end came */
int gw__events_next(struct gw__events *events, struct gw_event *event); /* -EAGAIN; lives until the next one */
int gw__events_answer(struct gw__events *events, int answer);           /* -ESRCH: nothing was asked; -EINVAL */
int gw__events_wait_end(struct gw__events *events, int timeout_ms);     /* -EAGAIN: not yet, or a question waits */

#endif
