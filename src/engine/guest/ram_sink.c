/* SPDX-License-Identifier: MIT */
/* A guest of this process as a sink; see ram_sink.h. */
#include "engine/guest/ram_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/math.h"
#include "engine/guest/device_load.h"
#include "engine/guest/lazy_restore.h"
#include "guest/demand.h"

typedef unsigned long long ull;

/* A page that a thread of the guest waits for; few bytes, so that a pipe takes and gives them whole. */
struct request {
	uint64_t page;
	uint32_t block, unused;
};

struct area {
	struct gw__guest_block *block;
	struct gw__bitmap received;
	_Atomic uint64_t *requested; /* a bit per page; the fault thread's, cleared by the stream's */
	uint64_t words_n;
};

struct gw__late_pages {
	struct gw__guest *guest;
	struct gw__demand *demand;
	struct area *area;
	uint32_t areas;
	bool watched;
	uint64_t faults;   /* when it has ended */
	int requests[2];   /* a pipe: the fault thread writes and never waits, the stream's thread reads */
	_Atomic bool lost; /* a request found the pipe full */
};

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

	/* Of a guest whose source switched to post-copy, over all its connections. */
	struct gw__blocks blocks;
	uint32_t ram_id;
	uint8_t *package;
	size_t package_bytes;
	bool may_switch, committed;
};

static struct ram_sink *own(struct gw__sink *sink) { return (struct ram_sink *)sink; }

/* --- late pages: which came, which are awaited, which are to be requested ------------------------------------------ */

int gw__late_pages_new(struct gw__run *run, struct gw__guest *guest, int uffd, bool user_mode, struct gw__late_pages **late)
{
	struct gw__late_pages *l = *late = calloc(1, sizeof *l);
	if (!l)
		return gw__error_set(&run->error, -ENOMEM, "no memory for pages on demand");
	l->guest = guest;
	l->requests[0] = l->requests[1] = -1;
	int r = pipe2(l->requests, O_CLOEXEC | O_NONBLOCK) ? gw__error_errno(&run->error, errno, "cannot make a pipe") : 0;
	if (!r)
		r = gw__demand_new(&l->demand, guest->page_bytes, uffd, user_mode, &run->error);
	if (r)
		gw__late_pages_free(late);
	return r;
}

/* Page faults are not served any more, and the memory is as any other. */
static void end_late(struct gw__late_pages *l)
{
	l->faults = gw__demand_requests(l->demand);
	gw__demand_stop(l->demand, NULL);
	gw__guest_set_demand(l->guest, NULL);
	gw__demand_free(l->demand);
	l->demand = NULL;
}

void gw__late_pages_free(struct gw__late_pages **late)
{
	struct gw__late_pages *l = *late;
	*late = NULL;
	if (!l)
		return;
	if (l->demand)
		end_late(l);
	for (uint32_t i = 0; i < l->areas; i++) {
		gw__bitmap_fini(&l->area[i].received);
		free((void *)l->area[i].requested);
	}
	for (int i = 0; i < 2; i++)
		if (l->requests[i] >= 0)
			close(l->requests[i]);
	free(l->area);
	free(l);
}

uint64_t gw__late_pages_faults(const struct gw__late_pages *l) { return l->demand ? gw__demand_requests(l->demand) : l->faults; }

static int add_area(struct gw__late_pages *l, struct gw__guest_block *block)
{
	struct area *a = &l->area[l->areas++];
	a->block = block;
	a->words_n = gw__guest_block_words(l->guest, block);
	a->requested = calloc(a->words_n, sizeof *a->requested);
	return a->requested ? gw__bitmap_init(&a->received, gw__guest_block_pages(l->guest, block)) : -ENOMEM;
}

/* Once, in the order of the stream. -EOPNOTSUPP: their memory cannot be had lazily. */
static int add_areas(struct gw__late_pages *l, struct gw__guest_block *const *blocks, uint32_t n, struct gw__error *error)
{
	l->area = calloc(n, sizeof *l->area);
	int r = l->area || !n ? 0 : -ENOMEM;
	for (uint32_t i = 0; !r && i < n; i++)
		r = add_area(l, blocks[i]);
	if (r)
		return gw__error_set(error, r, "no memory for the bitmaps of %u RAM blocks", n);
	return gw__demand_add_blocks(l->demand, blocks, n, error);
}

