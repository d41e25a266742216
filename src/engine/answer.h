/* SPDX-License-Identifier: MIT */
/* What the destination says when it has everything (docs/spec/stream.md 9, channels.md 3.2). Called by the conductor. */
#ifndef GW_ENGINE_ANSWER_H
#define GW_ENGINE_ANSWER_H

#include "engine/run.h"
#include "io/chan.h"

/*
 * Waits for SHUT, at most `ms` for each message (-1: for ever): 0 when the guest is loaded there; -EREMOTEIO when the
 * destination says that it failed; -ETIMEDOUT, -ECONNRESET, -EPROTO when it is not known.
 */
int gw__answer_await(struct gw__run *run, struct gw__chan *chan, int ms, struct gw__why *why);

#endif
