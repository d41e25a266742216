/* SPDX-License-Identifier: MIT */
/* What all sinks share; see sink.h. */
#include "engine/sink.h"

void gw__sink_free(struct gw__sink **s)
{
	if (*s)
		(*s)->ops->free(*s);
	*s = NULL;
}
