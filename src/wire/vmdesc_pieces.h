/* SPDX-License-Identifier: MIT */
/*
 * Where the devices of a VM description stand in its text, so that only one of them need be a tree at a time: a guest of many
 * processors has a long description of many short devices. Judges nothing; whatever is no JSON stays in one of the pieces, or
 * in what is left without them. Pure.
 */
#ifndef GW_WIRE_VMDESC_PIECES_H
#define GW_WIRE_VMDESC_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gw__vmdesc_pieces {
	const uint8_t *text;
	size_t from, to; /* what stands between the brackets of "devices", a member of the outermost object */
	size_t at;       /* of the next piece */
};

/* False: there are no such brackets. Borrows the text. */
bool gw__vmdesc_find_devices(const uint8_t *text, size_t n, struct gw__vmdesc_pieces *p);
/* The next of the pieces that commas part. False: none is left. */
bool gw__vmdesc_next_piece(struct gw__vmdesc_pieces *p, size_t *from, size_t *to);

#endif
