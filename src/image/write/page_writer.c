/* SPDX-License-Identifier: MIT */
/* Lanes: finding zeros and runs, and the plain way to write; see page_writer.h. */
#include "image/write/page_writer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/math.h"
#include "image/file/fileio.h"
#include "image/write/page_writer_private.h"
#include "image/file/zero.h"

/* The first failure, if there was one. */
static int tell(const struct gw__page_writer *page_writer, struct gw__error *error)
{
	return page_writer->failed.code ? gw__error_set(error, page_writer->failed.code, "%s", page_writer->failed.text) : 0;
}

/* Mapped, not allocated: aligned for any device, and given back whole. */
static int map_buffers(struct gw__page_writer *page_writer, unsigned n)
{
	size_t bytes = (size_t)n * GW__PAGE_WRITER_BUFFER_BYTES;
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return gw__error_set(&page_writer->failed, -ENOMEM, "no memory for %u buffers of %d bytes to write %s from", n,
			GW__PAGE_WRITER_BUFFER_BYTES, page_writer->w->file.dest.path);
	page_writer->memory = memory;
	page_writer->memory_bytes = bytes;
	/* After a fork old kernels would go on writing from the child's copy. */
	madvise(memory, bytes, MADV_DONTFORK);
	return 0;
}

/* Positive: not the best one. */
static int find_way(struct gw__page_writer *page_writer)
{
	if (page_writer->w->direct_fd < 0) {
		snprintf(page_writer->how, sizeof page_writer->how, "pwrite, through the page cache");
		return map_buffers(page_writer, 1); /* one stays in the processor's cache */
	}
	int r = map_buffers(page_writer, GW__PAGE_WRITER_BUFFERS);
	if (!r)
		r = gw__uring_new(page_writer, &page_writer->uring);
	return r;
}

int gw__page_writer_new(struct gw__image_writer *w, struct gw__page_writer **page_writer, struct gw__error *error)
{
	assert(w->phase == GW__WRITER_RAM);
	*page_writer = NULL;
	if (w->page_bytes > GW__PAGE_WRITER_BUFFER_BYTES)
		return gw__error_set(error, -E2BIG, "%s: guest pages of %llu bytes, expected at most %d with several channels",
			w->file.dest.path, (unsigned long long)w->page_bytes, GW__PAGE_WRITER_BUFFER_BYTES);
	struct gw__page_writer *l = calloc(1, sizeof *l);
	if (!l)
		return gw__error_set(error, -ENOMEM, "no memory for a page writer into %s", w->file.dest.path);
	l->w = w;
	if (find_way(l) < 0) {
		int r = tell(l, error);
		gw__page_writer_free(l);
		return r;
	}
	*page_writer = l;
	return 0;
}

void gw__page_writer_free(struct gw__page_writer *page_writer)
{
	if (!page_writer)
		return;
	gw__uring_free(page_writer->uring);
	if (page_writer->memory)
		munmap(page_writer->memory, page_writer->memory_bytes);
	free(page_writer);
}

const char *gw__page_writer_how(const struct gw__page_writer *page_writer) { return page_writer->how; }

int gw__page_writer_borrow_buffer(struct gw__page_writer *page_writer, void **buffer, struct gw__error *error)
{
	if (!page_writer->taken && !page_writer->uring)
		page_writer->taken = page_writer->memory;
	else if (!page_writer->taken && !page_writer->failed.code)
		gw__uring_take(page_writer->uring, &page_writer->taken);
	*buffer = page_writer->taken;
	return tell(page_writer, error);
}

int gw__page_writer_return_buffer(struct gw__page_writer *page_writer, struct gw__error *error)
{
	page_writer->taken = NULL;
	if (page_writer->uring && !page_writer->failed.code)
		gw__uring_start(page_writer->uring);
	return tell(page_writer, error);
}

/* The part of a run that goes past the page cache; the rest is the end of its block. */
static uint64_t direct_part(const struct gw__image_writer *w, uint32_t block, uint64_t off, uint64_t bytes)
{
	uint64_t end = w->direct_fd < 0 ? 0 : gw__writer_direct_bytes(w, block);
	return off < end ? gw__min(bytes, end - off) : 0;
}

static int write_direct(struct gw__page_writer *page_writer, const uint8_t *from, uint64_t bytes, uint64_t to)
{
	if (page_writer->uring)
		return gw__uring_write(page_writer->uring, from, bytes, to);
	return gw__writer_write_direct(page_writer->w, to, from, bytes, &page_writer->failed);
}

static int write_cached(struct gw__page_writer *page_writer, const uint8_t *from, uint64_t bytes, uint64_t to)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)from, .iov_len = bytes};
	return gw__writer_write_cached(page_writer->w, to, &iov, 1, &page_writer->failed);
}

int gw__page_writer_write(struct gw__page_writer *page_writer, const uint8_t *from, uint64_t bytes, uint32_t block, uint64_t off,
	struct gw__error *error)
{
	const struct gw__image_writer *w = page_writer->w;
	uint64_t to = w->blocks.v[block].pages_off + off, direct = direct_part(w, block, off, bytes);
	if (!page_writer->failed.code && direct)
		write_direct(page_writer, from, direct, to);
	if (!page_writer->failed.code && direct < bytes)
		write_cached(page_writer, from + direct, bytes - direct, to + direct);
	return tell(page_writer, error);
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

int gw__page_writer_submit(struct gw__page_writer *page_writer, uint32_t block, const uint64_t *off, uint32_t n, struct gw__error *error)
{
	struct gw__image_writer *w = page_writer->w;
	const uint8_t *page = page_writer->taken;
	assert(page && n <= GW__PAGE_WRITER_BUFFER_BYTES / w->page_bytes);
	while (n) {
		bool zero;
		uint32_t run = run_of_alike(page, off, n, w->page_bytes, &zero);
		uint64_t bytes = run * w->page_bytes;
		int r = zero ? 0 : gw__page_writer_write(page_writer, page, bytes, block, off[0], error);
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
	return gw__page_writer_return_buffer(page_writer, error);
}

int gw__page_writer_flush(struct gw__page_writer *page_writer, struct gw__error *error)
{
	if (page_writer->uring && !page_writer->failed.code)
		gw__uring_wait(page_writer->uring);
	return tell(page_writer, error);
}
