/* SPDX-License-Identifier: MIT */
/* Opening, closing and reading a mapped-ram image; see image.h. What stands in it is found by image_load.c.
 */
#include "image/image.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/fileio.h"
#include "image/image_load.h"

enum { HEAD_ROOM = 8192 }; /* magic, version, configuration: at most 5.4 kB */

void gw__image_note_odd(struct gw__image *image, const char *fmt, ...)
{
	if (image->odd_n == GW__IMAGE_ODD_MAX)
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(image->odd[image->odd_n++], sizeof image->odd[0], fmt, ap);
	va_end(ap);
}

int gw__image_probe(int fd, uint64_t base_off, struct gw__why *why)
{
	uint8_t head[HEAD_ROOM];
	size_t n = 0;
	while (n < sizeof head) {
		ssize_t got = pread(fd, head + n, sizeof head - n, (off_t)(base_off + n));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return gw__why_errno(why, errno, "cannot read the head of the file");
		if (got == 0)
			break;
		n += (size_t)got;
	}
	struct gw__config config;
	struct gw__rd c = gw__rd_over(head, n);
	int r = gw__header_decode(&c, why);
	if (!r)
		r = gw__config_decode(&c, &config, why);
	if (r == GW__SHORT)
		return gw__why_set(why, -EPROTO, "the file ends inside the head of a migration stream (%zu bytes)", n);
	return r ? r : config.mapped_ram;
}

int gw__image_open(const char *path, uint64_t base_off, struct gw__image **image, struct gw__why *why)
{
	*image = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not make us wait for its writer */
	if (fd < 0)
		return gw__why_errno(why, errno, "cannot open %s", path);
	return gw__image_open_fd(fd, path, base_off, image, why);
}

static int check_file(struct gw__image *image, struct gw__why *why)
{
	struct stat st;
	if (fstat(image->fd, &st))
		return gw__why_errno(why, errno, "cannot look at %s", image->path);
	off_t bytes = S_ISBLK(st.st_mode) ? lseek(image->fd, 0, SEEK_END) : st.st_size;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return gw__why_set(why, -EINVAL, "%s is neither a file nor a block device, so it cannot hold a mapped-ram image",
			image->path);
	if (bytes < 0)
		return gw__why_errno(why, errno, "cannot find out the size of %s", image->path);
	image->file_bytes = (uint64_t)bytes;
	if (image->base_off >= image->file_bytes)
		return gw__why_set(why, -EPROTO, "%s has %llu bytes, so no image can begin at offset %llu", image->path,
			(unsigned long long)image->file_bytes, (unsigned long long)image->base_off);
	return 0;
}

int gw__image_open_fd(int fd, const char *path, uint64_t base_off, struct gw__image **image, struct gw__why *why)
{
	*image = NULL;
	struct gw__image *im = calloc(1, sizeof *im);
	if (!im) {
		close(fd);
		return gw__why_set(why, -ENOMEM, "no memory to open %s", path);
	}
	im->fd = fd;
	im->base_off = base_off;
	snprintf(im->path, sizeof im->path, "%s", path);
	int r = check_file(im, why);
	if (!r)
		r = gw__image_load(im, why);
	if (r) {
		gw__image_close(im);
		return r;
	}
	*image = im;
	return 0;
}

void gw__image_close(struct gw__image *image)
{
	if (!image)
		return;
	for (uint32_t i = 0; image->present && i < image->blocks.n; i++)
		gw__bitmap_fini(&image->present[i]);
	free(image->present);
	gw__blocks_fini(&image->blocks);
	free(image->devices);
	gw__vmdesc_free(image->desc);
	close(image->fd);
	free(image);
}

int gw__image_read_at(const struct gw__image *image, uint64_t off, void *to, size_t n, struct gw__why *why)
{
	return gw__file_read(image->fd, image->path, off, to, n, why);
}

static uint64_t page_off(const struct gw__image *image, uint32_t block, uint64_t page)
{
	return image->blocks.v[block].pages_off + (page << image->config.page_bits);
}

int gw__image_read_pages(const struct gw__image *image, uint32_t block, uint64_t first, uint64_t n, void *to, struct gw__why *why)
{
	assert(block < image->blocks.n && !image->blocks.v[block].ignored);
	const struct gw__bitmap *present = &image->present[block];
	assert(first <= present->bits && n <= present->bits - first);
	uint64_t page_bytes = gw__config_page_bytes(&image->config), end = first + n;
	uint8_t *p = to;
	for (uint64_t i = first; i < end;) {
		bool there = gw__bitmap_test(present, i);
		uint64_t next = there ? gw__bitmap_next_clear_before(present, i, end) : gw__bitmap_next_set_before(present, i, end);
		size_t bytes = (next - i) * page_bytes;
		if (!there)
			memset(p, 0, bytes);
		int r = there ? gw__image_read_at(image, page_off(image, block, i), p, bytes, why) : 0;
		if (r)
			return gw__why_where(why, "block \"%s\"", image->blocks.v[block].name);
		p += bytes;
		i = next;
	}
	return 0;
}

int gw__image_read_pages_now(const struct gw__image *image, uint32_t block, uint64_t first, uint64_t n, void *to)
{
	return gw__file_read_now(image->fd, page_off(image, block, first), to, n << image->config.page_bits);
}

void gw__image_ahead(const struct gw__image *image, uint32_t block, uint64_t first, uint64_t n)
{
	posix_fadvise(image->fd, (off_t)page_off(image, block, first), (off_t)(n << image->config.page_bits), POSIX_FADV_WILLNEED);
}
