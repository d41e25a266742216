/* SPDX-License-Identifier: MIT */
/* Epochs on their way into a guest that stands by; see standby_guest.h. */
#include "engine/colo/standby_guest.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine/guest/device_load.h"
#include "engine/guest/ram_sink.h"
#include "image/epochs/epoch.h"
#include "wire/device_buffer.h"

typedef unsigned long long ull;

struct gw__standby_guest {
	struct gw__sink sink; /* first */
	struct gw__run *run;
	struct gw__guest *guest;
	struct gw__standby_guest_opts o;
	struct gw__sink *ram;        /* the guest's own memory */
	struct gw__epoch *epoch;     /* of one that stands still; of a hot one its device state alone. Made with the list of blocks */
	struct gw__epoch_lane *main; /* of the main channel */
	struct gw__ram_cache *cache; /* of a hot one */
	struct gw__dirty_pages *written;
	struct gw__ram_cache_flushed flushed;
	struct gw__device_load last, next; /* of the epoch that counts, and of the one that comes */
	const struct gw__vmdesc *desc;     /* borrowed */
	bool in_checkpoint;                /* changed while no lane is in use */
	bool pending;                      /* committed, and not in the guest's memory yet */
	bool complete, runs;               /* epoch 0 is here; hot: it runs */
	bool loaded;                       /* the devices of the epoch that counts */
	bool stood_still;                  /* when it was asked to stop last: of its user's wish */
	bool is_ours;                      /* failed over to */
	bool hook;
	uint64_t device_bytes;
	struct gw__ram_sink_result ram_result;
	struct gw__epoch_store_stats stats;
};

static struct gw__standby_guest *own(struct gw__sink *s) { return (struct gw__standby_guest *)s; }

/* --- what comes --- */

static int put_config(struct gw__sink *sink, const struct gw__config *config, struct gw__error *error)
{
	return gw__sink_config(own(sink)->ram, config, error);
}

static int put_blocks(struct gw__sink *sink, uint32_t section_id, const struct gw__blocks *blocks, struct gw__error *error)
{
	struct gw__standby_guest *s = own(sink);
	int r = gw__sink_blocks(s->ram, section_id, blocks, error);
	if (r)
		return r;
	s->epoch = gw__epoch_new(s->guest->page_bytes, s->o.limit_bytes);
	s->main = s->epoch ? gw__epoch_add_lane(s->epoch) : NULL;
	if (!s->main)
		return gw__error_set(error, -ENOMEM, "no memory for epochs");
	r = s->o.hot ? gw__ram_cache_new(s->guest, blocks, &s->cache, error) : 0;
	if (!r && s->o.hot)
		r = gw__dirty_pages_new(s->guest, blocks, &s->written, error);
	return r;
}

static int copy_to_epoch(struct gw__standby_guest *s, uint32_t block, uint64_t off, const struct iovec *pages, int n,
	struct gw__error *error)
{
	int r = 0;
	for (int i = 0; !r && i < n; i++) {
		uint64_t at = off + (uint64_t)i * s->guest->page_bytes;
		void *buffer;
		r = gw__epoch_borrow(s->main, &buffer, error);
		if (r)
			break;
		memcpy(buffer, pages[i].iov_base, s->guest->page_bytes);
		r = gw__epoch_submit(s->main, block, &at, 1, error);
	}
	return r;
}

/* Before the checkpoints pages land in the cache and in the guest; then in the cache alone (docs/spec/colo.md 6). */
static int put_pages(struct gw__sink *sink, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	struct gw__standby_guest *s = own(sink);
	for (int i = 0; s->cache && i < n; i++)
		gw__ram_cache_put(s->cache, block, off + (uint64_t)i * s->guest->page_bytes, pages[i].iov_base, 1, s->in_checkpoint);
	if (!s->in_checkpoint)
		return gw__sink_pages(s->ram, block, off, pages, n, error);
	return s->cache ? 0 : copy_to_epoch(s, block, off, pages, n, error);
}

static int put_zeros(struct gw__sink *sink, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	struct gw__standby_guest *s = own(sink);
	if (s->cache)
		gw__ram_cache_put_zeros(s->cache, block, off, pages, s->in_checkpoint);
	if (!s->in_checkpoint)
		return gw__sink_zeros(s->ram, block, off, pages, error);
	return s->cache ? 0 : gw__epoch_put_zeros(s->main, block, off, pages, error);
}

