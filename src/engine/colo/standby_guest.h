/* SPDX-License-Identifier: MIT */
/*
 * A guest of this process that stands by for a COLO primary: a store for engine/colo/secondary.h. Either it stands still, and an epoch is moved into its
 * memory when it is whole; or it is hot: it runs between checkpoints, the primary's pages go to a cache, and each checkpoint makes it what the primary is
 * (ram_cache.h), memory first, then devices. The thread of the call, which calls all hooks; lanes have one each.
 */
#ifndef GW_ENGINE_COLO_STANDBY_GUEST_H
#define GW_ENGINE_COLO_STANDBY_GUEST_H

#include "engine/colo/epoch_store.h"
#include "engine/colo/ram_cache.h"
#include "engine/core/run.h"
#include "guest/guest.h"

struct gw__standby_guest_opts {
	bool hot;
	uint64_t limit_bytes;           /* of an epoch that is not whole yet, device state included */
	void (*on_complete)(void *ctx); /* the first copy is here; before a hot one runs */
	void *ctx;
};

struct gw__standby_guest;

int gw__standby_guest_new(struct gw__run *run, struct gw__guest *guest, const struct gw__standby_guest_opts *o,
	struct gw__standby_guest **s);
void gw__standby_guest_free(struct gw__standby_guest *s); /* NULL is fine */
struct gw__epoch_store gw__standby_guest_store(struct gw__standby_guest *s);

/*
 * The primary does not run it any more, the link has ended: it is run here. A hot one goes on from where it is, one that stood still from the last whole
 * epoch. 0, or what a hook said. A hot one whose hook `pause` failed is left as it was.
 */
int gw__standby_guest_fail_over(struct gw__standby_guest *s);

/* The end of all others: a hot guest is stopped, unless it was failed over to. If that fails it runs on, and a hook has failed. */
void gw__standby_guest_give_up(struct gw__standby_guest *s);

struct gw__standby_guest_result {
	bool hook_failed;
	bool is_loaded;                       /* after a failover that failed: it is here, and stands still */
	struct gw__ram_cache_flushed flushed; /* by the last checkpoint of a hot one */
};
struct gw__standby_guest_result gw__standby_guest_result(const struct gw__standby_guest *s);

#endif
