/* SPDX-License-Identifier: MIT */
/* A guest of this process as a sink; see ram_sink.h. */
#include "engine/guest/ram_sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "engine/guest/device_load.h"
#include "engine/guest/lazy_restore.h"

typedef unsigned long long ull;

struct block {
	struct gw__guest_block *guest;
	_Atomic uint64_t *filled; /* a bit per page that came with content once: it may have to be cleared. Lanes set bits */
	uint64_t words_n;
};

struct ram_sink {
	struct gw__sink sink; /* first */
	struct gw__sink_ops ops;
	struct gw__run *run;
	struct gw__guest *guest;
	struct gw__ram_sink_opts o;
	struct gw__ram_sink_result *result;
	struct block *block; /* in the order of the stream */
	uint32_t blocks_n;
	struct gw__device_load devices;
};

static struct ram_sink *own(struct gw__sink *sink) { return (struct ram_sink *)sink; }

/* --- does it fit? --- */

static int check_config(struct gw__sink *sink, const struct gw__config *config, struct gw__error *error)
{
	const struct gw__guest *g = own(sink)->guest;
	uint64_t page_bytes = gw__config_page_bytes(config);
	if (strcmp(config->machine, g->machine))
		return gw__error_set(error, -EINVAL, "the guest that comes has the machine \"%s\", expected \"%s\"", config->machine,
			g->machine);
	if (page_bytes != g->page_bytes)
		return gw__error_set(error, -EINVAL, "the guest that comes has pages of %llu bytes, expected %llu", (ull)page_bytes,
			(ull)g->page_bytes);
	if (config->has_uuid && g->has_uuid && memcmp(config->uuid, g->uuid, sizeof g->uuid))
		return gw__error_set(error, -EINVAL, "the guest that comes has another UUID than this one");
	return 0;
}

static int claim_block(struct ram_sink *s, const struct gw__block *block, struct gw__error *error)
{
	struct gw__guest_block *guest = gw__guest_find_block(s->guest, block->name);
	if (!guest)
		return gw__error_set(error, -EINVAL, "the guest that comes has a RAM block \"%s\", which this one has not", block->name);
	if (guest->bytes != block->used_bytes)
		return gw__error_set(error, -EINVAL, "RAM block \"%s\" of the guest that comes has %llu bytes, expected %llu", block->name,
			(ull)block->used_bytes, (ull)guest->bytes);
	int r = gw__guest_block_empty(guest, 0, guest->bytes);
	if (r)
		return gw__error_errno(error, -r, "cannot empty the memory of RAM block \"%s\"", block->name);
	struct block *b = &s->block[s->blocks_n++];
	b->guest = guest;
	b->words_n = gw__guest_block_words(s->guest, guest);
	b->filled = calloc(b->words_n, sizeof *b->filled);
	return b->filled ? 0 : gw__error_set(error, -ENOMEM, "no memory for a bitmap of RAM block \"%s\"", block->name);
}

static int check_blocks(struct gw__sink *sink, uint32_t section_id, const struct gw__blocks *blocks, struct gw__error *error)
{
	struct ram_sink *s = own(sink);
	const struct gw__guest_block *b;
	int r = 0;
	(void)section_id;
	s->block = calloc(blocks->n, sizeof *s->block);
	if (!s->block)
		return gw__error_set(error, -ENOMEM, "no memory for %u RAM blocks", blocks->n);
	for (uint32_t i = 0; (b = gw__guest_next_block(s->guest, &i));)
		if (gw__blocks_find(blocks, b->name) < 0)
			return gw__error_set(error, -EINVAL, "the guest that comes has no RAM block \"%s\", which this one has", b->name);
	for (uint32_t i = 0; !r && i < blocks->n; i++)
		r = claim_block(s, &blocks->v[i], error);
	return r;
}

/* --- pages: from the thread of the call, and from lanes --- */

