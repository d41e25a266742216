/* SPDX-License-Identifier: MIT */
/* A sink that writes one RAM block as a plain file. Freed with gw__sink_free. */
#ifndef GW_ENGINE_SINK_RAW_SINK_H
#define GW_ENGINE_SINK_RAW_SINK_H

#include "engine/sink/sink.h"

/* One block's bytes from an image into a plain, empty file, holes for zeros. `fd` and the name are borrowed. */
int gw__sink_raw_new(int fd, const char *block_name, struct gw__sink **sink, struct gw__error *error);

#endif