static int read_back(struct gw__sink *sink, uint32_t block, uint64_t off, void *page, struct gw__error *error)
{
	return gw__sink_read_back(own(sink)->ram, block, off, page, error);
}

static int put_device(struct gw__sink *sink, const struct gw__section *section, uint64_t off, struct gw__view raw, struct gw__error *error)
{
	(void)off;
	own(sink)->device_bytes += raw.n;
	return gw__device_load_add(&own(sink)->last, section, raw, error);
}

static int note_barrier(struct gw__sink *sink, struct gw__error *error)
{
	(void)error;
	if (own(sink)->in_checkpoint)
		gw__epoch_barrier(own(sink)->epoch);
	return 0;
}

static int refuse_commit(struct gw__sink *sink, struct gw__error *error)
{
	(void)sink;
	return gw__error_set(error, -EINVAL, "a guest that stands by is finished by its epochs");
}

/* --- lanes --- */

struct lane {
	struct gw__sink_lane lane; /* first */
	struct gw__standby_guest *s;
	struct gw__sink_lane *ram;
	struct gw__epoch_lane *epoch;
	const uint8_t *buffer; /* borrowed last */
};

static int borrow(struct gw__sink_lane *l, void **buffer, struct gw__error *error)
{
	struct lane *lane = (struct lane *)l;
	bool to_epoch = lane->s->in_checkpoint && !lane->s->cache;
	int r = to_epoch ? gw__epoch_borrow(lane->epoch, buffer, error) : gw__sink_lane_borrow(lane->ram, buffer, error);
	lane->buffer = *buffer;
	return r;
}

static int submit(struct gw__sink_lane *l, uint32_t block, const uint64_t *off, uint32_t n, struct gw__error *error)
{
	const struct lane *lane = (struct lane *)l;
	struct gw__standby_guest *s = lane->s;
	uint64_t page_bytes = s->guest->page_bytes;
	for (uint32_t i = 0; s->cache && i < n; i++)
		gw__ram_cache_put(s->cache, block, off[i], lane->buffer + i * page_bytes, 1, s->in_checkpoint);
	if (!s->in_checkpoint)
		return gw__sink_lane_submit(lane->ram, block, off, n, error);
	return s->cache ? 0 : gw__epoch_submit(lane->epoch, block, off, n, error);
}

static int lane_zeros(struct gw__sink_lane *l, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	const struct lane *lane = (struct lane *)l;
	struct gw__standby_guest *s = lane->s;
	if (s->cache)
		gw__ram_cache_put_zeros(s->cache, block, off, pages, s->in_checkpoint);
	if (!s->in_checkpoint)
		return gw__sink_lane_zeros(lane->ram, block, off, pages, error);
	return s->cache ? 0 : gw__epoch_put_zeros(lane->epoch, block, off, pages, error);
}

static void free_lane(struct gw__sink_lane *l)
{
	gw__sink_lane_free(&((struct lane *)l)->ram);
	free(l);
}

static int add_lane(struct gw__sink *sink, struct gw__sink_lane **made, struct gw__error *error)
{
	static const struct gw__sink_lane_ops ops = {.borrow = borrow, .submit = submit, .zeros = lane_zeros, .free = free_lane};
	struct gw__standby_guest *s = own(sink);
	struct lane *lane = calloc(1, sizeof *lane);
	struct gw__epoch_lane *epoch = lane ? gw__epoch_add_lane(s->epoch) : NULL;
	int r = epoch ? gw__sink_add_lane(s->ram, &lane->ram, error) : gw__error_set(error, -ENOMEM, "no memory for a channel's epochs");
	if (r) {
		free(lane);
		return r;
	}
	lane->lane.ops = &ops;
	lane->s = s;
	lane->epoch = epoch;
	*made = &lane->lane;
	return 0;
}

/* --- the store --- */

static int hook_failed(struct gw__standby_guest *s, int r, const char *what, struct gw__error *error)
{
	s->hook = true;
	return gw__error_set(error, r > 0 ? -EPROTO : r, "%s", what);
}

static struct gw__sink *sink_of(void *ctx) { return &((struct gw__standby_guest *)ctx)->sink; }

