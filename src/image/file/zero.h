/* SPDX-License-Identifier: MIT */
/* Is this page all zeros? Vectorised, the best variant chosen once at run time. Any thread, no state but the
 * choice. */
#ifndef GW_IMAGE_FILE_ZERO_H
#define GW_IMAGE_FILE_ZERO_H

#include <stdbool.h>
#include <stddef.h>

/* `n` is a multiple of 64; any alignment. Stops at the first bytes that are not zero. */
bool gw__is_zero(const void *bytes, size_t n);

typedef bool gw__is_zero_fn(const void *bytes, size_t n);

/* The variants this processor can run, best first; NULL after the last. For tests, and to say which is in
 * use. */
gw__is_zero_fn *gw__is_zero_variant(unsigned i, const char **name);

#endif
