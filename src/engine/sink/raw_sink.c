/* SPDX-License-Identifier: MIT */
/* The sink that writes one RAM block of an image into a plain file of its length; zeros stay holes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/sink/raw_sink.h"

struct raw_sink {
	struct gw__sink sink; /* first */
	int fd;
	const char *name;
	int64_t block; /* its index, -1 until the list came */
	uint64_t page_bytes;
};

static int note_config(struct gw__sink *sink, const struct gw__config *config, struct gw__error *error)
{
	(void)error;
	((struct raw_sink *)sink)->page_bytes = gw__config_page_bytes(config);
	return 0;
}

static int find_block(struct gw__sink *sink, uint32_t section_id, const struct gw__blocks *blocks, struct gw__error *error)
{
	struct raw_sink *s = (struct raw_sink *)sink;
	char names[256] = "";
	(void)section_id;
	s->block = gw__blocks_find(blocks, s->name);
	for (uint32_t i = 0; i < blocks->n && strlen(names) + strlen(blocks->v[i].name) + 3 < sizeof names; i++) {
		strcat(names, i ? ", " : "");
		strcat(names, blocks->v[i].name);
	}
	if (s->block < 0)
		return gw__error_set(error, -ENOENT, "there is no RAM block \"%s\"; there are: %s", s->name, names);
	if (blocks->v[s->block].ignored)
		return gw__error_set(error, -ENODATA, "RAM block \"%s\" is shared memory that was left out of this image (x-ignore-shared)",
			s->name);
	if (ftruncate(s->fd, (off_t)blocks->v[s->block].used_bytes))
		return gw__error_errno(error, errno, "cannot make the file %llu bytes long",
			(unsigned long long)blocks->v[s->block].used_bytes);
	return 0;
}

static int write_page(struct raw_sink *s, const struct iovec *page, uint64_t off, struct gw__error *error)
{
	for (size_t done = 0; done < page->iov_len;) {
		ssize_t n = pwrite(s->fd, (const char *)page->iov_base + done, page->iov_len - done, (off_t)(off + done));
		if (n < 0 && errno != EINTR)
			return gw__error_errno(error, errno, "cannot write page %llx of block \"%s\"", (unsigned long long)off, s->name);
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int put_pages(struct gw__sink *sink, uint32_t block, uint64_t off, const struct iovec *pages, int n, struct gw__error *error)
{
	struct raw_sink *s = (struct raw_sink *)sink;
	int r = 0;
	for (int i = 0; block == s->block && !r && i < n; i++)
		r = write_page(s, &pages[i], off + (uint64_t)i * s->page_bytes, error);
	return r;
}

static int read_back(struct gw__sink *sink, uint32_t block, uint64_t off, void *page, struct gw__error *error)
{
	(void)sink, (void)block, (void)off, (void)page;
	return gw__error_set(error, -EOPNOTSUPP, "a raw file is made from an image, not from a stream");
}

static void free_sink(struct gw__sink *sink) { free(sink); }

int gw__sink_raw_new(int fd, const char *block_name, struct gw__sink **sink, struct gw__error *error)
{
	/* The source is an image, which gives each page once: what is not written is a hole. */
	static const struct gw__sink_ops ops = {
		.config = note_config,
		.blocks = find_block,
		.pages = put_pages,
		.read_back = read_back,
		.free = free_sink,
	};
	struct raw_sink *s = calloc(1, sizeof *s);
	if (!s)
		return gw__error_set(error, -ENOMEM, "no memory");
	s->sink.ops = &ops;
	s->fd = fd;
	s->name = block_name;
	s->block = -1;
	*sink = &s->sink;
	return 0;
}
