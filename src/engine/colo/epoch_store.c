/* SPDX-License-Identifier: MIT */
/* The image of the last epoch as a secondary's store; see epoch_store.h. */
#include "engine/colo/epoch_store.h"

static struct gw__sink *sink(void *ctx) { return gw__epoch_sink_sink(ctx); }
static int start(void *ctx, struct gw__error *error) { return gw__epoch_sink_start_journal(ctx, error); }
static void commit(void *ctx) { gw__epoch_sink_commit(ctx); }
static int apply(void *ctx, struct gw__error *error) { return gw__epoch_sink_apply(ctx, error); }
static void drop(void *ctx) { gw__epoch_sink_drop(ctx); }
static int finish(void *ctx, bool sync, struct gw__error *error) { return gw__epoch_sink_finish(ctx, sync, error); }
static struct gw__epoch_sink_stats stats(void *ctx) { return gw__epoch_sink_stats(ctx); }

static int complete_guest(void *ctx, const struct gw__vmdesc *desc, struct gw__error *error)
{
	return gw__epoch_sink_complete_guest(ctx, desc, error);
}

static int begin(void *ctx, struct gw__error *error)
{
	(void)error;
	gw__epoch_sink_begin(ctx);
	return 0;
}

static int reserve_devices(void *ctx, uint64_t bytes, uint8_t **to, struct gw__error *error)
{
	return gw__epoch_sink_reserve_devices(ctx, bytes, to, error);
}

static int check(void *ctx, struct gw__error *error) { return gw__epoch_sink_check(ctx, error); }
static int persist(void *ctx, struct gw__error *error) { return gw__epoch_sink_persist(ctx, error); }

/* Nobody runs it here. */
static int load(void *ctx, struct gw__error *error)
{
	(void)ctx, (void)error;
	return 0;
}

struct gw__epoch_store gw__epoch_store_of_image(struct gw__epoch_sink *s)
{
	static const struct gw__epoch_store_ops ops = {sink, complete_guest, start, begin, reserve_devices, check, persist, commit, load,
		apply, drop, finish, stats};
	return (struct gw__epoch_store){&ops, s};
}
