/* SPDX-License-Identifier: MIT */
/* Pages of an image on demand; see lazy_restore.h. */
#include "engine/guest/lazy_restore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "guest/demand.h"

enum { BATCH_PAGES = 32 };

struct gw__lazy {
	struct gw__guest *guest;
	struct gw__demand *demand;
	const struct gw__image *image; /* while a call runs */
	uint8_t fingerprint[GW__IMAGE_FINGERPRINT_BYTES];
	uint8_t *batch;          /* the call's: BATCH_PAGES of them */
	uint8_t *page;           /* the fault thread's: one */
	_Atomic uint64_t served; /* by that */
};

int gw__lazy_new(struct gw__run *run, struct gw__guest *guest, int uffd, bool user_mode, struct gw__lazy **lazy)
{
	struct gw__lazy *l = *lazy = calloc(1, sizeof *l);
	void *pages = NULL;
	if (!l || posix_memalign(&pages, 4096, (BATCH_PAGES + 1) * guest->page_bytes)) {
		gw__lazy_free(lazy);
		return gw__error_set(&run->error, -ENOMEM, "no memory for a lazy restore");
	}
	l->guest = guest;
	l->batch = pages;
	l->page = l->batch + BATCH_PAGES * guest->page_bytes;
	int r = gw__demand_new(&l->demand, guest->page_bytes, uffd, user_mode, &run->error);
	if (r)
		gw__lazy_free(lazy);
	return r;
}

void gw__lazy_free(struct gw__lazy **lazy)
{
	struct gw__lazy *l = *lazy;
	*lazy = NULL;
	if (!l)
		return;
	gw__demand_stop(l->demand, NULL);
	if (l->guest)
		gw__guest_set_demand(l->guest, NULL);
	gw__demand_free(l->demand);
	free(l->batch);
	free(l);
}

/* --- the fault thread's -------------------------------------------------------------------------------------------- */

static int read_and_place(struct gw__lazy *l, uint32_t block, uint64_t first, uint64_t n, uint8_t *buffer, struct gw__error *error)
{
	int r = gw__image_read_pages(l->image, block, first, n, buffer, error);
	if (!r)
		return gw__demand_place(l->demand, block, first, n, buffer, error);
	gw__demand_unclaim(l->demand, block, first, n);
	return r;
}

static int wanted(void *ctx, uint32_t block, uint64_t page, struct gw__error *error)
{
	struct gw__lazy *l = ctx;
	if (!gw__demand_claim(l->demand, block, page, 1))
		return 0; /* another thread was faster, and wakes */
	int r = read_and_place(l, block, page, 1, l->page, error);
	if (!r)
		atomic_fetch_add_explicit(&l->served, 1, memory_order_relaxed);
	return r;
}

/* --- begin --------------------------------------------------------------------------------------------------------- */

/* What the image does not have is zero, and is not placed before it is touched. */
static void promise_zeros(struct gw__lazy *l, uint32_t block)
{
	const struct gw__bitmap *present = &l->image->present[block];
	uint64_t pages = l->image->blocks.v[block].used_bytes / l->guest->page_bytes;
	for (uint64_t i = 0, next; i < pages; i = next) {
		next = l->image->blocks.v[block].ignored ? pages : gw__bitmap_next_set_before(present, i, pages);
		gw__demand_promise_zeros(l->demand, block, i, next - i);
		if (next < pages)
			next = gw__bitmap_next_clear_before(present, next, pages);
	}
}

int gw__lazy_begin(struct gw__lazy *l, struct gw__guest_block *const *blocks, uint32_t n, const struct gw__image *image,
	struct gw__error *error)
{
	l->image = image;
	int r = gw__image_fingerprint(image, l->fingerprint, error);
	if (!r)
		r = gw__demand_add_blocks(l->demand, blocks, n, error);
	for (uint32_t i = 0; !r && i < n; i++)
		promise_zeros(l, i);
	if (!r)
		r = gw__demand_watch(l->demand, error);
	if (r)
		return r;
	gw__guest_set_demand(l->guest, l->demand);
	return gw__demand_start(l->demand, wanted, l, error);
}

int gw__lazy_begin_again(struct gw__run *run, struct gw__lazy *l, const struct gw__image *image)
{
	uint8_t fingerprint[GW__IMAGE_FINGERPRINT_BYTES];
	int r = gw__image_fingerprint(image, fingerprint, &run->error);
	if (!r && memcmp(fingerprint, l->fingerprint, sizeof fingerprint))
		r = gw__error_set(&run->error, -EINVAL, "it is not the image that the guest came from");
	if (r)
		return r;
	l->image = image;
	return gw__demand_start(l->demand, wanted, l, &run->error);
}

/* --- fill ---------------------------------------------------------------------------------------------------------- */

static int push_block(struct gw__run *run, struct gw__lazy *l, uint32_t block)
{
	uint64_t pages = l->image->blocks.v[block].used_bytes / l->guest->page_bytes, page = 0;
	int r = 0;
	while (!r && !gw__demand_has_failed(l->demand)) {
		page = gw__demand_next_missing(l->demand, block, page, pages);
		if (page == pages)
			return 0;
		uint64_t n = gw__demand_claim(l->demand, block, page, gw__min(BATCH_PAGES, pages - page));
		if (n)
			r = read_and_place(l, block, page, n, l->batch, &run->error);
		page += n;
		atomic_fetch_add_explicit(&run->counters.pages, n, memory_order_relaxed);
		gw__run_tick(run);
		if (!r)
			r = gw__run_check_cancel(run);
	}
	return r;
}

int gw__lazy_fill(struct gw__run *run, struct gw__lazy *l)
{
	int r = 0;
	gw__run_phase(run, GW__PHASE_RAM);
	for (uint32_t i = 0; !r && i < l->image->blocks.n; i++)
		r = push_block(run, l, i);
	int failed = gw__demand_stop(l->demand, &run->error);
	atomic_fetch_add(&run->counters.pages, atomic_exchange(&l->served, 0));
	l->image = NULL;
	r = r ? r : failed;
	if (!r)
		gw__run_phase(run, GW__PHASE_DONE);
	return r;
}

uint64_t gw__lazy_missing(const struct gw__lazy *l) { return gw__demand_missing(l->demand); }
uint64_t gw__lazy_requests(const struct gw__lazy *l) { return gw__demand_requests(l->demand); }
