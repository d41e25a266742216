/* SPDX-License-Identifier: MIT */
/*
 * The bitmaps of an image: which pages have content. By now every region is known to lie inside the file, so
 * their length is bounded by its size; and because a file of holes costs its author nothing, holes are
 * stepped over.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/math.h"
#include "image/fileio.h"
#include "image/image_load.h"

typedef unsigned long long ull;

enum { CHUNK = 65536 };

/* Where data begins at or after `at`, `end` when there is only a hole. */
static uint64_t next_data(int fd, uint64_t at, uint64_t end)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? end : at; /* a file system that does not say: all of it is data */
	return gw__min((uint64_t)data, end);
}

static int load_one(struct gw__image *image, const struct gw__block *b, struct gw__bitmap *present, struct gw__why *why)
{
	uint8_t buf[CHUNK];
	uint64_t n = gw__bitmap_wire_bytes(present->bits);
	for (uint64_t at = 0; at < n;) {
		at = gw__round_down(next_data(image->fd, b->bitmap_off + at, b->bitmap_off + n) - b->bitmap_off, 8);
		size_t step = gw__min(sizeof buf, n - at);
		int r = gw__image_read_at(image, b->bitmap_off + at, buf, step, why);
		if (r)
			return gw__why_where(why, "bitmap of block \"%s\"", b->name);
		if (!gw__bitmap_wire_get(present, at, buf, step))
			return gw__why_set(why, -EPROTO,
				"%s: the bitmap of block \"%s\" (at offset %llu) has bits behind its last "
				"page %llu; it is damaged, or "
				"a big-endian host wrote it",
				image->path, b->name, (ull)b->bitmap_off, (ull)present->bits - 1);
		at += step;
	}
	return 0;
}

int gw__image_load_bitmaps(struct gw__image *image, struct gw__why *why)
{
	uint64_t page_bytes = gw__config_page_bytes(&image->config);
	image->present = calloc(image->blocks.n, sizeof *image->present);
	if (!image->present)
		return gw__why_set(why, -ENOMEM, "no memory for %u bitmaps", image->blocks.n);
	for (uint32_t i = 0; i < image->blocks.n; i++) {
		const struct gw__block *b = &image->blocks.v[i];
		if (b->ignored)
			continue;
		if (gw__bitmap_init(&image->present[i], b->used_bytes / page_bytes))
			return gw__why_set(why, -ENOMEM, "no memory for the bitmap of block \"%s\" with %llu bytes", b->name,
				(ull)b->used_bytes);
		int r = load_one(image, b, &image->present[i], why);
		if (r)
			return r;
	}
	return 0;
}
