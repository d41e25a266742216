/* SPDX-License-Identifier: MIT */
/* Keeping a guest that runs here; see save.h. */
#include "engine/guest/save.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine/guest/dirty_pages.h"
#include "image/file/zero.h"

enum {
	PAGES_PER_WRITE = 256,
	ROUNDS_MAX = 8,
	RAM_ID = 1,
	FIRST_DEVICE_ID = 2,
};

struct save {
	struct gw__run *run;
	struct gw__guest *guest;
	struct gw__sink *sink;
	const struct gw__guest_save_opts *o;
	struct gw__guest_save_result *result;
	struct gw__config config;
	struct gw__blocks blocks;
	struct gw__dirty_pages *dirty;
	bool paused;
	uint64_t paused_ns;
};

static uint64_t now(const struct save *s) { return gw__clock_now_ns(&s->run->clock); }

static void tell(const struct save *s, const struct gw__guest_event *event)
{
	if (s->o->on_event)
		s->o->on_event(s->o->ctx, event);
}

/* --- pages --- */

/* `n` pages, one after the other: runs with content, and runs of zeros. */
static int put_run(struct save *s, uint32_t block, uint64_t off, uint32_t n)
{
	struct gw__counters *c = &s->run->counters;
	const uint8_t *host = gw__dirty_pages_host(s->dirty, block);
	const uint64_t page_bytes = s->guest->page_bytes;
	int r = 0;
	for (uint32_t i = 0, run; !r && i < n; i += run) {
		bool zero = gw__is_zero(host + off + i * page_bytes, page_bytes);
		for (run = 1; i + run < n && gw__is_zero(host + off + (i + run) * page_bytes, page_bytes) == zero;)
			run++;
		uint64_t at = off + i * page_bytes;
		r = gw__sink_put(s->sink, block, at, zero ? NULL : host + at, run, &s->run->error);
		atomic_fetch_add_explicit(zero ? &c->zero_pages : &c->pages, run, memory_order_relaxed);
		atomic_fetch_add_explicit(&c->moved_bytes, zero ? 0 : run * page_bytes, memory_order_relaxed);
	}
	return r;
}

static int put_dirty(struct save *s)
{
	uint64_t off[PAGES_PER_WRITE];
	uint32_t block, n;
	int r = 0;
	while (!r && (n = gw__dirty_pages_take(s->dirty, 0, PAGES_PER_WRITE, &block, off))) {
		for (uint32_t i = 0, run; !r && i < n; i += run) {
			for (run = 1; i + run < n && off[i + run] == off[i] + run * s->guest->page_bytes;)
				run++;
			r = put_run(s, block, off[i], run);
		}
		gw__run_tick(s->run);
		r = r ? r : gw__run_check_cancel(s->run);
	}
	return r;
}

/* Who notices writes is the VMM by its hooks, or we. */
static int tracked(struct save *s, int r)
{
	s->result->hook = s->result->hook || (r && s->guest->ops.dirty_take);
	return r;
}

static int start_tracker(struct save *s) { return tracked(s, gw__dirty_pages_start(s->dirty, &s->run->error)); }
static int harvest(struct save *s, uint64_t *pages) { return tracked(s, gw__dirty_pages_harvest(s->dirty, pages, &s->run->error)); }

/* Until what is left is few enough for the limit, or does not get fewer. */
static int put_while_it_runs(struct save *s)
{
	uint64_t left, before = UINT64_MAX;
	int r = harvest(s, &left);
	for (unsigned round = 1; !r; round++) {
		uint64_t began_ns = now(s), sent = left, ns;
		r = put_dirty(s);
		ns = now(s) - began_ns;
		if (!r)
			r = harvest(s, &left);
		if (r)
			return r;
		atomic_fetch_add_explicit(&s->run->counters.rounds, 1, memory_order_relaxed);
		tell(s, &(struct gw__guest_event){.kind = GW__GUEST_EVENT_ROUND, .round = round, .dirty_pages = left});
		bool fits = (double)left * (double)ns <= (double)sent * 1e6 * (double)atomic_load(s->o->limit_ms);
		if (fits || left >= before - before / 10 || round == ROUNDS_MAX || atomic_load(s->o->finish))
			return 0;
		before = left;
	}
	return r;
}

/* --- devices --- */

/* The whole section as it stands in a stream: header, be32 n, n bytes, footer. */
static int put_section(struct save *s, uint32_t id, const struct gw__guest_device *d, const struct gw_out *state)
{
	struct gw__section section = {.type = GW__ITEM_FULL, .id = id, .instance = d->instance, .version = d->version};
	size_t room = 512 + state->n;
	uint8_t *bytes = malloc(room);
	if (!bytes)
		return gw__error_set(&s->run->error, -ENOMEM, "no memory for device \"%s\"", d->name);
	struct gw__wr c = gw__wr_over(bytes, room);
	strcpy(section.idstr, d->name);
	gw__section_encode(&c, &section);
	gw__wr_be32(&c, (uint32_t)state->n);
	gw__wr_bytes(&c, state->bytes, state->n);
	gw__footer_encode(&c, id);
	int r = gw__sink_device(s->sink, &section, 0, (struct gw__view){bytes, gw__wr_used(&c)}, &s->run->error);
	free(bytes);
	return r;
}

