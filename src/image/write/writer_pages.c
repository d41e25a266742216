/* SPDX-License-Identifier: MIT */
/*
 * Pages of an image being written: content goes to its fixed place, zeros only take a bit away.
 *
 * Any number of threads may put pages at the same time, because multifd brings them over many channels. Bits are
 * changed with atomic operations on whole words; that two of them do not put one page at the same time is
 * what the barrier between two passes over memory is for.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/bytes.h"
#include "base/math.h"
#include "image/file/fileio.h"
#include "image/write/writer_private.h"
#include "image/file/zero.h"

/* Start write-back each time this much was put, so that the final fsync finds little left to do. */
#define WRITE_BACK_BYTES (UINT64_C(16) << 20)

/* Sets the bits [first, first + n), n > 0; returns how many of them were clear. */
static uint64_t set_bits(struct gw__bitmap *b, uint64_t first, uint64_t n)
{
	uint64_t changed = 0;
	for (uint64_t w = first / 64; w <= (first + n - 1) / 64; w++) {
		uint64_t mask = gw__bitmap_mask(w, first, first + n);
		uint64_t old = __atomic_load_n(&b->words[w], __ATOMIC_RELAXED);
		if (mask & ~old)
			old = __atomic_fetch_or(&b->words[w], mask, __ATOMIC_RELEASE);
		changed += (uint64_t)__builtin_popcountll(mask & ~old);
	}
	return changed;
}

/* These pages have no content any more; returns how many had. A word without any of the bits is not touched: it may cost nothing yet. */
static uint64_t take_content(struct gw__page_maps *m, uint64_t first, uint64_t n)
{
	struct gw__bitmap *b = &m->present;
	uint64_t changed = 0;
	for (uint64_t w = first / 64; w <= (first + n - 1) / 64; w++) {
		uint64_t mask = gw__bitmap_mask(w, first, first + n);
		uint64_t old = __atomic_load_n(&b->words[w], __ATOMIC_RELAXED);
		if (mask & old)
			old = __atomic_fetch_and(&b->words[w], ~mask, __ATOMIC_RELEASE);
		changed += (uint64_t)__builtin_popcountll(mask & old);
		if (mask & old && m->stale.bits)
			__atomic_fetch_or(&m->stale.words[w], mask & old, __ATOMIC_RELAXED);
	}
	return changed;
}

static void clear_received(struct gw__bitmap *b, uint64_t first, uint64_t n)
{
	for (uint64_t w = first / 64; w <= (first + n - 1) / 64; w++)
		if (__atomic_load_n(&b->words[w], __ATOMIC_RELAXED))
			__atomic_fetch_and(&b->words[w], ~gw__bitmap_mask(w, first, first + n), __ATOMIC_RELEASE);
}

static bool has_bit(const struct gw__bitmap *b, uint64_t i) { return __atomic_load_n(&b->words[i / 64], __ATOMIC_ACQUIRE) >> (i % 64) & 1; }

static void count(uint64_t *sum, uint64_t by) { __atomic_fetch_add(sum, by, __ATOMIC_RELAXED); }

static struct gw__page_maps *maps_of(const struct gw__image_writer *w, uint32_t block, uint64_t off, uint64_t pages)
{
	assert(w->phase == GW__WRITER_RAM && block < w->blocks.n && !w->blocks.v[block].ignored);
	assert(off % w->page_bytes == 0);
	assert(off / w->page_bytes + pages <= w->maps[block].present.bits);
	return &w->maps[block];
}

void gw__image_put_zeros(struct gw__image_writer *w, uint32_t block, uint64_t off, uint64_t pages)
{
	struct gw__page_maps *m = maps_of(w, block, off, pages);
	if (pages == 0)
		return;
	/* Old content stays in the file until RAM ends: the page may get another, and a hole costs more than the page. */
	uint64_t gone = take_content(m, off / w->page_bytes, pages);
	set_bits(&m->received, off / w->page_bytes, pages);
	count(&w->stats.zero_pages, pages);
	count(&w->stats.pages_present, -gone);
}

void gw__image_discard(struct gw__image_writer *w, uint32_t block, uint64_t off, uint64_t pages)
{
	struct gw__page_maps *m = maps_of(w, block, off, pages);
	if (pages == 0)
		return;
	clear_received(&m->received, off / w->page_bytes, pages); /* first: a page that is not known has no content either */
	count(&w->stats.pages_present, -take_content(m, off / w->page_bytes, pages));
}

/* The kernel begins to write what is dirty, without our waiting. Only a real failure of the disk counts. */
static int start_write_back(struct gw__image_writer *w, uint64_t off, uint64_t n, struct gw__error *error)
{
	uint64_t before = __atomic_fetch_add(&w->bytes_written, n, __ATOMIC_RELAXED);
	if (w->opts.unsynced || before / WRITE_BACK_BYTES == (before + n) / WRITE_BACK_BYTES)
		return 0;
	if (sync_file_range(w->file.fd, 0, 0, SYNC_FILE_RANGE_WRITE) == 0)
		return 0;
	if (errno == EIO || errno == ENOSPC || errno == EDQUOT)
		return gw__file_write_failed(w->file.fd, w->file.dest.path, off, n, errno, error);
	return 0;
}

