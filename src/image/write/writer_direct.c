/* SPDX-License-Identifier: MIT */
/*
 * A writer whose page regions go past the page cache: whether that is possible, which bytes, and the main
 * channel's pages, which come unaligned and are staged in a page writer of the writer's own.
 *
 * Headers, bitmaps and device state go through the page cache, so nothing that goes past it may share a unit
 * of it with them. A region begins at a multiple of 1 MiB, after its bitmap. It ends anywhere, and the next
 * record stands right after: the unit its end lies in goes through the page cache too, so that the kernel
 * never reads a page to change the record beside it, and writes it back over a newer one.
 *
 *    1 MiB ..............| 64 KiB |.... end | next block's record, or device state
 *    past the page cache | through it       | through it
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/math.h"
#include "image/file/fileio.h"
#include "image/write/page_writer_private.h"

typedef unsigned long long ull;

/* The largest page of a kernel, block of a file system and sector of a disk there are. */
enum { CACHE_UNIT_BYTES = 64 << 10, DIRECT_UNIT_BYTES = 4096 };

uint64_t gw__writer_direct_bytes(const struct gw__image_writer *w, uint32_t block)
{
	return gw__round_down(w->blocks.v[block].used_bytes, CACHE_UNIT_BYTES);
}

/* What the file asks of a direct write; where it does not say, what nearly all do. */
static uint64_t direct_unit(int fd)
{
#ifdef STATX_DIOALIGN
	struct statx st;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 && st.stx_mask & STATX_DIOALIGN && st.stx_dio_offset_align)
		return st.stx_dio_offset_align > st.stx_dio_mem_align ? st.stx_dio_offset_align : st.stx_dio_mem_align;
#endif
	(void)fd;
	return DIRECT_UNIT_BYTES;
}

int gw__writer_check_direct(struct gw__image_writer *w, struct gw__error *error)
{
	uint64_t unit = direct_unit(w->direct_fd);
	if (w->page_bytes < unit)
		return gw__error_set(error, -EINVAL,
			"%s: direct I/O is possible there in units of %llu bytes only, and the guest's pages "
			"have %llu; leave "
			"--direct-io out",
			w->file.dest.path, (ull)unit, (ull)w->page_bytes);
	if (w->page_bytes > GW__PAGE_WRITER_BUFFER_BYTES)
		return gw__error_set(error, -E2BIG,
			"%s: the guest's pages have %llu bytes, expected at most %d with direct I/O; leave "
			"--direct-io out",
			w->file.dest.path, (ull)w->page_bytes, GW__PAGE_WRITER_BUFFER_BYTES);
	return 0;
}

int gw__writer_direct_failed(struct gw__image_writer *w, uint64_t to, uint64_t bytes, int err, struct gw__error *error)
{
	gw__writer_fail(w, -err);
	if (err != EINVAL)
		return gw__file_write_failed(w->direct_fd, w->file.dest.path, to, bytes, err, error);
	return gw__error_set(error, -err,
		"%llu bytes at offset %llu of %s cannot be written past the page cache (%s); leave "
		"--direct-io out",
		(ull)bytes, (ull)to, w->file.dest.path, strerror(err));
}

int gw__writer_write_direct(struct gw__image_writer *w, uint64_t to, const uint8_t *from, uint64_t bytes, struct gw__error *error)
{
	while (bytes) {
		ssize_t put = pwrite(w->direct_fd, from, bytes, (off_t)to);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return gw__writer_direct_failed(w, to, bytes, put ? errno : EIO, error);
		from += put;
		to += (uint64_t)put;
		bytes -= (uint64_t)put;
	}
	return 0;
}

/* The pages that lie together at the end of the buffer go to the page writer. */
static int end_run(struct gw__stage *s, struct gw__error *error)
{
	uint64_t bytes = s->run_bytes;
	if (bytes == 0)
		return 0;
	s->run_bytes = 0;
	return gw__page_writer_write(s->page_writer, s->buffer + s->used_bytes - bytes, bytes, s->block, s->run_off, error);
}

static int end_buffer(struct gw__stage *s, struct gw__error *error)
{
	int r = end_run(s, error);
	s->used_bytes = 0;
	s->buffer = NULL;
	return r ? r : gw__page_writer_return_buffer(s->page_writer, error);
}

static int begin_buffer(struct gw__image_writer *w, struct gw__error *error)
{
	struct gw__stage *s = &w->stage;
	void *buffer = NULL;
	int r = s->page_writer ? 0 : gw__page_writer_new(w, &s->page_writer, error);
	if (!r)
		r = gw__page_writer_borrow_buffer(s->page_writer, &buffer, error);
	s->buffer = buffer;
	return r;
}

static int stage_page(struct gw__image_writer *w, uint32_t block, uint64_t off, const void *page, struct gw__error *error)
{
	struct gw__stage *s = &w->stage;
	int r = 0;
	if (s->buffer && (block != s->block || off != s->run_off + s->run_bytes))
		r = end_run(s, error);
	if (!r && !s->buffer)
		r = begin_buffer(w, error);
	if (r)
		return r;
	if (s->run_bytes == 0) {
		s->block = block;
		s->run_off = off;
	}
	memcpy(s->buffer + s->used_bytes, page, w->page_bytes);
	s->used_bytes += w->page_bytes;
	s->run_bytes += w->page_bytes;
	return s->used_bytes + w->page_bytes > GW__PAGE_WRITER_BUFFER_BYTES ? end_buffer(s, error) : 0;
}

static void note_range(struct gw__image_writer *w, uint32_t block, uint64_t off, uint64_t bytes)
{
	struct gw__stage *s = &w->stage;
	uint64_t at = w->blocks.v[block].pages_off + off;
	bool none = s->begin_off == s->end_off;
	if (none || at < s->begin_off)
		s->begin_off = at;
	if (none || at + bytes > s->end_off)
		s->end_off = at + bytes;
}

int gw__writer_stage(struct gw__image_writer *w, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	int r = 0;
	note_range(w, block, off, (uint64_t)n * w->page_bytes);
	for (int i = 0; !r && i < n; i++)
		r = stage_page(w, block, off + (uint64_t)i * w->page_bytes, pages[i].iov_base, error);
	return r;
}

int gw__writer_settle_stage(struct gw__image_writer *w, struct gw__error *error)
{
	struct gw__stage *s = &w->stage;
	int r = s->buffer ? end_buffer(s, error) : 0;
	if (!r && s->page_writer)
		r = gw__page_writer_flush(s->page_writer, error);
	s->begin_off = s->end_off = 0;
	return gw__writer_fail(w, r);
}

int gw__writer_settle_page(struct gw__image_writer *w, uint64_t at, struct gw__error *error)
{
	bool staged = at >= w->stage.begin_off && at < w->stage.end_off;
	return staged ? gw__writer_settle_stage(w, error) : 0;
}
