/* SPDX-License-Identifier: MIT */
/* A bounded queue of what a proxy has to say, and the thread that says it to the caller's functions. */
#ifndef GW_ENGINE_PROXY_EVENT_QUEUE_H
#define GW_ENGINE_PROXY_EVENT_QUEUE_H

#include "engine/proxy/proxy.h"

struct gw__event_queue;
int gw__event_queue_start(const struct gw__proxy_opts *o, struct gw__event_queue **t, struct gw__error *error);
/* Never waits for the listener: what does not fit is counted and dropped. Any thread. */
void gw__event_queue_push(struct gw__event_queue *t, const struct gw__proxy_queued_message *said);
void gw__event_queue_push_stats(struct gw__event_queue *t, const struct gw__proxy_channel_stats *sum);
/* Says the rest and ends. Returns how much was dropped. NULL is fine. */
uint64_t gw__event_queue_stop(struct gw__event_queue *t);

#endif
