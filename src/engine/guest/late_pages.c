/* SPDX-License-Identifier: MIT */
/* Pages that come after their guest runs; see late_pages.h. */
#include "engine/guest/late_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "guest/demand.h"

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

/* --- new and free -------------------------------------------------------------------------------------------------- */

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
static void stop(struct gw__late_pages *l)
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
		stop(l);
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

/* --- before the switch --------------------------------------------------------------------------------------------- */

static int add_block(struct gw__late_pages *l, struct gw__guest_block *block)
{
	struct area *a = &l->area[l->areas++];
	a->block = block;
	a->words_n = gw__guest_block_words(l->guest, block);
	a->requested = calloc(a->words_n, sizeof *a->requested);
	return a->requested ? gw__bitmap_init(&a->received, gw__guest_block_pages(l->guest, block)) : -ENOMEM;
}

int gw__late_pages_add_blocks(struct gw__late_pages *l, struct gw__guest_block *const *blocks, uint32_t n, struct gw__error *error)
{
	l->area = calloc(n, sizeof *l->area);
	int r = l->area || !n ? 0 : -ENOMEM;
	for (uint32_t i = 0; !r && i < n; i++)
		r = add_block(l, blocks[i]);
	if (r)
		return gw__error_set(error, r, "no memory for the bitmaps of %u RAM blocks", n);
	return gw__demand_add_blocks(l->demand, blocks, n, error);
}

void gw__late_pages_came(struct gw__late_pages *l, uint32_t block, uint64_t first, uint64_t n)
{
	gw__bitmap_set_range(&l->area[block].received, first, n);
}

void gw__late_pages_discard(struct gw__late_pages *l, uint32_t block, uint64_t first, uint64_t n)
{
	gw__bitmap_clear_range(&l->area[block].received, first, n);
}

/* --- the fault thread's -------------------------------------------------------------------------------------------- */

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

/* --- the switch ---------------------------------------------------------------------------------------------------- */

/* Of what did not come nothing may be left in the memory: it would be read instead. */
static int prepare_block(struct gw__late_pages *l, uint32_t i, struct gw__error *error)
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

int gw__late_pages_watch(struct gw__late_pages *l, struct gw__error *error)
{
	int r = 0;
	for (uint32_t i = 0; !r && i < l->areas; i++)
		r = prepare_block(l, i, error);
	if (!r)
		r = gw__demand_watch(l->demand, error);
	if (r)
		return r;
	l->watched = true;
	gw__guest_set_demand(l->guest, l->demand);
	return gw__demand_start(l->demand, wanted, l, error);
}

bool gw__late_pages_is_watched(const struct gw__late_pages *l) { return l->watched; }

/* --- pages --------------------------------------------------------------------------------------------------------- */

/* One that was released meanwhile is zero, and stays so. */
int gw__late_pages_put(struct gw__late_pages *l, uint32_t block, uint64_t first, const struct iovec *pages, int n, struct gw__error *error)
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

int gw__late_pages_put_zeros(struct gw__late_pages *l, uint32_t block, uint64_t first, uint64_t n, struct gw__error *error)
{
	const uint64_t page_bytes = l->guest->page_bytes;
	if (gw__demand_has_failed(l->demand))
		return gw__demand_stop(l->demand, error);
	gw__demand_discard(l->demand, l->area[block].block, first * page_bytes, n * page_bytes);
	gw__bitmap_set_range(&l->area[block].received, first, n);
	return 0;
}

/* --- requests ------------------------------------------------------------------------------------------------------ */

int gw__late_pages_request_fd(const struct gw__late_pages *l) { return l->requests[0]; }

bool gw__late_pages_next_request(struct gw__late_pages *l, uint32_t *block, uint64_t *page)
{
	struct request request;
	while (read(l->requests[0], &request, sizeof request) == sizeof request) {
		*block = request.block;
		*page = request.page;
		if (!gw__bitmap_test(&l->area[*block].received, *page))
			return true;
	}
	if (atomic_exchange(&l->lost, false))
		gw__demand_repeat(l->demand);
	return false;
}

void gw__late_pages_request_again(struct gw__late_pages *l)
{
	for (uint32_t i = 0; i < l->areas; i++)
		for (uint64_t word = 0; word < l->area[i].words_n; word++)
			atomic_store(&l->area[i].requested[word], 0);
	gw__demand_repeat(l->demand);
}

/* --- the end ------------------------------------------------------------------------------------------------------- */

void gw__late_pages_give_up(struct gw__late_pages *l)
{
	for (uint32_t i = 0; i < l->areas; i++)
		gw__demand_discard(l->demand, l->area[i].block, 0, l->area[i].block->bytes);
}

void gw__late_pages_end(struct gw__late_pages *l) { stop(l); }

const struct gw__bitmap *gw__late_pages_received(const struct gw__late_pages *l, uint32_t block) { return &l->area[block].received; }

uint64_t gw__late_pages_faults(const struct gw__late_pages *l) { return l->demand ? gw__demand_requests(l->demand) : l->faults; }