static int complete_guest(void *ctx, const struct gw__vmdesc *desc, struct gw__error *error)
{
	struct gw__standby_guest *s = ctx;
	s->desc = desc;
	s->stats.device_bytes = s->device_bytes;
	int r = gw__device_load_check(&s->last, error);
	s->complete = !r;
	if (!r)
		s->o.on_complete(s->o.ctx);
	return r;
}

static int load_devices(struct gw__standby_guest *s, struct gw__error *error)
{
	int r = gw__device_load_run(&s->last, error);
	s->hook |= s->last.hook;
	s->loaded = !r;
	return r;
}

static int resume(struct gw__standby_guest *s, enum gw__why why, struct gw__error *error)
{
	int r = s->guest->ops.resume(s->guest->ctx, why);
	s->runs = !r;
	return r ? hook_failed(s, r, "the hook that lets the guest run failed", error) : 0;
}

/* Who notices writes is the VMM by its hooks, or we. */
static int tracked(struct gw__standby_guest *s, int r)
{
	s->hook |= r && s->guest->ops.dirty_take;
	return r;
}

static int start(void *ctx, struct gw__error *error)
{
	struct gw__standby_guest *s = ctx;
	if (!s->o.hot)
		return 0;
	int r = load_devices(s, error);
	if (!r)
		r = tracked(s, gw__dirty_pages_start(s->written, error));
	if (!r) /* what was written before it ran is none of its writes */
		r = tracked(s, gw__dirty_pages_forget(s->written, error));
	return r ? r : resume(s, GW__WHY_CHECKPOINT, error);
}

/* A guest that its user had paused is not run on by us, but may be by its user, at any time. */
static bool may_run(const struct gw__standby_guest *s) { return s->runs || s->stood_still; }

static int stop(struct gw__standby_guest *s, struct gw__error *error)
{
	if (!may_run(s))
		return 0;
	int r = s->guest->ops.pause(s->guest->ctx, GW__WHY_CHECKPOINT);
	if (r < 0)
		return hook_failed(s, r, "the hook that stops the guest failed", error);
	s->stood_still = r == 1;
	s->runs = false;
	return 0;
}

static int begin(void *ctx, struct gw__error *error)
{
	struct gw__standby_guest *s = ctx;
	assert(!s->pending);
	s->in_checkpoint = true;
	int r = gw__sink_begin_checkpoint(&s->sink, error);
	return r ? r : stop(s, error);
}

static int reserve_devices(void *ctx, uint64_t bytes, uint8_t **to, struct gw__error *error)
{
	return gw__epoch_reserve_devices(((struct gw__standby_guest *)ctx)->epoch, bytes, to, error);
}

static int check(void *ctx, struct gw__error *error)
{
	struct gw__standby_guest *s = ctx;
	struct gw__view devices = gw__epoch_devices(s->epoch);
	struct gw__epoch_stats e = gw__epoch_stats(s->epoch);
	struct gw__device_buffer b;
	struct gw__section section;
	struct gw__view raw;
	s->stats = (struct gw__epoch_store_stats){e.pages, e.zero_pages, devices.n, e.memory_bytes, e.memory_most_bytes};
	gw__device_load_clear(&s->next);
	bool none = devices.n == 1 && devices.p[0] == GW__ITEM_EOF; /* a guest without devices */
	int r = none ? 0 : gw__device_buffer_decode(devices.p, devices.n, s->desc, &b, error);
	while (!r && !none && gw__device_buffer_next(&b, &section, &raw))
		r = gw__device_load_add(&s->next, &section, raw, error);
	return r ? r : gw__device_load_check(&s->next, error);
}

static int persist(void *ctx, struct gw__error *error)
{
	(void)ctx, (void)error;
	return 0;
}

static void commit(void *ctx)
{
	struct gw__standby_guest *s = ctx;
	gw__device_load_clear(&s->last);
	s->last = s->next;
	s->next = (struct gw__device_load){.guest = s->guest};
	s->pending = true;
	s->loaded = false;
}

/* Memory first, then devices. */
static int load(void *ctx, struct gw__error *error)
{
	struct gw__standby_guest *s = ctx;
	if (!s->o.hot)
		return 0;
	int r = tracked(s, gw__ram_cache_flush(s->cache, s->written, &s->flushed, error));
	return r ? r : load_devices(s, error);
}

