/* SPDX-License-Identifier: MIT */
/*
 * The package of post-copy: LISTEN, all devices, PINGs, RUN (docs/spec/postcopy.md 3.3). Pure codec over the whole blob, which it
 * borrows.
 *
 * Its devices carry no length and come without a description; where one ends is found by its footer. What that finding may
 * get wrong stays inside the devices: LISTEN stands in front, PINGs and RUN are taken from the end, where they cannot be
 * mistaken for a footer.
 */
#ifndef GW_WIRE_PACKAGE_H
#define GW_WIRE_PACKAGE_H

#include "base/bytes.h"
#include "base/error.h"
#include "wire/framing.h"

enum { GW__PACKAGE_PINGS_MAX = 8 };

struct gw__package {
	const uint8_t *blob;
	size_t bytes;
	size_t at, devices_end;               /* the devices not yet taken lie between */
	uint32_t ping[GW__PACKAGE_PINGS_MAX]; /* tokens, in order */
	unsigned pings_n;
};

/* Judges everything, the devices too. 0, or -EPROTO with a sentence. */
int gw__package_decode(const uint8_t *blob, size_t n, struct gw__package *p, struct gw__error *error);
/* The next device, whole: 1, 0 when there is none left. Never fails on a package that was judged. */
int gw__package_next(struct gw__package *p, struct gw__section *section, const uint8_t **raw, size_t *raw_bytes);

#endif
