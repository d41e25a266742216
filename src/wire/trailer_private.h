/* SPDX-License-Identifier: MIT */
/* What trailer.c and trailer_device.c share. Nobody else includes it. */
#ifndef GW_WIRE_TRAILER_PRIVATE_H
#define GW_WIRE_TRAILER_PRIVATE_H

#include "wire/trailer.h"

/* Device i of the description is the one of this section: 0, or -EPROTO. */
int gw__trailer_check_described(const struct gw__vmdesc *desc, size_t i, const struct gw__section *s, struct gw__error *error);

#endif
