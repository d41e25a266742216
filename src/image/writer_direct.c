/* SPDX-License-Identifier: MIT */
/*
 * A writer whose page regions go past the page cache: whether that is possible, which bytes, and the main
 * channel's pages, which come unaligned and are staged in a lane of the writer's own.
 *
 * Headers, bitmaps and device state go through the page cache, so nothing that goes past it may share a unit
 * of it with them. A region begins at a multiple of 1 MiB, behind its bitmap. It ends anywhere, and the next
 * record stands right behind: the unit its end lies in goes through the page cache too, so that the kernel
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
#include "image/fileio.h"
#include "image/lane_parts.h"

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

int gw__writer_check_direct(struct gw__image_writer *w, struct gw__why *why)
{
	uint64_t unit = direct_unit(w->direct_fd);
	if (w->page_bytes < unit)
		return gw__why_set(why, -EINVAL,
			"%s: direct I/O is possible there in units of %llu bytes only, and the guest's pages "
			"have %llu; leave "
			"--direct-io out",
			w->file.target.path, (ull)unit, (ull)w->page_bytes);
	if (w->page_bytes > GW__LANE_BUFFER_BYTES)
		return gw__why_set(why, -E2BIG,
			"%s: the guest's pages have %llu bytes, expected at most %d with direct I/O; leave "
			"--direct-io out",
			w->file.target.path, (ull)w->page_bytes, GW__LANE_BUFFER_BYTES);
	return 0;
}

int gw__writer_direct_failed(struct gw__image_writer *w, uint64_t to, uint64_t bytes, int err, struct gw__why *why)
{
	gw__writer_fail(w, -err);
	if (err != EINVAL)
		return gw__file_write_failed(w->direct_fd, w->file.target.path, to, bytes, err, why);
	return gw__why_set(why, -err,
		"%llu bytes at offset %llu of %s cannot be written past the page cache (%s); leave "
		"--direct-io out",
		(ull)bytes, (ull)to, w->file.target.path, strerror(err));
}

int gw__writer_write_direct(struct gw__image_writer *w, uint64_t to, const uint8_t *from, uint64_t bytes, struct gw__why *why)
{
	while (bytes) {
		ssize_t put = pwrite(w->direct_fd, from, bytes, (off_t)to);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return gw__writer_direct_failed(w, to, bytes, put ? errno : EIO, why);
		from += put;
		to += (uint64_t)put;
		bytes -= (uint64_t)put;
	}
	return 0;
}

/* The pages that lie together at the end of the buffer go to the lane. */
static int end_run(struct gw__stage *s, struct gw__why *why)
{
	uint64_t bytes = s->run_bytes;
	if (bytes == 0)
		return 0;
	s->run_bytes = 0;
	return gw__lane_write(s->lane, s->buffer + s->used_bytes - bytes, bytes, s->block, s->run_off, why);
}

static int end_buffer(struct gw__stage *s, struct gw__why *why)
{
	int r = end_run(s, why);
	s->used_bytes = 0;
	s->buffer = NULL;
	return r ? r : gw__lane_give(s->lane, why);
}

static int begin_buffer(struct gw__image_writer *w, struct gw__why *why)
{
	struct gw__stage *s = &w->stage;
	void *buffer = NULL;
	int r = s->lane ? 0 : gw__lane_new(w, &s->lane, why);
	if (!r)
		r = gw__lane_take(s->lane, &buffer, why);
	s->buffer = buffer;
	return r;
}

static int stage_page(struct gw__image_writer *w, uint32_t block, uint64_t off, const void *page, struct gw__why *why)
{
	struct gw__stage *s = &w->stage;
	int r = 0;
	if (s->buffer && (block != s->block || off != s->run_off + s->run_bytes))
		r = end_run(s, why);
	if (!r && !s->buffer)
		r = begin_buffer(w, why);
	if (r)
		return r;
	if (s->run_bytes == 0) {
		s->block = block;
		s->run_off = off;
	}
	memcpy(s->buffer + s->used_bytes, page, w->page_bytes);
	s->used_bytes += w->page_bytes;
	s->run_bytes += w->page_bytes;
	return s->used_bytes + w->page_bytes > GW__LANE_BUFFER_BYTES ? end_buffer(s, why) : 0;
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

int gw__writer_stage(struct gw__image_writer *w, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__why *why)
{
	int r = 0;
	note_range(w, block, off, (uint64_t)n * w->page_bytes);
	for (int i = 0; !r && i < n; i++)
		r = stage_page(w, block, off + (uint64_t)i * w->page_bytes, pages[i].iov_base, why);
	return r;
}

int gw__writer_settle_stage(struct gw__image_writer *w, struct gw__why *why)
{
	struct gw__stage *s = &w->stage;
	int r = s->buffer ? end_buffer(s, why) : 0;
	if (!r && s->lane)
		r = gw__lane_flush(s->lane, why);
	s->begin_off = s->end_off = 0;
	return gw__writer_fail(w, r);
}

int gw__writer_settle_page(struct gw__image_writer *w, uint64_t at, struct gw__why *why)
{
	bool staged = at >= w->stage.begin_off && at < w->stage.end_off;
	return staged ? gw__writer_settle_stage(w, why) : 0;
}
