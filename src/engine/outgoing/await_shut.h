/* SPDX-License-Identifier: MIT */
/* What the destination says when it has everything (docs/spec/stream.md 9, channels.md 3.2). Called by the main thread. */
#ifndef GW_ENGINE_OUTGOING_AWAIT_SHUT_H
#define GW_ENGINE_OUTGOING_AWAIT_SHUT_H

#include "engine/core/run.h"
#include "io/chan.h"

/*
 * Waits for SHUT, at most `ms` for each message (-1: for ever): 0 when the guest is loaded there; -EREMOTEIO when the
 * destination says that it failed; -ETIMEDOUT, -ECONNRESET, -EPROTO when it is not known.
 */
int gw__await_shut(struct gw__run *run, struct gw__chan *chan, int ms, struct gw__error *error);
/* Waits for the PONG with this token, likewise: then all that was sent before its PING was read there. */
int gw__await_pong(struct gw__run *run, struct gw__chan *chan, uint32_t token, int ms, struct gw__error *error);

#endif
