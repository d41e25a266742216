/* SPDX-License-Identifier: MIT */
/*
 * Where a COLO secondary keeps the guest of its primary: an image of the last epoch (epoch_sink.h), or a guest of this process (standby_guest.h). The
 * secondary calls it in this order, from its thread:
 *
 *   calls of `sink`, complete_guest, start                                                        epoch 0
 *   { begin, calls of `sink`, reserve_devices, check, persist, commit, load, apply }              epochs 1, 2, ...
 *   drop, finish                                                                                  when the link has ended, wherever that was
 *
 * From `commit` on the new epoch is the one that counts.
 */
#ifndef GW_ENGINE_COLO_EPOCH_STORE_H
#define GW_ENGINE_COLO_EPOCH_STORE_H

#include "engine/sink/sink.h"
#include "wire/vmdesc.h"

struct gw__epoch_store_stats {
	uint64_t pages, zero_pages; /* of the epoch that is, or was last, received */
	uint64_t device_bytes;
	uint64_t memory_bytes, memory_most_bytes;
};

struct gw__epoch_store_ops {
	struct gw__sink *(*sink)(void *ctx);
	/* The initial migration is here: is all of it usable? `desc` is borrowed; NULL: there is none. */
	int (*complete_guest)(void *ctx, const struct gw__vmdesc *desc, struct gw__error *error);
	int (*start)(void *ctx, struct gw__error *error); /* the primary's guest runs again */
	int (*begin)(void *ctx, struct gw__error *error);
	int (*reserve_devices)(void *ctx, uint64_t bytes, uint8_t **to, struct gw__error *error);
	/* All has come: is it whole and usable? Nothing of the epoch before is changed. */
	int (*check)(void *ctx, struct gw__error *error);
	int (*persist)(void *ctx, struct gw__error *error); /* it is safe: from then on it may count whatever becomes of us */
	void (*commit)(void *ctx);
	int (*load)(void *ctx, struct gw__error *error);  /* before the primary hears that it is loaded */
	int (*apply)(void *ctx, struct gw__error *error); /* and after that */
	void (*drop)(void *ctx);                          /* what came of an epoch that was not committed */
	int (*finish)(void *ctx, bool sync, struct gw__error *error);
	struct gw__epoch_store_stats (*stats)(void *ctx);
};

struct gw__epoch_store {
	const struct gw__epoch_store_ops *ops;
	void *ctx;
};

#endif
