/* SPDX-License-Identifier: MIT */
/* The two halves of working_set.h; nobody else includes it. */
#ifndef GW_IMAGE_READ_WORKING_SET_RECORD_H
#define GW_IMAGE_READ_WORKING_SET_RECORD_H

#include "image/read/working_set.h"

/* 0 whether it can be recorded or not; -ENOMEM. */
int gw__ws_record_begin(struct gw__working_set *ws);
void gw__ws_record_end(struct gw__working_set *ws);

#endif
