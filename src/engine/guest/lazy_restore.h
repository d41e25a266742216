/* SPDX-License-Identifier: MIT */
/*
 * A guest of this process that runs before its memory is here: pages come from an image, those that it touches first. One thread, the one that makes the
 * call; a fault thread of its own (guest/demand.h) reads the image too.
 *
 * Outlives a call that failed when the guest ran already: the guest waits at the first page that it lacks, and a later call goes on.
 */
#ifndef GW_ENGINE_GUEST_LAZY_RESTORE_H
#define GW_ENGINE_GUEST_LAZY_RESTORE_H

#include "engine/core/run.h"
#include "guest/guest.h"
#include "image/read/image.h"

struct gw__lazy;

/* As of gw__demand_new. Nothing has changed when it fails. */
int gw__lazy_new(struct gw__run *run, struct gw__guest *guest, int uffd, bool user_mode, struct gw__lazy **lazy);
/* What did not come reads as zeros: only of a guest that has all of it, or will not run again. NULL is fine; nulls the giver's pointer. */
void gw__lazy_free(struct gw__lazy **lazy);

/* The blocks are empty, and in the order of the image, which stays open until gw__lazy_fill has returned. Who touches a page gets it from now on. */
int gw__lazy_begin(struct gw__lazy *l, struct gw__guest_block *const *blocks, uint32_t n, const struct gw__image *image,
	struct gw__error *error);
/* The same after a fill that failed. -EINVAL: it is not the same image. */
int gw__lazy_begin_again(struct gw__run *run, struct gw__lazy *l, const struct gw__image *image);
/* Bring what is missing. 0: everything is here. On failure nobody brings anything any more, and the guest waits for what it lacks. */
int gw__lazy_fill(struct gw__run *run, struct gw__lazy *l);

uint64_t gw__lazy_missing(const struct gw__lazy *l); /* pages */
uint64_t gw__lazy_requests(const struct gw__lazy *l);

#endif