static void mark_filled(const struct ram_sink *s, struct block *b, uint64_t off, uint64_t bytes)
{
	uint64_t first = off / s->guest->page_bytes, last = (off + bytes) / s->guest->page_bytes - 1;
	for (uint64_t word = first / 64; word <= last / 64; word++) {
		uint64_t mask = gw__bitmap_mask(word, first, last + 1);
		if ((atomic_load_explicit(&b->filled[word], memory_order_relaxed) & mask) != mask)
			atomic_fetch_or_explicit(&b->filled[word], mask, memory_order_relaxed);
	}
}

static int put_pages(struct gw__sink *sink, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	struct ram_sink *s = own(sink);
	struct block *b = &s->block[block];
	uint64_t at = off;
	(void)error;
	for (int i = 0; i < n; at += pages[i++].iov_len)
		memcpy(b->guest->host + at, pages[i].iov_base, pages[i].iov_len);
	mark_filled(s, b, off, at - off);
	return 0;
}

/* What never came with content is zero already, and is not touched. */
static int clear(const struct ram_sink *s, struct block *b, uint64_t off, uint64_t pages)
{
	uint64_t page_bytes = s->guest->page_bytes;
	for (uint64_t i = off / page_bytes; pages; i++, pages--)
		if (atomic_load_explicit(&b->filled[i / 64], memory_order_relaxed) >> (i % 64) & 1)
			memset(b->guest->host + i * page_bytes, 0, page_bytes);
	return 0;
}

static int put_zeros(struct gw__sink *sink, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	(void)error;
	return clear(own(sink), &own(sink)->block[block], off, pages);
}

/* A page that never came is zero here as it was there. */
static int read_back(struct gw__sink *sink, uint32_t block, uint64_t off, void *page, struct gw__error *error)
{
	(void)error;
	memcpy(page, own(sink)->block[block].guest->host + off, own(sink)->guest->page_bytes);
	return 0;
}

/* Of an image that stays open. */
static int take_image(struct gw__sink *sink, const struct gw__image *image, struct gw__error *error)
{
	struct ram_sink *s = own(sink);
	struct gw__guest_block **blocks = calloc(s->blocks_n, sizeof *blocks);
	if (!blocks && s->blocks_n)
		return gw__error_set(error, -ENOMEM, "no memory for %u RAM blocks", s->blocks_n);
	for (uint32_t i = 0; i < s->blocks_n; i++)
		blocks[i] = s->block[i].guest;
	int r = gw__lazy_begin(s->o.lazy, blocks, s->blocks_n, image, error);
	free(blocks);
	return r;
}

struct lane {
	struct gw__sink_lane lane; /* first */
	struct ram_sink *s;
	uint8_t *buffer;
};

static int borrow(struct gw__sink_lane *l, void **buffer, struct gw__error *error)
{
	(void)error;
	*buffer = ((struct lane *)l)->buffer;
	return 0;
}

static int submit(struct gw__sink_lane *l, uint32_t block, const uint64_t *off, uint32_t n, struct gw__error *error)
{
	const struct lane *lane = (struct lane *)l;
	struct block *b = &lane->s->block[block];
	uint64_t page_bytes = lane->s->guest->page_bytes;
	(void)error;
	for (uint32_t i = 0, run; i < n; i += run) {
		for (run = 1; i + run < n && off[i + run] == off[i] + run * page_bytes;)
			run++;
		memcpy(b->guest->host + off[i], lane->buffer + i * page_bytes, run * page_bytes);
		mark_filled(lane->s, b, off[i], run * page_bytes);
	}
	return 0;
}

static int lane_zeros(struct gw__sink_lane *l, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	const struct lane *lane = (struct lane *)l;
	(void)error;
	return clear(lane->s, &lane->s->block[block], off, pages);
}

static int flush(struct gw__sink_lane *l, struct gw__error *error)
{
	(void)l, (void)error;
	return 0;
}

static void free_lane(struct gw__sink_lane *l)
{
	free(((struct lane *)l)->buffer);
	free(l);
}

