/* SPDX-License-Identifier: MIT */
/* Do two images hold the same guest? One thread, the main thread. */
#ifndef GW_ENGINE_FILES_COMPARE_H
#define GW_ENGINE_FILES_COMPARE_H

#include "engine/core/run.h"
#include "image/read/image.h"

/* One difference as a sentence; returning false stops. */
typedef bool gw__difference_fn(void *ctx, const char *sentence);

/*
 * 0 same, 1 different, negative errno. `fn` may be NULL. `differing`: NULL, or a bitmap for each block of `a` that is as long as its `present`,
 * in which the pages that differ are set.
 */
int gw__compare_images(struct gw__run *run, const struct gw__image *a, const struct gw__image *b, struct gw__bitmap *differing,
	gw__difference_fn *fn, void *ctx);

#endif