/* The fault thread's: a page that did not come is touched. */
static int wanted(void *ctx, uint32_t block, uint64_t page, struct gw__error *error)
{
	struct gw__late_pages *l = ctx;
	struct area *a = &l->area[block];
	const uint64_t bit = UINT64_C(1) << (page % 64);
	const struct request request = {.block = block, .page = page};
	if (atomic_fetch_or(&a->requested[page / 64], bit) & bit)
		return 0;
	if (write(l->requests[1], &request, sizeof request) == sizeof request)
		return 0;
	if (errno != EAGAIN)
		return gw__error_errno(error, errno, "cannot request a page");
	atomic_fetch_and(&a->requested[page / 64], ~bit);
	atomic_store(&l->lost, true);
	return 0;
}

/* Of what did not come nothing may be left in the memory: it would be read instead. */
static int prepare_area(struct gw__late_pages *l, uint32_t i, struct gw__error *error)
{
	const struct area *a = &l->area[i];
	const uint64_t page_bytes = l->guest->page_bytes;
	for (uint64_t at = 0, end; at < a->received.bits; at = end) {
		end = gw__bitmap_next_clear(&a->received, at);
		if (end > at) {
			gw__demand_mark_placed(l->demand, i, at, end - at);
			continue;
		}
		end = gw__bitmap_next_set(&a->received, at);
		int r = gw__guest_block_empty(a->block, at * page_bytes, (end - at) * page_bytes);
		if (r)
			return gw__error_errno(error, -r, "cannot empty the memory of RAM block \"%s\"", a->block->name);
	}
	return 0;
}

/* Who touches a page that did not come waits from now on. The memory of all of these is emptied. */
static int watch(struct gw__late_pages *l, struct gw__error *error)
{
	int r = 0;
	for (uint32_t i = 0; !r && i < l->areas; i++)
		r = prepare_area(l, i, error);
	if (!r)
		r = gw__demand_watch(l->demand, error);
	if (r)
		return r;
	l->watched = true;
	gw__guest_set_demand(l->guest, l->demand);
	return gw__demand_start(l->demand, wanted, l, error);
}

/* They come, and wake who waits for them. One that was released meanwhile is zero, and stays so. */
static int place(struct gw__late_pages *l, uint32_t block, uint64_t first, const struct iovec *pages, int n, struct gw__error *error)
{
	if (gw__demand_has_failed(l->demand))
		return gw__demand_stop(l->demand, error);
	for (int i = 0; i < n; i++) {
		int r = 0;
		if (gw__demand_claim(l->demand, block, first + (uint64_t)i, 1))
			r = gw__demand_place(l->demand, block, first + (uint64_t)i, 1, pages[i].iov_base, error);
		if (r)
			return r;
		gw__bitmap_set(&l->area[block].received, first + (uint64_t)i);
	}
	return 0;
}

static int place_zeros(struct gw__late_pages *l, uint32_t block, uint64_t first, uint64_t n, struct gw__error *error)
{
	const uint64_t page_bytes = l->guest->page_bytes;
	if (gw__demand_has_failed(l->demand))
		return gw__demand_stop(l->demand, error);
	gw__demand_discard(l->demand, l->area[block].block, first * page_bytes, n * page_bytes);
	gw__bitmap_set_range(&l->area[block].received, first, n);
	return 0;
}

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
	s->ram_id = section_id;
	s->block = calloc(blocks->n, sizeof *s->block);
	if (!s->block)
		return gw__error_set(error, -ENOMEM, "no memory for %u RAM blocks", blocks->n);
	for (uint32_t i = 0; (b = gw__guest_next_block(s->guest, &i));)
		if (gw__blocks_find(blocks, b->name) < 0)
			return gw__error_set(error, -EINVAL, "the guest that comes has no RAM block \"%s\", which this one has", b->name);
	for (uint32_t i = 0; !r && i < blocks->n; i++)
		r = claim_block(s, &blocks->v[i], error);
	if (!r && gw__blocks_add_all(&s->blocks, blocks))
		r = gw__error_set(error, -ENOMEM, "no memory for %u RAM blocks", blocks->n);
	return r;
}

/* --- pages: from the thread of the call, and from lanes --- */

