/* SPDX-License-Identifier: MIT */
/* What tail.c and tail_device.c share. Nobody else includes it. */
#ifndef GW_WIRE_TAIL_INTERNAL_H
#define GW_WIRE_TAIL_INTERNAL_H

#include "wire/tail.h"

/* Device i of the description is the one of this section: 0, or -EPROTO. */
int gw__tail_check_described(const struct gw__vmdesc *desc, size_t i, const struct gw__section *s, struct gw__why *why);

#endif