static int apply_run(void *ctx, uint32_t block, uint64_t off, const uint8_t *pages, uint64_t n, struct gw__error *error)
{
	return gw__sink_put(((struct gw__standby_guest *)ctx)->ram, block, off, pages, n, error);
}

static int apply(void *ctx, struct gw__error *error)
{
	struct gw__standby_guest *s = ctx;
	if (!s->pending)
		return 0;
	int r = s->o.hot ? 0 : gw__epoch_apply(s->epoch, apply_run, s, error);
	if (r)
		return r;
	s->pending = false;
	gw__epoch_reset(s->epoch, true);
	return s->o.hot && !s->stood_still ? resume(s, GW__WHY_CHECKPOINT, error) : 0;
}

/* Nothing of half an epoch reaches the guest; a cache that has some of it is of no more use, and nobody reads it. */
static void drop(void *ctx)
{
	struct gw__standby_guest *s = ctx;
	if (s->epoch && !s->pending)
		gw__epoch_reset(s->epoch, false);
}

static int finish(void *ctx, bool sync, struct gw__error *error)
{
	(void)sync;
	return ((struct gw__standby_guest *)ctx)->o.hot ? 0 : apply(ctx, error);
}

static struct gw__epoch_store_stats stats(void *ctx) { return ((struct gw__standby_guest *)ctx)->stats; }

struct gw__epoch_store gw__standby_guest_store(struct gw__standby_guest *s)
{
	static const struct gw__epoch_store_ops ops = {sink_of, complete_guest, start, begin, reserve_devices, check, persist, commit, load,
		apply, drop, finish, stats};
	return (struct gw__epoch_store){&ops, s};
}

/* --- the end --- */

/* A hot guest that stands still between commit and LOADED has memory and devices of the new epoch; before that, its own. Both are whole. */
int gw__standby_guest_fail_over(struct gw__standby_guest *s)
{
	struct gw__error *error = &s->run->error;
	assert(s->complete);
	int r = s->o.hot ? stop(s, error) : apply(s, error);
	if (!r && s->o.hot && s->pending)
		r = load(s, error);
	else if (!r && !s->loaded)
		r = load_devices(s, error);
	if (!r)
		r = resume(s, GW__WHY_FAILOVER, error);
	s->pending = false;
	s->is_ours = s->runs; /* also if it could not be stopped: nobody else has it, and it stays as it is */
	return r;
}

void gw__standby_guest_give_up(struct gw__standby_guest *s)
{
	if (!s->is_ours)
		stop(s, &s->run->error);
}

struct gw__standby_guest_result gw__standby_guest_result(const struct gw__standby_guest *s)
{
	return (struct gw__standby_guest_result){.hook_failed = s->hook, .is_loaded = s->loaded, .flushed = s->flushed};
}

static void free_parts(struct gw__sink *sink)
{
	struct gw__standby_guest *s = own(sink);
	gw__dirty_pages_free(s->written);
	gw__ram_cache_free(s->cache);
	gw__sink_free(&s->ram);
	gw__epoch_free(s->epoch);
	gw__device_load_clear(&s->last);
	gw__device_load_clear(&s->next);
	free(s);
}

int gw__standby_guest_new(struct gw__run *run, struct gw__guest *guest, const struct gw__standby_guest_opts *o,
	struct gw__standby_guest **made)
{
	static const struct gw__sink_ops ops = {
		.config = put_config,
		.blocks = put_blocks,
		.pages = put_pages,
		.zeros = put_zeros,
		.read_back = read_back,
		.device = put_device,
		.barrier = note_barrier,
		.commit = refuse_commit,
		.add_lane = add_lane,
		.free = free_parts,
	};
	struct gw__standby_guest *s = calloc(1, sizeof *s);
	if (!s)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a guest that stands by");
	s->sink.ops = &ops;
	s->run = run;
	s->guest = guest;
	s->o = *o;
	s->last.guest = s->next.guest = guest;
	int r = gw__ram_sink_new(run, guest, &(struct gw__ram_sink_opts){.stay_paused = true}, &s->ram_result, &s->ram);
	if (r)
		free(s);
	else
		*made = s;
	return r;
}

void gw__standby_guest_free(struct gw__standby_guest *s)
{
	struct gw__sink *sink = s ? &s->sink : NULL;
	gw__sink_free(&sink);
}