/* As many consecutive pages as fit into one call; pages adjacent in memory share an entry. Returns how many.
 */
static int gather(const struct iovec *pages, int n, struct iovec *iov, int *iov_n)
{
	int used = 0, i = 0;
	for (; i < n; i++) {
		struct iovec *last = iov + used - 1;
		if (used && (uint8_t *)last->iov_base + last->iov_len == pages[i].iov_base) {
			last->iov_len += pages[i].iov_len;
			continue;
		}
		if (used == IOV_MAX)
			break;
		iov[used++] = pages[i];
	}
	*iov_n = used;
	return i;
}

void gw__writer_mark_present(struct gw__image_writer *w, uint32_t block, uint64_t off, uint64_t pages)
{
	struct gw__page_maps *m = maps_of(w, block, off, pages);
	count(&w->stats.pages_present, set_bits(&m->present, off / w->page_bytes, pages));
	set_bits(&m->received, off / w->page_bytes, pages);
	count(&w->stats.pages_written, pages);
}

int gw__writer_write_cached(struct gw__image_writer *w, uint64_t to, struct iovec *iov, int n, struct gw__error *error)
{
	uint64_t bytes = 0;
	for (int i = 0; i < n; i++)
		bytes += iov[i].iov_len;
	int r = gw__file_writev(w->file.fd, w->file.dest.path, to, iov, n, error);
	if (!r)
		r = start_write_back(w, to, bytes, error);
	return gw__writer_fail(w, r);
}

static int put_content(struct gw__image_writer *w, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	while (n) {
		struct iovec iov[IOV_MAX];
		int iov_n, taken = gather(pages, n, iov, &iov_n);
		int r = gw__writer_write_cached(w, w->blocks.v[block].pages_off + off, iov, iov_n, error);
		if (r)
			return r;
		/* Content first, bits after: who sees the bit finds the page. */
		gw__writer_mark_present(w, block, off, (uint64_t)taken);
		pages += taken;
		n -= taken;
		off += (uint64_t)taken * w->page_bytes;
	}
	return 0;
}

static int put_staged(struct gw__image_writer *w, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	int r = gw__writer_stage(w, block, off, pages, n, error);
	if (!r)
		gw__writer_mark_present(w, block, off, (uint64_t)n);
	return gw__writer_fail(w, r);
}

/* How many pages from the first on are all like it: zeros, or not. */
static int run_of_alike(const struct iovec *pages, int n, uint64_t page_bytes, bool *zero)
{
	int i = 1;
	*zero = gw__is_zero(pages[0].iov_base, page_bytes);
	while (i < n && gw__is_zero(pages[i].iov_base, page_bytes) == *zero)
		i++;
	return i;
}

int gw__image_put_pages(struct gw__image_writer *w, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	for (int i = 0; i < n; i++)
		assert(pages[i].iov_len == w->page_bytes);
	while (n) {
		bool zero;
		int run = run_of_alike(pages, n, w->page_bytes, &zero), r = 0;
		if (zero)
			gw__image_put_zeros(w, block, off, (uint64_t)run);
		else if (w->direct_fd >= 0)
			r = put_staged(w, block, off, pages, run, error);
		else
			r = put_content(w, block, off, pages, run, error);
		if (r)
			return r;
		off += (uint64_t)run * w->page_bytes;
		pages += run;
		n -= run;
	}
	return 0;
}

int gw__image_read_back_page(struct gw__image_writer *w, uint32_t block, uint64_t off, void *page, struct gw__error *error)
{
	const struct gw__page_maps *m = maps_of(w, block, off, 1);
	uint64_t i = off / w->page_bytes, at = w->blocks.v[block].pages_off + off;
	if (!has_bit(&m->received, i))
		return GW__NO_PAGE;
	if (!has_bit(&m->present, i)) {
		memset(page, 0, w->page_bytes);
		return 0;
	}
	int r = w->direct_fd < 0 ? 0 : gw__writer_settle_page(w, at, error);
	return r ? r : gw__file_read(w->file.fd, w->file.dest.path, at, page, w->page_bytes, error);
}

struct gw__image_writer_stats gw__image_writer_stats(const struct gw__image_writer *w)
{
	return (struct gw__image_writer_stats){
		.pages_present = __atomic_load_n(&w->stats.pages_present, __ATOMIC_RELAXED),
		.zero_pages = __atomic_load_n(&w->stats.zero_pages, __ATOMIC_RELAXED),
		.pages_written = __atomic_load_n(&w->stats.pages_written, __ATOMIC_RELAXED),
	};
}
