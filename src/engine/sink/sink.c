/* SPDX-License-Identifier: MIT */
/* What all sinks share; see sink.h. */
#include "engine/sink/sink.h"

void gw__sink_lane_free(struct gw__sink_lane **l)
{
	if (*l)
		(*l)->ops->free(*l);
	*l = NULL;
}

void gw__sink_free(struct gw__sink **s)
{
	if (*s)
		(*s)->ops->free(*s);
	*s = NULL;
}

uint64_t gw__sink_count_missing(struct gw__sink *s)
{
	struct gw__sink_recovery_info recovery_info;
	uint64_t missing = 0;
	s->ops->postcopy->recovery_info(s, &recovery_info);
	for (uint32_t i = 0; i < recovery_info.blocks->n; i++) {
		const struct gw__bitmap *b = s->ops->postcopy->received(s, i);
		missing += b->bits - gw__bitmap_count(b);
	}
	return missing;
}
