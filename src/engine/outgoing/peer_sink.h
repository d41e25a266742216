/* SPDX-License-Identifier: MIT */
/* A destination on a channel as a sink: a guest is sent. Freed with gw__sink_free; one thread, the main thread. */
#ifndef GW_ENGINE_OUTGOING_PEER_SINK_H
#define GW_ENGINE_OUTGOING_PEER_SINK_H

#include "engine/core/run.h"
#include "engine/outgoing/multifd_send.h"
#include "engine/sink/sink.h"
#include "image/read/image.h"
#include "io/chan.h"

/*
 * A QEMU stream on a channel (borrowed). With `ask_back` the return path is opened and commit waits for the
 * destination's SHUT; without it nobody knows whether the destination could use what it got.
 */
struct gw__peer_sink_opts {
	bool ask_back;
	int answer_ms;                         /* how long commit waits for SHUT; -1: for ever */
	struct gw__multifd_send *multifd_send; /* multifd: only an image can be sent so. NULL: pages go over the channel. Borrowed */
	/* COLO, whose connection goes on after the guest: without `ask_back` in the old dialect, in which commit waits for nothing. */
	bool colo;
};
int gw__peer_sink_new(struct gw__run *run, struct gw__chan *chan, const struct gw__peer_sink_opts *o, struct gw__sink **sink,
	struct gw__error *error);

/*
 * COLO: the RAM of a checkpoint, after VMSTATE_SEND: of each block the pages whose bit is set, as `image` has them, and the end mark. The block that
 * was named last is known from one to the next.
 */
int gw__peer_sink_put_checkpoint(struct gw__sink *sink, const struct gw__image *image, const struct gw__bitmap *changed,
	struct gw__error *error);

#endif
