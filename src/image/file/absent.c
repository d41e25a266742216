/* SPDX-License-Identifier: MIT */
/* Finds and removes content under cleared bits; see absent.h. */
#include "image/file/absent.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/math.h"
#include "image/file/fileio.h"
#include "image/file/zero.h"

enum { PIECE_BYTES = 65536 };

/* The next run of absent pages to look at, from `from` on: its first page, or the number of pages. */
static uint64_t next_run(const struct gw__absent *a, uint64_t from, uint64_t *end)
{
	uint64_t i = from;
	for (;;) {
		i = gw__bitmap_next_clear(a->present, i);
		uint64_t among = a->among ? gw__bitmap_next_set(a->among, i) : i;
		if (among == i)
			break;
		i = among;
	}
	*end = i < a->present->bits ? gw__bitmap_next_set(a->present, i) : i;
	if (a->among && i < *end)
		*end = gw__bitmap_next_clear_before(a->among, i, *end);
	return i;
}

/* Where data begins at or after `at`, `end` when there is only a hole. */
static uint64_t next_data(int fd, uint64_t at, uint64_t end)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? end : at; /* a file system that does not say: all of it is data */
	return gw__min((uint64_t)data, end);
}

static uint64_t next_hole(int fd, uint64_t at, uint64_t end)
{
	off_t hole = lseek(fd, (off_t)at, SEEK_HOLE);
	return hole < 0 ? end : gw__min((uint64_t)hole, end);
}

static int check_cancel(const struct gw__absent *a) { return a->cancel.check ? a->cancel.check(a->cancel.ctx) : 0; }

/* In [at, end), which the file says is data: where the first piece of a page begins that is not zeros, or `end`. */
static int find_content(const struct gw__absent *a, uint64_t *at, uint64_t end, struct gw__error *error)
{
	uint8_t buf[PIECE_BYTES];
	uint64_t unit = gw__min(a->page_bytes, sizeof buf);
	while (*at < end) {
		size_t n = gw__min(sizeof buf, end - *at);
		int r = check_cancel(a);
		if (!r)
			r = gw__file_read(a->fd, a->path, *at, buf, n, error);
		if (r)
			return r;
		for (size_t i = 0; i < n; i += unit) {
			if (!gw__is_zero(buf + i, unit)) {
				*at += i;
				return 0;
			}
		}
		*at += n;
	}
	*at = end;
	return 0;
}

/* The first page of the run [first, end) with content, or `end`. */
static int find_in_run(const struct gw__absent *a, uint64_t *first, uint64_t end, struct gw__error *error)
{
	uint64_t at = a->pages_off + *first * a->page_bytes, end_off = a->pages_off + end * a->page_bytes;
	int r = check_cancel(a);
	while (!r && at < end_off) {
		at = next_data(a->fd, at, end_off);
		uint64_t hole = at < end_off ? next_hole(a->fd, at, end_off) : end_off;
		at = a->pages_off + gw__round_down(at - a->pages_off, a->page_bytes);
		hole = gw__min(end_off, a->pages_off + gw__round_up(hole - a->pages_off, a->page_bytes));
		r = find_content(a, &at, hole, error);
		if (at < hole)
			break;
	}
	*first = (at - a->pages_off) / a->page_bytes;
	return r;
}

int gw__absent_find(const struct gw__absent *a, uint64_t from, uint64_t *page, struct gw__error *error)
{
	uint64_t end, i = next_run(a, from, &end);
	int r = 0;
	while (i < end) {
		r = find_in_run(a, &i, end, error);
		if (r || i < end)
			break;
		i = next_run(a, end, &end);
	}
	*page = i;
	return r;
}

static int clear_page(const struct gw__absent *a, uint64_t page, struct gw__error *error)
{
	static const uint8_t zeros[PIECE_BYTES];
	uint64_t off = a->pages_off + page * a->page_bytes;
	int r = 0;
	if (fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)a->page_bytes) == 0)
		return 0;
	for (uint64_t at = 0, n; !r && at < a->page_bytes; at += n) {
		n = gw__min(sizeof zeros, a->page_bytes - at);
		r = gw__file_write(a->fd, a->path, off + at, zeros, n, error);
	}
	return r;
}

int gw__absent_clear(const struct gw__absent *a, struct gw__error *error)
{
	uint64_t page = 0;
	int r = gw__absent_find(a, 0, &page, error);
	while (!r && page < a->present->bits) {
		r = clear_page(a, page, error);
		if (!r)
			r = gw__absent_find(a, page + 1, &page, error);
	}
	return r;
}
