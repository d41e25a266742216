/* SPDX-License-Identifier: MIT */
/* A sink that makes a post-copy source run its guest again. Freed with gw__sink_free. */
#ifndef GW_ENGINE_SINK_ROLLBACK_H
#define GW_ENGINE_SINK_ROLLBACK_H

#include "engine/sink/sink.h"
#include "image/journal/recv_state.h"

/*
 * Says that it has every page but the samples, and in the end that it can use none: see rollback.c. Everything is borrowed. The samples' pages are compared when they come: a source of another memory is odd.
 */
struct gw__rollback_opts {
	const struct gw__blocks *blocks;
	uint64_t page_bytes;
	uint32_t ram_id;
	bool ram_section_id_unknown;
	const struct gw__recv_state_samples *samples; /* NULL: none */
};
int gw__sink_rollback_new(const struct gw__rollback_opts *o, struct gw__sink **sink, struct gw__error *error);
bool gw__sink_rollback_met_anomaly(const struct gw__sink *sink);

#endif