static int add_lane(struct gw__sink *sink, struct gw__sink_lane **lane, struct gw__error *error)
{
	static const struct gw__sink_lane_ops ops = {borrow, submit, lane_zeros, flush, free_lane};
	struct lane *l = calloc(1, sizeof *l);
	void *buffer = NULL;
	if (!l || posix_memalign(&buffer, 4096, GW__SINK_LANE_BUFFER_BYTES)) {
		free(l);
		return gw__error_set(error, -ENOMEM, "no memory for a channel");
	}
	l->lane.ops = &ops;
	l->s = own(sink);
	l->buffer = buffer;
	*lane = &l->lane;
	return 0;
}

/* --- devices --- */

static int put_device(struct gw__sink *sink, const struct gw__section *section, uint64_t off, struct gw__view raw, struct gw__error *error)
{
	(void)off;
	return gw__device_load_add(&own(sink)->devices, section, raw, error);
}

static int note_nothing(struct gw__sink *sink, struct gw__error *error)
{
	(void)sink, (void)error;
	return 0;
}

/*
 * A source that hears nothing before its last byte runs the guest on; so the last byte must be one that cannot be missed. The end mark alone could
 * be followed by a description that the link has lost.
 */
static int check_end(struct gw__sink *sink, struct gw__view description, struct gw__error *error)
{
	(void)sink;
	return description.n ? 0
			     : gw__error_set(error, -EPROTO,
				       "the stream ends without a VM description; it was cut short, or its source leaves it out");
}

/* --- it is ours --- */

static void run_it(struct ram_sink *s)
{
	s->result->stays_stopped = s->o.stay_paused;
	if (s->o.stay_paused)
		return;
	s->result->resume_failed = s->guest->ops.resume(s->guest->ctx, GW__WHY_ARRIVED);
	s->result->stays_stopped = s->result->resume_failed;
	s->result->hook = s->result->resume_failed;
}

static int commit(struct gw__sink *sink, struct gw__error *error)
{
	struct ram_sink *s = own(sink);
	int r = gw__device_load_check(&s->devices, error);
	if (!r)
		r = gw__device_load_run(&s->devices, error);
	s->result->hook = s->devices.hook;
	if (r)
		return r;
	s->result->arrived = true;
	s->result->loaded_ns = gw__clock_now_ns(&s->run->clock);
	if (s->o.on_arrived)
		s->o.on_arrived(s->o.ctx);
	run_it(s);
	return 0;
}

static void free_sink(struct gw__sink *sink)
{
	struct ram_sink *s = own(sink);
	for (uint32_t i = 0; i < s->blocks_n; i++)
		free((void *)s->block[i].filled);
	gw__device_load_clear(&s->devices);
	free(s->block);
	free(s);
}

int gw__ram_sink_new(struct gw__run *run, struct gw__guest *guest, const struct gw__ram_sink_opts *o, struct gw__ram_sink_result *result,
	struct gw__sink **sink)
{
	static const struct gw__sink_ops ops = {
		.config = check_config,
		.blocks = check_blocks,
		.pages = put_pages,
		.zeros = put_zeros,
		.read_back = read_back,
		.device = put_device,
		.round = note_nothing,
		.switchover = note_nothing,
		.ram_end = note_nothing,
		.end = check_end,
		.commit = commit,
		.add_lane = add_lane,
		.free = free_sink,
	};
	struct ram_sink *s = calloc(1, sizeof *s);
	if (!s)
		return gw__error_set(&run->error, -ENOMEM, "no memory for a guest");
	s->ops = ops;
	s->ops.ram_of_image = o->lazy ? take_image : NULL;
	s->sink.ops = &s->ops;
	s->run = run;
	s->guest = guest;
	s->devices = (struct gw__device_load){.guest = guest};
	s->o = *o;
	s->result = result;
	*result = (struct gw__ram_sink_result){0};
	*sink = &s->sink;
	return 0;
}
