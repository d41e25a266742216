/* SPDX-License-Identifier: MIT */
/* What the destination says when it has everything (docs/spec/stream.md 9, channels.md 3.2). Called by the main thread. */
#ifndef GW_ENGINE_OUTGOING_AWAIT_REPLY_H
#define GW_ENGINE_OUTGOING_AWAIT_REPLY_H

#include "engine/core/run.h"
#include "io/chan.h"
#include "wire/return_path.h"

/*
 * Waits for this message, at most `ms` for each that comes (-1: for ever). GW__RP_SHUT, 0: the guest is loaded there. GW__RP_PONG, a token: all that was sent
 * before its PING was read there. 0, or -EREMOTEIO when the destination says that it failed; -ETIMEDOUT, -ECONNRESET, -EPROTO when it is not known.
 */
int gw__await_reply(struct gw__run *run, struct gw__chan *chan, uint16_t type, uint32_t value, int ms, struct gw__error *error);

#endif
