/* SPDX-License-Identifier: MIT */
/* The RAM of a paused guest for the page server; see postcopy.h. */
#include "engine/guest/postcopy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/file/zero.h"

enum { TAKE_PAGES = 256 };

struct postcopy {
	const struct gw__guest_postcopy_opts *o;
	struct gw__dirty_pages *dirty;
	const struct gw_out *devices;
	uint64_t page_bytes;
};

/* --- the source of pages --- */

static const uint8_t *page_at(const struct gw__page_source *s, uint32_t block, uint64_t page)
{
	const struct postcopy *p = s->ctx;
	return gw__dirty_pages_host(p->dirty, block) + page * p->page_bytes;
}

static uint64_t next_that_is(const struct gw__page_source *s, bool zero, uint32_t block, uint64_t first, uint64_t end)
{
	const struct postcopy *p = s->ctx;
	while (first < end && gw__is_zero(page_at(s, block, first), p->page_bytes) != zero)
		first++;
	return first;
}

static uint64_t next_content(const struct gw__page_source *s, uint32_t block, uint64_t first, uint64_t end)
{
	return next_that_is(s, false, block, first, end);
}

static uint64_t next_zero(const struct gw__page_source *s, uint32_t block, uint64_t first, uint64_t end)
{
	return next_that_is(s, true, block, first, end);
}

static int read_pages(const struct gw__page_source *s, uint32_t block, uint64_t first, uint64_t n, bool may_wait, uint8_t *room,
	const uint8_t **pages, struct gw__error *error)
{
	(void)n, (void)may_wait, (void)room, (void)error;
	*pages = page_at(s, block, first);
	return 0;
}

static int read_devices(const struct gw__page_source *s, enum gw__device_place place, uint8_t *to, size_t *n, struct gw__error *error)
{
	const struct postcopy *p = s->ctx;
	(void)error;
	*n = place == GW__DEVICES_IN_PACKAGE ? p->devices->n : 0;
	if (*n)
		memcpy(to, p->devices->bytes, *n);
	return 0;
}

/* --- the callbacks --- */

static void clear_unsent(void *ctx, struct gw__bitmap *sent)
{
	const struct postcopy *p = ctx;
	uint64_t off[TAKE_PAGES];
	uint32_t block, n;
	while ((n = gw__dirty_pages_take(p->dirty, 0, TAKE_PAGES, &block, off)))
		for (uint32_t i = 0; i < n; i++)
			gw__bitmap_clear(&sent[block], off[i] / p->page_bytes);
}

static int on_package(void *ctx)
{
	const struct postcopy *p = ctx;
	return p->o->on_package(p->o->ctx);
}

static void on_guest_runs(void *ctx)
{
	const struct postcopy *p = ctx;
	p->o->on_guest_runs(p->o->ctx);
}

/* Of each block, the size of the pages that back it: the destination's are the same. */
static struct gw__pageserver_block *list_page_sizes(const struct gw__guest *guest, const struct gw__blocks *blocks)
{
	struct gw__pageserver_block *v = calloc(blocks->n, sizeof *v);
	for (uint32_t i = 0; v && i < blocks->n; i++)
		v[i] = (struct gw__pageserver_block){blocks->v[i].name, gw__guest_find_block(guest, blocks->v[i].name)->page_bytes};
	return v;
}

/* The page server counts all pages as one; here those of zeros have their own count. */
static void count_zeros(struct gw__run *run, const struct gw__pageserver_stats *stats)
{
	atomic_fetch_add_explicit(&run->counters.zero_pages, stats->zero_pages, memory_order_relaxed);
	atomic_fetch_sub_explicit(&run->counters.pages, stats->zero_pages, memory_order_relaxed);
}

int gw__guest_postcopy(struct gw__run *run, struct gw__guest *guest, struct gw__stream_out *stream, struct gw__chan *chan,
	const struct gw_out *devices, const struct gw__guest_postcopy_opts *o, struct gw__pageserver_stats *stats)
{
	static const struct gw__page_source_ops ops = {.next_content = next_content,
		.next_zero = next_zero,
		.read = read_pages,
		.read_devices = read_devices};
	struct postcopy p = {o, gw__stream_out_dirty(stream), devices, guest->page_bytes};
	const struct gw__page_source source = {.ops = &ops,
		.config = gw__stream_out_config(stream),
		.blocks = gw__stream_out_blocks(stream),
		.ram_id = GW__STREAM_OUT_RAM_ID,
		.device_bytes = devices->n,
		.ctx = &p};
	struct gw__pageserver_block *sizes = list_page_sizes(guest, source.blocks);
	const struct gw__pageserver_opts so = {.resume = o->resume,
		.clear_unsent = clear_unsent,
		.confirm = o->confirm,
		.on_package = on_package,
		.on_guest_runs = on_guest_runs,
		.block = sizes,
		.blocks_n = source.blocks->n,
		.max_bandwidth = o->max_bandwidth,
		.ctx = &p,
		.answer_ms = o->answer_ms};
	enum gw__postcopy_src_state ignored; /* who may run the guest says plan/handover, which is stricter */
	if (!sizes)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a list of RAM blocks");
	int r = gw__pageserver(run, &source, chan, &so, stats, &ignored);
	count_zeros(run, stats);
	free(sizes);
	return r;
}
