/* SPDX-License-Identifier: MIT */
/*
 * Some pages of a partly received guest that nobody but its source can know, to tell that from a stranger: chosen anew each time, of pages
 * with content that were received, the largest block first. See partial.h. The caller's thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/math.h"
#include "image/fileio.h"
#include "image/partial_parts.h"

enum {
	SAMPLES = 16,
	TRIES = 16 * SAMPLES,
	SAMPLE_BYTES_MAX = 16 << 20, /* all together, of which large pages take their share */
};

static uint32_t largest_block(const struct gw__blocks *blocks)
{
	uint32_t best = 0;
	for (uint32_t i = 1; i < blocks->n; i++)
		if (!blocks->v[i].ignored && (blocks->v[best].ignored || blocks->v[i].used_bytes > blocks->v[best].used_bytes))
			best = i;
	return best;
}

/* The image these bitmaps speak of; -1: it is not there, or is another. */
static int open_image(const struct gw__partial *p)
{
	uint8_t id[GW__PARTIAL_ID_BYTES];
	int fd = openat(p->dir_fd, p->image, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd >= 0 && !gw__file_read(fd, p->image, p->saved.marker_off, id, sizeof id, NULL) && !memcmp(id, p->saved.id, sizeof id))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* The page of a block, as large as the memory behind it, in which this bit is; 0 bytes: it is not all here. */
static struct gw__partial_sample around(const struct gw__partial *p, uint32_t block, const struct gw__bitmap *received, uint64_t bit)
{
	const struct gw__block *b = &p->saved.blocks.v[block];
	uint64_t bytes = gw__max(b->page_bytes, p->page_bytes), pages = bytes / p->page_bytes, first = gw__round_down(bit, pages);
	bool whole = first + pages <= received->bits && gw__bitmap_next_clear_before(received, first, first + pages) == first + pages;
	return (struct gw__partial_sample){.block = block, .off = first * p->page_bytes, .bytes = whole ? bytes : 0};
}

static bool is_known(const struct gw__partial_samples *s, const struct gw__partial_sample *one)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->v[i].block == one->block && s->v[i].off == one->off)
			return true;
	return false;
}

/* Pages that are zeros have no place in the file, or what was there before. */
static int read_content(const struct gw__partial *p, int fd, const struct gw__bitmap *present, struct gw__partial_sample *one)
{
	one->content = calloc(1, one->bytes);
	if (!one->content)
		return -ENOMEM;
	int r = 0;
	for (uint64_t at = 0; !r && at < one->bytes; at += p->page_bytes)
		if (gw__bitmap_test(present, (one->off + at) / p->page_bytes))
			r = gw__file_read(fd, p->image, p->saved.blocks.v[one->block].pages_off + one->off + at, one->content + at,
				p->page_bytes, NULL);
	return r;
}

/* The same byte everywhere can be guessed. */
static bool is_uniform(const struct gw__partial_sample *one) { return !memcmp(one->content, one->content + 1, one->bytes - 1); }

static int take_one(const struct gw__partial *p, int fd, uint32_t block, uint64_t random, struct gw__partial_samples *s)
{
	struct gw__bitmap present, received;
	gw__partial_maps(p, block, &present, &received);
	uint64_t bit = present.bits ? gw__bitmap_next_set(&present, random % present.bits) : 0;
	if (bit >= present.bits)
		return 0;
	struct gw__partial_sample one = around(p, block, &received, bit);
	if (!one.bytes || is_known(s, &one) || (s->n + 1) * one.bytes > SAMPLE_BYTES_MAX)
		return 0;
	int r = read_content(p, fd, &present, &one);
	if (!r && !is_uniform(&one))
		s->v[s->n++] = one;
	else
		free(one.content);
	return r == -ENOMEM ? r : 0;
}

int gw__partial_sample(struct gw__partial *p, struct gw__partial_samples *s, struct gw__why *why)
{
	bool fell_back;
	uint32_t largest = largest_block(&p->saved.blocks);
	*s = (struct gw__partial_samples){.v = calloc(SAMPLES, sizeof *s->v)};
	int r = s->v ? 0 : gw__why_set(why, -ENOMEM, "no memory for some pages");
	if (!r)
		r = gw__partial_load_maps(p, &fell_back, why);
	int fd = r ? -1 : open_image(p);
	for (unsigned i = 0; !r && fd >= 0 && i < TRIES && s->n < SAMPLES; i++) {
		uint64_t random;
		if (getrandom(&random, sizeof random, 0) != sizeof random)
			r = gw__why_errno(why, errno, "no random number");
		else if (take_one(p, fd, i < TRIES / 2 ? largest : (uint32_t)(random >> 32) % p->saved.blocks.n, random, s))
			r = gw__why_set(why, -ENOMEM, "no memory for some pages");
	}
	if (fd >= 0)
		close(fd);
	return r;
}

void gw__partial_samples_fini(struct gw__partial_samples *s)
{
	for (unsigned i = 0; i < s->n; i++)
		free(s->v[i].content);
	free(s->v);
	*s = (struct gw__partial_samples){0};
}
