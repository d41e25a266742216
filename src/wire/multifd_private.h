/* SPDX-License-Identifier: MIT */
/* What multifd.c and multifd_ram.c share. Nobody else includes it. */
#ifndef GW_WIRE_MULTIFD_PRIVATE_H
#define GW_WIRE_MULTIFD_PRIVATE_H

#include "wire/multifd.h"

/* After magic, version and p->flags, which are right. As gw__multifd_packet_decode. */
int gw__multifd_decode_ram(struct gw__rd *c, uint64_t page_bytes, struct gw__multifd_packet *p, struct gw__error *error);

#endif
