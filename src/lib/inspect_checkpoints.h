/* SPDX-License-Identifier: MIT */
/* What follows the guest in a recorded stream of a COLO primary (godwit proxy --tap): its checkpoints, counted. */
#ifndef GW_LIB_INSPECT_CHECKPOINTS_H
#define GW_LIB_INSPECT_CHECKPOINTS_H

#include <stdint.h>

#include "engine/core/run.h"

struct gw__checkpoints {
	uint64_t whole, pages, zero_pages; /* pages of those that are whole */
	uint64_t end_off;                  /* of the last whole one; 0: none */
	uint64_t file_bytes;
};

/* `guest_off`, `guest_end_off`: of the guest before them. A file that cannot be read again has none. 0, or -ECANCELED with a sentence. */
int gw__inspect_checkpoints(struct gw__run *run, const char *path, uint64_t guest_off, uint64_t guest_end_off, struct gw__checkpoints *c);

#endif