static int put_devices(struct save *s)
{
	size_t left = gw__min(s->run->tail_max_bytes, UINT32_MAX);
	int r = 0;
	for (uint32_t i = 0; !r && i < s->guest->devices_n; i++) {
		struct gw_out state = {.max_bytes = left};
		r = gw__guest_device_save(&s->guest->device[i], &state, s->run->tail_max_bytes, &s->result->hook, &s->run->error);
		if (!r)
			r = put_section(s, FIRST_DEVICE_ID + i, &s->guest->device[i], &state);
		left -= state.n;
		free(state.bytes);
	}
	return r;
}

/* --- it stands still for a moment --- */

static int stop(struct save *s)
{
	s->paused_ns = now(s);
	int r = s->guest->ops.pause(s->guest->ctx, GW__WHY_KEEP);
	if (r < 0) {
		s->result->hook = true;
		return gw__error_set(&s->run->error, r, "the hook that stops the guest failed");
	}
	s->paused = true;
	s->result->stood_still = r == 1;
	gw__run_phase(s->run, GW__PHASE_DEVICES);
	tell(s, &(struct gw__guest_event){.kind = GW__GUEST_EVENT_STOPPED});
	return 0;
}

static int run_on(struct save *s)
{
	if (!s->paused)
		return 0;
	s->paused = false;
	s->result->downtime_ns = now(s) - s->paused_ns;
	int r = s->result->stood_still ? 0 : s->guest->ops.resume(s->guest->ctx, GW__WHY_KEEP);
	if (!r && !s->result->stood_still)
		tell(s, &(struct gw__guest_event){.kind = GW__GUEST_EVENT_RUNS, .downtime_ns = s->result->downtime_ns});
	s->result->stays_stopped = r;
	s->result->hook = s->result->hook || r;
	return r;
}

static int put_rest(struct save *s)
{
	uint64_t left;
	int r = stop(s);
	if (!r)
		r = harvest(s, &left);
	if (!r)
		r = put_dirty(s);
	if (!r)
		r = gw__sink_ram_end(s->sink, &s->run->error);
	if (!r)
		r = put_devices(s);
	return r;
}

/* --- the whole --- */

static int describe(struct save *s)
{
	struct gw__config *c = &s->config;
	const struct gw__guest_block *b;
	int r = 0;
	strcpy(c->machine, s->guest->machine);
	c->page_bits = (uint32_t)__builtin_ctzll(s->guest->page_bytes);
	c->has_page_bits = c->page_bits != GW__PAGE_BITS_LEGACY;
	c->has_uuid = s->guest->has_uuid;
	memcpy(c->uuid, s->guest->uuid, sizeof c->uuid);
	for (uint32_t i = 0; !r && (b = gw__guest_next_block(s->guest, &i));) {
		struct gw__block block = {.used_bytes = b->bytes};
		strcpy(block.name, b->name);
		r = gw__blocks_add(&s->blocks, &block);
	}
	if (r)
		return gw__error_set(&s->run->error, r, "no memory for a list of RAM blocks");
	if (!s->blocks.n)
		return gw__error_set(&s->run->error, -EINVAL, "the guest has no RAM block: add one with gw_guest_add_block");
	atomic_store(&s->run->counters.total_bytes, s->blocks.total_bytes);
	return gw__dirty_pages_new(s->guest, &s->blocks, &s->dirty, &s->run->error);
}

static int go(struct save *s)
{
	struct gw__error *error = &s->run->error;
	int r = describe(s);
	if (!r)
		r = gw__sink_config(s->sink, &s->config, error);
	if (!r)
		r = gw__sink_blocks(s->sink, RAM_ID, &s->blocks, error);
	gw__run_phase(s->run, GW__PHASE_RAM);
	if (!r)
		r = start_tracker(s);
	if (!r)
		r = put_while_it_runs(s);
	if (!r)
		r = put_rest(s);
	if (!r && !s->o->stop)
		r = run_on(s) ? gw__error_set(error, -EIO, "the hook that lets the guest run on failed") : 0;
	gw__run_phase(s->run, GW__PHASE_SYNC);
	if (!r)
		r = gw__sink_end(s->sink, (struct gw__view){0}, error);
	return r ? r : gw__sink_commit(s->sink, error);
}

int gw__guest_save_run(struct gw__run *run, struct gw__guest *guest, struct gw__sink *sink, const struct gw__guest_save_opts *o,
	struct gw__guest_save_result *result)
{
	struct save s = {.run = run, .guest = guest, .sink = sink, .o = o, .result = result};
	*result = (struct gw__guest_save_result){0};
	int r = go(&s);
	gw__dirty_pages_free(s.dirty);
	gw__blocks_fini(&s.blocks);
	if (r && run_on(&s))
		gw__error_where(&run->error, "the hook that lets the guest run on failed after");
	gw__run_phase(run, GW__PHASE_DONE);
	return r;
}