/* Pages wake who waits for them: it may run. */
static bool is_watched(const struct ram_sink *s) { return s->may_switch && s->o.late->watched; }

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
	if (is_watched(s))
		return place(s->o.late, block, off / s->guest->page_bytes, pages, n, error);
	for (int i = 0; i < n; at += pages[i++].iov_len)
		memcpy(b->guest->host + at, pages[i].iov_base, pages[i].iov_len);
	mark_filled(s, b, off, at - off);
	if (s->may_switch)
		gw__bitmap_set_range(&s->o.late->area[block].received, off / s->guest->page_bytes, (uint64_t)n);
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
	struct ram_sink *s = own(sink);
	if (is_watched(s))
		return place_zeros(s->o.late, block, off / s->guest->page_bytes, pages, error);
	if (s->may_switch)
		gw__bitmap_set_range(&s->o.late->area[block].received, off / s->guest->page_bytes, pages);
	return clear(s, &s->block[block], off, pages);
}

/* A page that never came is zero here as it was there. */
static int read_back(struct gw__sink *sink, uint32_t block, uint64_t off, void *page, struct gw__error *error)
{
	(void)error;
	memcpy(page, own(sink)->block[block].guest->host + off, own(sink)->guest->page_bytes);
	return 0;
}

/* In the order of the stream; malloc'ed. */
static struct gw__guest_block **list_blocks(const struct ram_sink *s, struct gw__error *error)
{
	struct gw__guest_block **blocks = calloc(s->blocks_n + 1, sizeof *blocks);
	if (!blocks)
		gw__error_set(error, -ENOMEM, "no memory for %u RAM blocks", s->blocks_n);
	for (uint32_t i = 0; blocks && i < s->blocks_n; i++)
		blocks[i] = s->block[i].guest;
	return blocks;
}

