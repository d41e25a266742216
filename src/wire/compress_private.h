/* SPDX-License-Identifier: MIT */
/*
 * Between compress.c and the methods. Here a method only knows its library: sizes are judged and errors
 * remembered by compress.c. Not for anyone else.
 */
#ifndef GW_WIRE_COMPRESS_PRIVATE_H
#define GW_WIRE_COMPRESS_PRIVATE_H

#include "wire/compress.h"

/* `make` gives NULL when there is no memory. in_n and out_n are above 0 and within the bounds of multifd. */
struct gw__decompress_method {
	const char *name;
	void *(*make)(void);
	void (*drop)(void *state);
	int (*unpack)(void *state, const uint8_t *in, size_t in_n, uint8_t *out, size_t out_n, struct gw__error *error);
};

struct gw__compress_method {
	const char *name;
	int level_max; /* from 0 */
	void *(*make)(int level);
	void (*drop)(void *state);
	size_t (*bound)(void *state, size_t n);
	int (*pack)(void *state, const uint8_t *in, size_t n, bool last, struct gw__wr *out, struct gw__error *error);
};

extern const struct gw__decompress_method gw__decompress_zlib, gw__decompress_zstd;
extern const struct gw__compress_method gw__compress_zlib, gw__compress_zstd;

/* The sentences that both methods need. */
int gw__decompress_too_little(const char *method, size_t in_n, size_t got, size_t expected, struct gw__error *error);
int gw__decompress_too_much(const char *method, size_t in_n, size_t expected, struct gw__error *error);
int gw__decompress_finished(const char *method, size_t in_n, struct gw__error *error);
int gw__compress_no_room(const char *method, size_t room, struct gw__error *error);

#endif
