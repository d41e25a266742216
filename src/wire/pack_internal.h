/* SPDX-License-Identifier: MIT */
/*
 * Between pack.c and the methods. Here a method only knows its library: sizes are judged and errors
 * remembered by pack.c. Not for anyone else.
 */
#ifndef GW_WIRE_PACK_INTERNAL_H
#define GW_WIRE_PACK_INTERNAL_H

#include "wire/pack.h"

/* `make` gives NULL when there is no memory. in_n and out_n are above 0 and within the bounds of multifd. */
struct gw__unpack_method {
	const char *name;
	void *(*make)(void);
	void (*drop)(void *state);
	int (*unpack)(void *state, const uint8_t *in, size_t in_n, uint8_t *out, size_t out_n, struct gw__why *why);
};

struct gw__pack_method {
	const char *name;
	int level_max; /* from 0 */
	void *(*make)(int level);
	void (*drop)(void *state);
	size_t (*bound)(void *state, size_t n);
	int (*pack)(void *state, const uint8_t *in, size_t n, bool last, struct gw__wr *out, struct gw__why *why);
};

extern const struct gw__unpack_method gw__unpack_zlib, gw__unpack_zstd;
extern const struct gw__pack_method gw__pack_zlib, gw__pack_zstd;

/* The sentences that both methods need. */
int gw__unpack_too_little(const char *method, size_t in_n, size_t got, size_t expected, struct gw__why *why);
int gw__unpack_too_much(const char *method, size_t in_n, size_t expected, struct gw__why *why);
int gw__unpack_finished(const char *method, size_t in_n, struct gw__why *why);
int gw__pack_no_room(const char *method, size_t room, struct gw__why *why);

#endif