/* Of an image that stays open. */
static int take_image(struct gw__sink *sink, const struct gw__image *image, struct gw__error *error)
{
	struct ram_sink *s = own(sink);
	struct gw__guest_block **blocks = list_blocks(s, error);
	int r = blocks ? gw__lazy_begin(s->o.lazy, blocks, s->blocks_n, image, error) : -ENOMEM;
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

static void free_lane(struct gw__sink_lane *l)
{
	free(((struct lane *)l)->buffer);
	free(l);
}

static int add_lane(struct gw__sink *sink, struct gw__sink_lane **lane, struct gw__error *error)
{
	static const struct gw__sink_lane_ops ops = {.borrow = borrow, .submit = submit, .zeros = lane_zeros, .free = free_lane};
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

/*
 * A source that hears nothing before its last byte runs the guest on; so the last byte must be one that cannot be missed. The end mark alone could
 * be followed by a description that the link has lost. Post-copy has none.
 */
static int check_end(struct gw__sink *sink, struct gw__view description, struct gw__error *error)
{
	return description.n || is_watched(own(sink))
		       ? 0
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
	if (!s->result->resume_failed && s->o.on_runs)
		s->o.on_runs(s->o.ctx);
}

static int load_devices(struct gw__sink *sink, struct gw__error *error)
{
	struct ram_sink *s = own(sink);
	int r = gw__device_load_check(&s->devices, error);
	if (!r)
		r = gw__device_load_run(&s->devices, error);
	s->result->hook = s->devices.hook;
	return r;
}

/* What came in a post-copy runs already. */
static int commit(struct gw__sink *sink, struct gw__error *error)
{
	struct ram_sink *s = own(sink);
	bool runs = is_watched(s);
	int r = runs ? 0 : load_devices(sink, error);
	if (r)
		return r;
	if (runs)
		end_late(s->o.late);
	s->committed = s->result->arrived = true;
	if (!runs)
		s->result->loaded_ns = gw__clock_now_ns(&s->run->clock);
	if (s->o.on_arrived)
		s->o.on_arrived(s->o.ctx);
	if (!runs)
		run_it(s);
	return 0;
}

/* --- it is ours before its pages are here --- */

static int prepare_postcopy(struct gw__sink *sink, struct gw__error *error)
{
	struct ram_sink *s = own(sink);
	struct gw__guest_block **blocks = list_blocks(s, error);
	int r = blocks ? add_areas(s->o.late, blocks, s->blocks_n, error) : -ENOMEM;
	free(blocks);
	s->may_switch = !r;
	return r;
}

static int begin(struct gw__sink *sink, struct gw__error *error)
{
	return own(sink)->may_switch ? 0 : gw__error_set(error, -EPROTO, "the source switches to post-copy, which it has not announced");
}

static int discard(struct gw__sink *sink, uint32_t block, uint64_t off, uint64_t pages, struct gw__error *error)
{
	(void)error;
	gw__bitmap_clear_range(&own(sink)->o.late->area[block].received, off / own(sink)->guest->page_bytes, pages);
	return 0;
}

static int take_handover(struct gw__sink *sink, uint8_t **package, size_t bytes, struct gw__error *error)
{
	struct ram_sink *s = own(sink);
	s->package = *package;
	s->package_bytes = bytes;
	*package = NULL;
	return watch(s->o.late, error);
}

static void run_given(struct gw__sink *sink)
{
	struct ram_sink *s = own(sink);
	s->result->given = true;
	s->result->loaded_ns = gw__clock_now_ns(&s->run->clock);
	s->o.on_given(s->o.ctx);
	run_it(s);
}

static void recovery_info(struct gw__sink *sink, struct gw__sink_recovery_info *info)
{
	const struct ram_sink *s = own(sink);
	*info = (struct gw__sink_recovery_info){.blocks = &s->blocks,
		.page_bytes = s->guest->page_bytes,
		.ram_id = s->ram_id,
		.devices_n = s->devices.n,
		.package = {s->package, s->package_bytes}};
}

static const struct gw__bitmap *received(struct gw__sink *sink, uint32_t block) { return &own(sink)->o.late->area[block].received; }

static bool is_committed(struct gw__sink *sink) { return own(sink)->committed; }
static int request_fd(struct gw__sink *sink) { return own(sink)->o.late->requests[0]; }

static bool next_request(struct gw__sink *sink, uint32_t *block, uint64_t *off)
{
	struct gw__late_pages *l = own(sink)->o.late;
	struct request request;
	while (read(l->requests[0], &request, sizeof request) == sizeof request) {
		*block = request.block;
		*off = request.page * l->guest->page_bytes;
		if (!gw__bitmap_test(&l->area[*block].received, request.page))
			return true;
	}
	if (atomic_exchange(&l->lost, false))
		gw__demand_repeat(l->demand);
	return false;
}

static int request_again(struct gw__sink *sink, struct gw__error *error)
{
	struct gw__late_pages *l = own(sink)->o.late;
	for (uint32_t i = 0; i < l->areas; i++)
		for (uint64_t word = 0; word < l->area[i].words_n; word++)
			atomic_store(&l->area[i].requested[word], 0);
	if (gw__demand_has_failed(l->demand)) { /* its thread has ended, and said why when the connection before ended */
		gw__demand_stop(l->demand, NULL);
		return gw__demand_start(l->demand, wanted, l, error);
	}
	gw__demand_repeat(l->demand);
	return 0;
}

/* Any thread. */
static void give_up(struct gw__sink *sink)
{
	struct gw__late_pages *l = own(sink)->o.late;
	for (uint32_t i = 0; i < l->areas; i++)
		gw__demand_discard(l->demand, l->area[i].block, 0, l->area[i].block->bytes);
}

static const struct gw__sink_run_ops run_ops = {
	.load = load_devices,
	.run = run_given,
	.request_fd = request_fd,
	.next_request = next_request,
	.request_again = request_again,
	.give_up = give_up,
};

static const struct gw__sink_postcopy_ops postcopy_ops = {
	.prepare_postcopy = prepare_postcopy,
	.begin = begin,
	.discard = discard,
	.persist_handover = take_handover,
	.recovery_info = recovery_info,
	.received = received,
	.is_committed = is_committed,
	.run = &run_ops,
};

static void free_sink(struct gw__sink *sink)
{
	struct ram_sink *s = own(sink);
	for (uint32_t i = 0; i < s->blocks_n; i++)
		free((void *)s->block[i].filled);
	gw__device_load_clear(&s->devices);
	gw__blocks_fini(&s->blocks);
	free(s->package);
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
	s->ops.postcopy = o->late ? &postcopy_ops : NULL;
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

void gw__ram_sink_go_on(struct gw__sink *sink, struct gw__run *run, const struct gw__ram_sink_opts *o, struct gw__ram_sink_result *result)
{
	struct ram_sink *s = own(sink);
	s->run = run;
	s->o = *o;
	s->result = result;
	*result = (struct gw__ram_sink_result){.given = true};
}
