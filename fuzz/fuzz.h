/* SPDX-License-Identifier: MIT */
/*
 * What every fuzz target includes. A target is one function: with -Dfuzz=true libFuzzer calls it with what it
 * makes up, else replay.c calls it with the files of its corpus.
 */
#ifndef GW_FUZZ_H
#define GW_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What must be true of any input. */
#define HOLDS(cond)                                                                                                                        \
	do {                                                                                                                               \
		if (!(cond)) {                                                                                                             \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #cond);                                          \
			abort();                                                                                                           \
		}                                                                                                                          \
	} while (0)

/* The rule of every decoder: 0, GW__SHORT, or a negative errno with a sentence. */
static inline void fuzz_result_is_sound(int r, const struct gw__error *error)
{
	HOLDS(r <= GW__SHORT);
	HOLDS(error->code == (r < 0 ? r : 0));
	HOLDS(r >= 0 || error->text[0]);
}

/* Bytes as they were written by an encoder are the bytes that were read. */
static inline void fuzz_same_bytes(const struct gw__wr *written, const uint8_t *read, size_t n)
{
	HOLDS(!written->full);
	HOLDS(gw__wr_used(written) == n);
	HOLDS(n == 0 || memcmp(written->start, read, n) == 0);
}

#endif
