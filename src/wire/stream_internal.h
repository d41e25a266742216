/* SPDX-License-Identifier: MIT */
/* What stream.c, stream_ram.c and stream_tail.c share. Nobody else includes it. */
#ifndef GW_WIRE_STREAM_INTERNAL_H
#define GW_WIRE_STREAM_INTERNAL_H

#include "wire/stream.h"

/*
 * One step of the decoder: uses bytes through `c` and may set an event. GW__SHORT means: forget what was read and come
 * again with more, so a step changes no state before it has all it needs.
 */
struct gw__stream_in {
	struct gw__rd c;
	bool last;
	struct gw__event *ev;
	struct gw__why *why;
};

int gw__stream_enter_ram(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_step_record(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_step_list(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_step_command(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_step_tail(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_step_tail_item(struct gw__stream *s, struct gw__stream_in *in);
int gw__stream_too_much(const struct gw__stream *s, struct gw__why *why); /* -E2BIG */

#endif
