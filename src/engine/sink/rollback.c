/* SPDX-License-Identifier: MIT */
/*
 * A sink that says it has every page, and then that it could not use the guest: towards a source that stands in postcopy-paused, which
 * lets its guest run on after that. Keeps nothing. Some pages it asks for all the same, to see whether it is the source that came.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sink/rollback.h"

struct rolled_back_sink {
	struct gw__sink sink; /* first: ops find the rest through it */
	struct gw__rollback_opts o;
	struct gw__bitmap *received; /* all set, but the samples until they come */
	bool met_odd;
};

/* NULL: zeros. */
static void compare(struct rolled_back_sink *o, uint32_t block, uint64_t off, const uint8_t *page)
{
	const uint64_t page_bytes = o->o.page_bytes;
	for (unsigned i = 0; o->o.samples && i < o->o.samples->n; i++) {
		const struct gw__recv_state_sample *recovery_info = &o->o.samples->v[i];
		if (recovery_info->block != block || off < recovery_info->off || off - recovery_info->off >= recovery_info->bytes)
			continue;
		const uint8_t *want = recovery_info->content + (off - recovery_info->off);
		bool same = page ? !memcmp(page, want, page_bytes) : !want[0] && !memcmp(want, want + 1, page_bytes - 1);
		o->met_odd = o->met_odd || !same;
	}
	gw__bitmap_set_range(&o->received[block], off / page_bytes, 1);
}

static int take_pages(struct gw__sink *s, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	struct rolled_back_sink *o = (struct rolled_back_sink *)s;
	(void)error;
	for (int i = 0; i < n; i++)
		compare(o, block, off + (uint64_t)i * o->o.page_bytes, pages[i].iov_base);
	return 0;
}

static int take_zeros(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	struct rolled_back_sink *o = (struct rolled_back_sink *)s;
	(void)error;
	for (uint64_t i = 0; i < pages; i++)
		compare(o, block, off + i * o->o.page_bytes, NULL);
	return 0;
}

static int commit(struct gw__sink *s, struct gw__error *error)
{
	(void)s;
	return gw__error_set(error, -ECANCELED, "the guest is given back to its source");
}

static void recovery_info(struct gw__sink *s, struct gw__sink_recovery_info *k)
{
	const struct rolled_back_sink *o = (const struct rolled_back_sink *)s;
	*k = (struct gw__sink_recovery_info){.blocks = o->o.blocks,
		.page_bytes = o->o.page_bytes,
		.ram_id = o->o.ram_id,
		.ram_section_id_unknown = o->o.ram_section_id_unknown};
}

static const struct gw__bitmap *received(struct gw__sink *s, uint32_t block) { return &((struct rolled_back_sink *)s)->received[block]; }

static void free_sink(struct gw__sink *s)
{
	struct rolled_back_sink *o = (struct rolled_back_sink *)s;
	for (uint32_t i = 0; o->received && i < o->o.blocks->n; i++)
		gw__bitmap_fini(&o->received[i]);
	free(o->received);
	free(o);
}

static int fill(struct rolled_back_sink *o)
{
	const struct gw__blocks *blocks = o->o.blocks;
	const struct gw__recv_state_samples *samples = o->o.samples;
	o->received = calloc(blocks->n, sizeof *o->received);
	for (uint32_t i = 0; o->received && i < blocks->n; i++) {
		if (gw__bitmap_init(&o->received[i], blocks->v[i].used_bytes / o->o.page_bytes))
			return -ENOMEM;
		gw__bitmap_set_range(&o->received[i], 0, o->received[i].bits);
	}
	for (unsigned i = 0; o->received && samples && i < samples->n; i++)
		gw__bitmap_clear_range(&o->received[samples->v[i].block], samples->v[i].off / o->o.page_bytes,
			samples->v[i].bytes / o->o.page_bytes);
	return o->received ? 0 : -ENOMEM;
}

int gw__sink_rollback_new(const struct gw__rollback_opts *opts, struct gw__sink **sink, struct gw__error *error)
{
	static const struct gw__sink_postcopy_ops postcopy = {.recovery_info = recovery_info, .received = received};
	static const struct gw__sink_ops ops = {.pages = take_pages,
		.zeros = take_zeros,
		.commit = commit,
		.postcopy = &postcopy,
		.free = free_sink};
	struct rolled_back_sink *o = calloc(1, sizeof *o);
	if (!o)
		return gw__error_set(error, -ENOMEM, "no memory for %u RAM blocks", opts->blocks->n);
	o->sink.ops = &ops;
	o->o = *opts;
	*sink = &o->sink;
	if (fill(o))
		return gw__error_set(error, -ENOMEM, "no memory for %u RAM blocks", opts->blocks->n);
	return gw__sink_begin_in(&o->sink, GW__SINK_LATE, opts->page_bytes, opts->blocks, error);
}

bool gw__sink_rollback_met_anomaly(const struct gw__sink *s) { return ((const struct rolled_back_sink *)s)->met_odd; }
