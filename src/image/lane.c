/* SPDX-License-Identifier: MIT */
/* Lanes: finding zeros and runs, and the plain way to write; see lane.h. */
#include "image/lane.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/math.h"
#include "image/fileio.h"
#include "image/lane_parts.h"
#include "image/zero.h"

/* The first failure, if there was one. */
static int tell(const struct gw__lane *lane, struct gw__why *why)
{
	return lane->failed.code ? gw__why_set(why, lane->failed.code, "%s", lane->failed.text) : 0;
}

/* Mapped, not allocated: aligned for any device, and given back whole. */
static int map_buffers(struct gw__lane *lane, unsigned n)
{
	size_t bytes = (size_t)n * GW__LANE_BUFFER_BYTES;
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return gw__why_set(&lane->failed, -ENOMEM, "no memory for %u buffers of %d bytes to write %s from", n,
			GW__LANE_BUFFER_BYTES, lane->w->file.target.path);
	lane->memory = memory;
	lane->memory_bytes = bytes;
	/* After a fork old kernels would go on writing from the child's copy. */
	madvise(memory, bytes, MADV_DONTFORK);
	return 0;
}

/* Positive: not the best one. */
static int find_way(struct gw__lane *lane)
{
	if (lane->w->direct_fd < 0) {
		snprintf(lane->how, sizeof lane->how, "pwrite, through the page cache");
		return map_buffers(lane, 1); /* one stays in the processor's cache */
	}
	int r = map_buffers(lane, GW__LANE_BUFFERS);
	if (!r)
		r = gw__uring_new(lane, &lane->uring);
	return r;
}

int gw__lane_new(struct gw__image_writer *w, struct gw__lane **lane, struct gw__why *why)
{
	assert(w->phase == GW__WRITER_RAM);
	*lane = NULL;
	if (w->page_bytes > GW__LANE_BUFFER_BYTES)
		return gw__why_set(why, -E2BIG, "%s: guest pages of %llu bytes, expected at most %d with several channels",
			w->file.target.path, (unsigned long long)w->page_bytes, GW__LANE_BUFFER_BYTES);
	struct gw__lane *l = calloc(1, sizeof *l);
	if (!l)
		return gw__why_set(why, -ENOMEM, "no memory for a lane into %s", w->file.target.path);
	l->w = w;
	if (find_way(l) < 0) {
		int r = tell(l, why);
		gw__lane_free(l);
		return r;
	}
	*lane = l;
	return 0;
}

void gw__lane_free(struct gw__lane *lane)
{
	if (!lane)
		return;
	gw__uring_free(lane->uring);
	if (lane->memory)
		munmap(lane->memory, lane->memory_bytes);
	free(lane);
}

const char *gw__lane_how(const struct gw__lane *lane) { return lane->how; }

int gw__lane_take(struct gw__lane *lane, void **buffer, struct gw__why *why)
{
	if (!lane->taken && !lane->uring)
		lane->taken = lane->memory;
	else if (!lane->taken && !lane->failed.code)
		gw__uring_take(lane->uring, &lane->taken);
	*buffer = lane->taken;
	return tell(lane, why);
}

int gw__lane_give(struct gw__lane *lane, struct gw__why *why)
{
	lane->taken = NULL;
	if (lane->uring && !lane->failed.code)
		gw__uring_start(lane->uring);
	return tell(lane, why);
}

/* The part of a run that goes past the page cache; the rest is the end of its block. */
static uint64_t direct_part(const struct gw__image_writer *w, uint32_t block, uint64_t off, uint64_t bytes)
{
	uint64_t end = w->direct_fd < 0 ? 0 : gw__writer_direct_bytes(w, block);
	return off < end ? gw__min(bytes, end - off) : 0;
}

static int write_direct(struct gw__lane *lane, const uint8_t *from, uint64_t bytes, uint64_t to)
{
	if (lane->uring)
		return gw__uring_write(lane->uring, from, bytes, to);
	return gw__writer_write_direct(lane->w, to, from, bytes, &lane->failed);
}

static int write_cached(struct gw__lane *lane, const uint8_t *from, uint64_t bytes, uint64_t to)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)from, .iov_len = bytes};
	return gw__writer_write_cached(lane->w, to, &iov, 1, &lane->failed);
}

int gw__lane_write(struct gw__lane *lane, const uint8_t *from, uint64_t bytes, uint32_t block, uint64_t off, struct gw__why *why)
{
	const struct gw__image_writer *w = lane->w;
	uint64_t to = w->blocks.v[block].pages_off + off, direct = direct_part(w, block, off, bytes);
	if (!lane->failed.code && direct)
		write_direct(lane, from, direct, to);
	if (!lane->failed.code && direct < bytes)
		write_cached(lane, from + direct, bytes - direct, to + direct);
	return tell(lane, why);
}

/* How many pages from the first on are all zeros, or all have content and stand together in the block. */
static uint32_t run_of_alike(const uint8_t *page, const uint64_t *off, uint32_t n, uint64_t page_bytes, bool *zero)
{
	uint32_t i = 1;
	*zero = gw__is_zero(page, page_bytes);
	while (i < n && off[i] == off[i - 1] + page_bytes && gw__is_zero(page + i * page_bytes, page_bytes) == *zero)
		i++;
	return i;
}

int gw__lane_put(struct gw__lane *lane, uint32_t block, const uint64_t *off, uint32_t n, struct gw__why *why)
{
	struct gw__image_writer *w = lane->w;
	const uint8_t *page = lane->taken;
	assert(page && n <= GW__LANE_BUFFER_BYTES / w->page_bytes);
	while (n) {
		bool zero;
		uint32_t run = run_of_alike(page, off, n, w->page_bytes, &zero);
		uint64_t bytes = run * w->page_bytes;
		int r = zero ? 0 : gw__lane_write(lane, page, bytes, block, off[0], why);
		if (r)
			return r;
		if (zero)
			gw__image_put_zeros(w, block, off[0], run);
		else
			gw__writer_mark_present(w, block, off[0], run);
		page += bytes;
		off += run;
		n -= run;
	}
	return gw__lane_give(lane, why);
}

int gw__lane_flush(struct gw__lane *lane, struct gw__why *why)
{
	if (lane->uring && !lane->failed.code)
		gw__uring_wait(lane->uring);
	return tell(lane, why);
}
