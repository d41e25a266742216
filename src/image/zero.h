/* SPDX-License-Identifier: MIT */
/* Is this page all zeros? Vectorised, the best variant chosen once at run time. */
#ifndef GW_IMAGE_ZERO_H
#define GW_IMAGE_ZERO_H

#include <stdbool.h>
#include <stddef.h>

/* `n` is a multiple of 64; any alignment. Stops at the first bytes that are not zero. */
bool gw__is_zero(const void *bytes, size_t n);

#endif
