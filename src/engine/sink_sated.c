/* SPDX-License-Identifier: MIT */
/*
 * A sink that says it has every page, and then that it could not use the guest: towards a source that stands in postcopy-paused, which
 * lets its guest run on after that. Keeps nothing. Some pages it asks for all the same, to see whether it is the source that came.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sinks.h"

struct sated {
	struct gw__sink sink; /* first: ops find the rest through it */
	struct gw__sated_opts o;
	struct gw__bitmap *received; /* all set, but the samples until they come */
	bool met_odd;
};

/* NULL: zeros. */
static void compare(struct sated *o, uint32_t block, uint64_t off, const uint8_t *page)
{
	const uint64_t page_bytes = o->o.page_bytes;
	for (unsigned i = 0; o->o.samples && i < o->o.samples->n; i++) {
		const struct gw__partial_sample *known = &o->o.samples->v[i];
		if (known->block != block || off < known->off || off - known->off >= known->bytes)
			continue;
		const uint8_t *want = known->content + (off - known->off);
		bool same = page ? !memcmp(page, want, page_bytes) : !want[0] && !memcmp(want, want + 1, page_bytes - 1);
		o->met_odd = o->met_odd || !same;
	}
	gw__bitmap_set_range(&o->received[block], off / page_bytes, 1);
}

static int take_pages(struct gw__sink *s, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__why *why)
{
	struct sated *o = (struct sated *)s;
	(void)why;
	for (int i = 0; i < n; i++)
		compare(o, block, off + (uint64_t)i * o->o.page_bytes, pages[i].iov_base);
	return 0;
}

static int take_zeros(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__why *why)
{
	struct sated *o = (struct sated *)s;
	(void)why;
	for (uint64_t i = 0; i < pages; i++)
		compare(o, block, off + i * o->o.page_bytes, NULL);
	return 0;
}

static int agree(struct gw__sink *s, struct gw__why *why)
{
	(void)s, (void)why;
	return 0;
}

static int end(struct gw__sink *s, struct gw__view description, struct gw__why *why)
{
	(void)s, (void)description, (void)why;
	return 0;
}

static int commit(struct gw__sink *s, struct gw__why *why)
{
	(void)s;
	return gw__why_set(why, -ECANCELED, "the guest is given back to its source");
}

static int discard(struct gw__sink *s, uint32_t block, uint64_t off, uint64_t pages, struct gw__why *why)
{
	(void)s, (void)block, (void)off, (void)pages, (void)why;
	return 0;
}

static int learn_ram_id(struct gw__sink *s, uint32_t id, struct gw__why *why)
{
	(void)s, (void)id, (void)why;
	return 0;
}

static void known(struct gw__sink *s, struct gw__sink_known *k)
{
	const struct sated *o = (const struct sated *)s;
	*k = (struct gw__sink_known){.blocks = o->o.blocks,
		.page_bytes = o->o.page_bytes,
		.ram_id = o->o.ram_id,
		.any_ram_id = o->o.any_ram_id};
}

static const struct gw__bitmap *received(struct gw__sink *s, uint32_t block) { return &((struct sated *)s)->received[block]; }

static bool is_committed(struct gw__sink *s)
{
	(void)s;
	return false;
}

static void forget(struct gw__sink *s) { (void)s; }

static void free_sink(struct gw__sink *s)
{
	struct sated *o = (struct sated *)s;
	for (uint32_t i = 0; o->received && i < o->o.blocks->n; i++)
		gw__bitmap_fini(&o->received[i]);
	free(o->received);
	free(o);
}

static int fill(struct sated *o)
{
	const struct gw__blocks *blocks = o->o.blocks;
	const struct gw__partial_samples *samples = o->o.samples;
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

int gw__sink_sated_new(const struct gw__sated_opts *opts, struct gw__sink **sink, struct gw__why *why)
{
	static const struct gw__sink_postcopy_ops postcopy = {.begin = agree,
		.discard = discard,
		.known = known,
		.received = received,
		.learn_ram_id = learn_ram_id,
		.checkpoint = agree,
		.is_committed = is_committed,
		.forget = forget};
	static const struct gw__sink_ops ops = {.pages = take_pages,
		.zeros = take_zeros,
		.round = agree,
		.ram_end = agree,
		.end = end,
		.commit = commit,
		.postcopy = &postcopy,
		.free = free_sink};
	struct sated *o = calloc(1, sizeof *o);
	if (!o)
		return gw__why_set(why, -ENOMEM, "no memory for %u RAM blocks", opts->blocks->n);
	o->sink.ops = &ops;
	o->o = *opts;
	*sink = &o->sink;
	return fill(o) ? gw__why_set(why, -ENOMEM, "no memory for %u RAM blocks", opts->blocks->n) : 0;
}

bool gw__sink_sated_met_odd(const struct gw__sink *s) { return ((const struct sated *)s)->met_odd; }
