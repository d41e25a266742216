/* SPDX-License-Identifier: MIT */
/*
 * The image room as a command, for tests that are scripts:
 *   image-tool dump IMAGE OFFSET BLOCK                 the content of a block, to stdout
 *   image-tool rewrite IMAGE OFFSET COPY COPY_OFFSET   read by the reader, written by the writer, nothing
 * left out What is odd, and why something failed, goes to stderr; status 1 then. Not the godwit command,
 * which has an engine.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/math.h"
#include "image/read/image.h"
#include "image/write/writer.h"

enum { BATCH_PAGES = 256 };

struct job {
	struct gw__image *from;
	struct gw__image_writer *to;
	uint64_t page_bytes;
	uint8_t *pages; /* BATCH_PAGES of them */
	struct gw__error error;
};

static int open_image(struct job *j, const char *path, const char *off)
{
	int r = gw__image_open(path, strtoull(off, NULL, 0), &j->from, &j->error);
	if (r)
		return r;
	for (uint32_t i = 0; i < j->from->anomaly_n; i++)
		fprintf(stderr, "odd: %s\n", j->from->anomaly[i]);
	j->page_bytes = gw__config_page_bytes(&j->from->config);
	j->pages = malloc(BATCH_PAGES * j->page_bytes);
	return j->pages ? 0 : gw__error_set(&j->error, -ENOMEM, "no memory");
}

static int dump(struct job *j, const char *name)
{
	int64_t b = gw__blocks_find(&j->from->blocks, name);
	if (b < 0 || j->from->blocks.v[b].ignored)
		return gw__error_set(&j->error, -ENOENT, "no pages of a block \"%s\"", name);
	uint64_t all = j->from->present[b].bits;
	for (uint64_t i = 0; i < all; i += BATCH_PAGES) {
		uint64_t n = gw__min(BATCH_PAGES, all - i);
		int r = gw__image_read_pages(j->from, (uint32_t)b, i, n, j->pages, &j->error);
		if (r)
			return r;
		if (fwrite(j->pages, j->page_bytes, n, stdout) != n)
			return gw__error_set(&j->error, -EIO, "cannot write to stdout");
	}
	return 0;
}

static int copy_raw(struct job *j, uint64_t off, uint64_t n)
{
	uint8_t *bytes = malloc(n + 1);
	if (!bytes)
		return gw__error_set(&j->error, -ENOMEM, "no memory");
	int r = gw__image_read_at(j->from, off, bytes, n, &j->error);
	if (!r)
		r = gw__image_put_raw(j->to, bytes, n, &j->error);
	free(bytes);
	return r;
}

static int copy_devices(struct job *j, bool before_ram, bool early)
{
	int r = 0;
	for (uint32_t i = 0; !r && i < j->from->devices_n; i++) {
		const struct gw__image_device *d = &j->from->devices[i];
		if (d->before_ram == before_ram && d->early == early)
			r = copy_raw(j, d->off, d->bytes);
	}
	return r;
}

static int copy_block(struct job *j, uint32_t b)
{
	const struct gw__bitmap *present = &j->from->present[b];
	struct iovec iov[BATCH_PAGES];
	int r = 0;
	gw__image_put_zeros(j->to, b, 0, present->bits);
	for (uint64_t i = gw__bitmap_next_set(present, 0); !r && i < present->bits;) {
		uint64_t n = gw__min(gw__bitmap_next_clear(present, i) - i, BATCH_PAGES);
		r = gw__image_read_pages(j->from, b, i, n, j->pages, &j->error);
		for (uint64_t k = 0; k < n; k++)
			iov[k] = (struct iovec){j->pages + k * j->page_bytes, j->page_bytes};
		if (!r)
			r = gw__image_put_pages(j->to, b, i * j->page_bytes, iov, (int)n, &j->error);
		i = gw__bitmap_next_set(present, i + n);
	}
	return r;
}

/* The empty PARTs of RAM, and SWITCHOVER_START. */
static int copy_rounds(struct job *j)
{
	uint8_t buf[32];
	int r = 0;
	struct gw__wr part = gw__wr_over(buf, sizeof buf);
	const struct gw__section s = {.type = GW__ITEM_PART, .id = j->from->ram_id};
	gw__section_encode(&part, &s);
	gw__wr_be64(&part, GW__RAM_EOS);
	gw__footer_encode(&part, s.id);
	for (uint32_t i = 0; !r && i < j->from->parts; i++)
		r = gw__image_put_raw(j->to, buf, gw__wr_used(&part), &j->error);
	if (r || !j->from->switchover)
		return r;
	struct gw__wr command = gw__wr_over(buf, sizeof buf);
	gw__command_encode(&command, GW__CMD_SWITCHOVER_START, NULL, 0);
	return gw__image_put_raw(j->to, buf, gw__wr_used(&command), &j->error);
}

/* Behind the last device: EOF and the description. */
static int copy_end(struct job *j)
{
	const struct gw__image_device *last = &j->from->devices[j->from->devices_n - 1];
	uint64_t off = last->off + last->bytes;
	return copy_raw(j, off, j->from->end_off - off);
}

static int rewrite(struct job *j, const char *path, const char *off)
{
	const struct gw__image_writer_opts o = {.base_off = strtoull(off, NULL, 0)};
	int r = gw__image_create(path, &o, &j->to, &j->error);
	if (!r)
		r = gw__image_put_config(j->to, &j->from->config, &j->error);
	if (!r)
		r = copy_devices(j, true, true);
	if (!r)
		r = gw__image_put_blocks(j->to, j->from->ram_id, &j->from->blocks, &j->error);
	if (!r)
		r = copy_devices(j, false, true);
	for (uint32_t b = 0; !r && b < j->from->blocks.n; b++)
		r = j->from->blocks.v[b].ignored ? 0 : copy_block(j, b);
	if (!r)
		r = copy_rounds(j);
	if (!r)
		r = gw__image_put_ram_end(j->to, &j->error);
	if (!r)
		r = copy_devices(j, false, false);
	if (!r)
		r = copy_end(j);
	return r ? r : gw__image_commit(j->to, &j->error);
}

int main(int argc, char **argv)
{
	struct job j = {0};
	bool dumps = argc == 5 && !strcmp(argv[1], "dump");
	if (!dumps && !(argc == 6 && !strcmp(argv[1], "rewrite"))) {
		fprintf(stderr, "usage: %s dump IMAGE OFFSET BLOCK | rewrite IMAGE OFFSET COPY COPY_OFFSET\n", argv[0]);
		return 2;
	}
	int r = open_image(&j, argv[2], argv[3]);
	if (!r)
		r = dumps ? dump(&j, argv[4]) : rewrite(&j, argv[4], argv[5]);
	if (r)
		fprintf(stderr, "%s\n", j.error.text);
	gw__image_writer_close(j.to);
	gw__image_close(j.from);
	free(j.pages);
	return r ? 1 : 0;
}
